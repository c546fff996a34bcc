"""Passages for those who read them outside the daemon: as text for a model, as JSON with its schema for a
program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final, get_args

from portico.wire import AnswerClaim, ClaimReason, Passage

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
        "quote": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "Start and end in its text of the sentence that the answer quotes.",
        },
    },
    "required": ["rank", "score", "text", "file_id", "filename", "place"],
}
"""The JSON schema of `to_json`'s objects."""


def to_json(records: Iterable[Passage | AnswerClaim]) -> list[dict[str, Any]]:
    """Each passage or claim as a JSON object."""
    return [asdict(record) for record in records]


def where(passage: Passage) -> dict[str, Any]:
    """Where a passage stands, for OpenAI's protocol adapters: what its format has of it, offsets, and a label for
    people.
    """
    place = passage.place
    place_fields = {name: value for name, value in asdict(place).items() if value not in (None, ())}
    heading = {"heading": list(place.heading)} if place.heading else {}
    return {**place_fields, **heading, "label": place.label()}


CLAIM_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "A sentence of the answer, from character 'start' to 'end' of it, and what supports it.",
    "properties": {
        "start": {"type": "integer"},
        "end": {"type": "integer"},
        "supported": {"type": "boolean"},
        "reason": {"enum": [*get_args(ClaimReason)], "description": "Why it is not supported."},
        "evidence": {
            "type": "array",
            "items": {
                "type": "object",
                "description": "From character 'start' to 'end' of the passage with this rank.",
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
        "removed": {"type": "boolean", "description": "Whether it was taken out of the answer."},
    },
    "required": ["start", "end", "supported", "reason", "evidence", "removed"],
}
"""The JSON schema of a claim as `to_json` makes it."""


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
