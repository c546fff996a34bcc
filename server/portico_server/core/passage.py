"""Passages for readers outside the daemon: as text for models, and as JSON with a schema for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final, get_args

from portico.wire import AnswerClaim, ClaimReason, Passage

PASSAGE_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "rank": {"type": "integer", "description": "Its number, from 1; citations such as [1] refer to it."},
        "score": {"type": "number", "description": "From 0 to 1, higher is better."},
        "text": {"type": "string"},
        "file_id": {"type": "string"},
        "filename": {"type": "string"},
        "place": {
            "type": "object",
            "description": "Position in the file: page, line, row, sheet, cells, seconds, symbol, headings, offsets.",
        },
        "store": {"type": "string"},
        "attributes": {"type": "object"},
        "quote": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "Start and end, in its text, of the sentence that the answer quotes.",
        },
    },
    "required": ["rank", "score", "text", "file_id", "filename", "place"],
}
"""The JSON schema of the objects that `to_json` returns."""


def to_json(records: Iterable[Passage | AnswerClaim]) -> list[dict[str, Any]]:
    """Return each passage or claim as a JSON object."""
    return [asdict(record) for record in records]


def location_of(passage: Passage) -> dict[str, Any]:
    """Return the position of a passage for OpenAI's protocol adapters: the position in the file's format, offsets, and
    a label for people.
    """
    place = passage.place
    place_fields = {name: value for name, value in asdict(place).items() if value not in (None, ())}
    heading = {"heading": list(place.heading)} if place.heading else {}
    return {**place_fields, **heading, "label": place.label()}


CLAIM_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "A sentence of the answer, from character 'start' to 'end', and its evidence.",
    "properties": {
        "start": {"type": "integer"},
        "end": {"type": "integer"},
        "supported": {"type": "boolean"},
        "reason": {"enum": [*get_args(ClaimReason)], "description": "Why the sentence is not supported."},
        "evidence": {
            "type": "array",
            "items": {
                "type": "object",
                "description": "Characters 'start' to 'end' of the passage with this rank.",
                "properties": {
                    **{
                        name: PASSAGE_SCHEMA["properties"][name]
                        for name in ("rank", "file_id", "filename", "place")
                    },
                    "quote": {"type": "string"},
                    "start": {"type": "integer"},
                    "end": {"type": "integer"},
                },
                "required": ["rank", "file_id", "filename", "place", "quote", "start", "end"],
            },
        },
        "removed": {"type": "boolean", "description": "Whether the sentence was removed from the answer."},
    },
    "required": ["start", "end", "supported", "reason", "evidence", "removed"],
}
"""The JSON schema of a claim as `to_json` returns it."""


def to_text(passages: Iterable[Passage]) -> str:
    """Return the passages as text, each with its number, file and position; an empty string if there are no
    passages.
    """
    return "\n\n".join(
        f"[{passage.rank}] {origin(passage)} (score {passage.score:.2f})\n{passage.text}"
        for passage in passages
    )


def origin(passage: Passage) -> str:
    """Return the file and position of a passage, such as ``guide.md, line 12 · Install``."""
    label = passage.place.label()
    return f"{passage.filename}, {label}" if label else passage.filename
