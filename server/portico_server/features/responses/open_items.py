"""The items that a model is still writing in a response: a message, its reasoning, and calls of client functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import orjson

from portico.wire import AnswerClaim
from portico_server.core.passage import to_json
from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.items import Item

Event: TypeAlias = dict[str, Any]
"""One event of the stream as OpenAI defines it."""

Annotate: TypeAlias = Callable[[str], list[dict[str, Any]]]
"""A function that returns the annotations of a text."""


class ItemEvents(Protocol):
    """Stores the items of a response and numbers its events. Implemented by `EventBuilder`."""

    number: int
    output: list[Item]
    mint: ItemIds

    def add(self, item: Item) -> tuple[int, list[Event]]:
        """Start an item; return its index and the event that announces it."""

    def tell(self, index: int, kind: str, **event_fields: Any) -> Event:
        """Return an event about a started item."""

    def finish(self, index: int, **changes: Any) -> Event:
        """Finish an item."""


class OpenMessage:
    """A message: the text of an answer, or of a refusal. ``annotate`` returns its annotations when the text is
    complete.
    """

    def __init__(self, items: ItemEvents, annotate: Annotate, *, refusing: bool) -> None:
        self.refusing = refusing
        self._items = items
        self._annotate = annotate
        self._id = items.mint("msg_")
        self._index = 0
        self._pieces: list[str] = []
        self._notes: list[dict[str, Any]] = []
        self._claims: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []

    def begin(self) -> list[Event]:
        """Return the events that open the message."""
        item = {"id": self._id, "type": "message", "status": "in_progress", "role": "assistant"}
        self._index, events = self._items.add({**item, "content": []})
        return [*events, self._tell("response.content_part.added", part=self._part(""))]

    def text(self, piece: str, logprobs: list[dict[str, Any]] | None = None) -> Event:
        """Add a piece of the answer."""
        self._pieces.append(piece)
        if logprobs:
            self._logprobs += logprobs
        self._items.number += 1
        return {  # like `ItemEvents.tell`, but faster: every token takes this path
            "type": "response.output_text.delta",
            "sequence_number": self._items.number - 1,
            "item_id": self._id,
            "output_index": self._index,
            "content_index": 0,
            "delta": piece,
            "logprobs": logprobs or [],
        }

    def claim(self, claim: AnswerClaim) -> list[Event]:
        """Record the result of checking a sentence in the current text.

        The evidence becomes citations, and the complete claim becomes an entry of the ``claims`` field in a delta
        without text, because clients skip unknown fields but not unknown events.
        """
        delta = self.text("")
        [claim_document] = to_json([claim])
        self._claims.append(claim_document)
        notes = [
            {
                "type": "file_citation",
                "index": claim.end,
                "file_id": passage.file_id,
                "filename": passage.filename,
            }
            for passage in claim.evidence
        ]
        return [{**delta, "claims": [claim_document]}, *self._add_notes(notes)]

    def refusal(self, piece: str) -> Event:
        """Add a piece of the model's refusal."""
        self._pieces.append(piece)
        return self._tell("response.refusal.delta", delta=piece)

    def close(self, status: str) -> list[Event]:
        """Return the events that complete the message."""
        text = "".join(self._pieces)
        events = [] if self.refusing else self._add_notes(self._annotate(text))
        part = self._part(text)
        if self.refusing:
            events.append(self._tell("response.refusal.done", refusal=text))
        else:
            logprobs = part["logprobs"]
            events.append(self._tell("response.output_text.done", text=text, logprobs=logprobs))
        events.append(self._tell("response.content_part.done", part=part))
        events.append(self._items.finish(self._index, content=[part], status=status or "completed"))
        return events

    def _tell(self, kind: str, **event_fields: Any) -> Event:
        return self._items.tell(self._index, kind, content_index=0, **event_fields)

    def _part(self, text: str) -> dict[str, Any]:
        """Return the message as a content part. ``claims``, an addition to OpenAI's format, is set only if sentences
        were checked.
        """
        if self.refusing:
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "text": text,
            "annotations": list(self._notes),
            "logprobs": list(self._logprobs),
            **({"claims": list(self._claims)} if self._claims else {}),
        }

    def _add_notes(self, notes: Sequence[dict[str, Any]]) -> list[Event]:
        first = len(self._notes)
        self._notes += notes
        return [
            self._tell("response.output_text.annotation.added", annotation_index=number, annotation=note)
            for number, note in enumerate(notes, first)
        ]


class OpenThought:
    """The reasoning of the model before its answer."""

    def __init__(self, items: ItemEvents) -> None:
        self._items = items
        self._index = 0
        self._pieces: list[str] = []

    def begin(self) -> list[Event]:
        """Return the events that open the reasoning."""
        item = {"id": self._items.mint("rs_"), "type": "reasoning", "summary": [], "content": []}
        self._index, events = self._items.add({**item, "status": "in_progress"})
        part = {"type": "reasoning_text", "text": ""}
        return [*events, self._tell("response.content_part.added", part=part)]

    def text(self, piece: str) -> Event:
        """Add a piece of the reasoning."""
        self._pieces.append(piece)
        return self._tell("response.reasoning_text.delta", delta=piece)

    def close(self, status: str) -> list[Event]:
        """Return the events that complete the reasoning."""
        text = "".join(self._pieces)
        part = {"type": "reasoning_text", "text": text}
        return [
            self._tell("response.reasoning_text.done", text=text),
            self._tell("response.content_part.done", part=part),
            self._items.finish(self._index, content=[part], status=status or "completed"),
        ]

    def _tell(self, kind: str, **event_fields: Any) -> Event:
        return self._items.tell(self._index, kind, content_index=0, **event_fields)


class OpenCalls:
    """Calls of client functions. Pieces of several calls may be interleaved, so each call has a key."""

    def __init__(self, items: ItemEvents) -> None:
        self._items = items
        self._places: dict[int, int] = {}
        self._arguments: dict[int, list[str]] = {}

    def begin(self, key: int, call_id: str, name: str, namespace: str) -> list[Event]:
        """Return the events that open a call."""
        item: Item = {"id": self._items.mint("fc_"), "type": "function_call", "status": "in_progress"}
        if namespace:
            item["namespace"] = namespace
        call_item = {**item, "call_id": call_id, "name": name, "arguments": ""}
        self._places[key], events = self._items.add(call_item)
        self._arguments[key] = []
        return events

    def arguments(self, key: int, piece: str) -> Event:
        """Add a piece of the arguments of a call."""
        self._arguments[key].append(piece)
        return self._items.tell(self._places[key], "response.function_call_arguments.delta", delta=piece)

    def close(self, status: str) -> list[Event]:
        """Return the events that complete all open calls."""
        events: list[Event] = []
        for key, index in self._places.items():
            arguments = "".join(self._arguments[key])
            name = self._items.output[index]["name"]
            kind = "response.function_call_arguments.done"
            events += [
                self._items.tell(index, kind, arguments=arguments, name=name),
                self._items.finish(index, arguments=arguments, status=status or _status_of(arguments)),
            ]
        return events


def _status_of(arguments: str) -> str:
    """Return whether the arguments of a call are complete, as the status of a call that is closed before the chat
    ends.
    """
    try:
        orjson.loads(arguments)
    except ValueError:
        return "incomplete"
    return "completed"
