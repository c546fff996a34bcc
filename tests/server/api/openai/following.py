"""Checks a response stream against the rules that every client relies on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from openai.types.responses import Response


def followed(stream: Iterable[Any]) -> tuple[list[Any], Response]:
    """Return the events and the last response of a stream.

    Numbers have no gaps, items have one counter, ids are created once, and snapshots are complete.
    """
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    final: Response = events[-1].response
    added_events = [event for event in events if event.type == "response.output_item.added"]
    done_events = [event for event in events if event.type == "response.output_item.done"]
    assert [event.output_index for event in added_events] == list(range(len(final.output)))
    by_index = {event.output_index: event.item for event in done_events}
    assert [by_index[number] for number in range(len(final.output))] == final.output
    ids = {event.output_index: event.item.id for event in added_events}
    for event in events:
        if hasattr(event, "item_id"):
            assert event.item_id == ids[event.output_index]
    return events, final
