"""Passages for those who read them outside the daemon: as text for a model, as JSON with its schema for a
program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from portico.wire import Passage

PASSAGE_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "rank": {"type": "integer", "description": "Its number, from 1; citations such as [1] mean it."},
        "score": {"type": "number", "description": "From 0 to 1, higher is better."},
        "text": {"type": "string"},
        "file_id": {"type": "string"},
        "filename": {"type": "string"},
        "place": {
            "type": "object",
            "description": "Where in the file: page, line, row, sheet and cells, seconds, symbol, headings, offsets.",
        },
        "store": {"type": "string"},
        "attributes": {"type": "object"},
    },
    "required": ["rank", "score", "text", "file_id", "filename", "place"],
}
"""The JSON schema of `to_json`'s objects."""


def to_json(passages: Iterable[Passage]) -> list[dict[str, Any]]:
    """Each passage as a JSON object."""
    return [asdict(passage) for passage in passages]


def where(passage: Passage) -> dict[str, Any]:
    """Where a passage stands, for OpenAI's faces: what its format has of it, offsets, and a label for people."""
    place = passage.place
    known = {name: value for name, value in asdict(place).items() if value not in (None, ())}
    heading = {"heading": list(place.heading)} if place.heading else {}
    return {**known, **heading, "label": place.label()}


def to_text(passages: Iterable[Passage]) -> str:
    """Each passage under its number, file and place; an empty string if there is none."""
    return "\n\n".join(
        f"[{passage.rank}] {origin(passage)} (score {passage.score:.2f})\n{passage.text}"
        for passage in passages
    )


def origin(passage: Passage) -> str:
    """File and place, such as ``guide.md, line 12 · Install``."""
    label = passage.place.label()
    return f"{passage.filename}, {label}" if label else passage.filename
