"""Passages for those who read them outside the daemon: as text for a model, as JSON with its schema for a
program.
"""

from __future__ import annotations

import re
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


def to_json(found: Iterable[Passage | AnswerClaim]) -> list[dict[str, Any]]:
    """Each passage or claim as a JSON object."""
    return [asdict(one) for one in found]


def where(passage: Passage) -> dict[str, Any]:
    """Where a passage stands, for OpenAI's protocol adapters: what its format has of it, offsets, and a label for
    people.
    """
    place = passage.place
    known = {name: value for name, value in asdict(place).items() if value not in (None, ())}
    heading = {"heading": list(place.heading)} if place.heading else {}
    return {**known, **heading, "label": place.label()}


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


# The numbers in brackets by which an answer points at its passages.


MARK_PATTERN: Final = r"[\[【]\s*\d{1,3}(?:\s*[,，、;]\s*\d{1,3})*\s*[\]】]"
"""The regular expression of a mark such as ``[2]`` or ``[1, 3]``, by which an answer points at passages."""

_MARK = re.compile(rf"[ \t]?{MARK_PATTERN}")
_OPEN = re.compile(r"(?:[ \t]?[\[【][\d\s,，、;]{0,40}|[ \t])$")
_NUMBER = re.compile(r"\d+")


def cited(answer: str, count: int) -> tuple[int, ...]:
    """The numbers of the passages that ``answer`` points at, each once, in ascending order, from 1 to
    ``count``.
    """
    numbers = {int(n) for mark in _MARK.findall(answer) for n in _NUMBER.findall(mark)}
    return tuple(sorted(n for n in numbers if 1 <= n <= count))


def marks(answer: str) -> list[tuple[int, tuple[int, ...]]]:
    """Where marks begin in ``answer``, outside of code, and the numbers in each."""
    found: list[tuple[int, tuple[int, ...]]] = []
    start = 0
    for place, piece in enumerate(answer.split("`")):
        if place % 2 == 0:
            for match in _MARK.finditer(piece):
                bracket = match.start() + (match.group()[0] in " \t")
                found.append((start + bracket, tuple(int(n) for n in _NUMBER.findall(match.group()))))
        start += len(piece) + 1
    return found


class Citations:
    """A filter over a streamed answer that takes out marks such as ``[9]`` where there are only ``count``
    passages.

    Text inside backticks is code and passes untouched. Text is held back only while it may still become a
    mark.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held = ""
        self._code = False

    def feed(self, text: str) -> str:
        """What of the text so far can be shown."""
        text = self._held + text
        tail = _OPEN.search(text)
        cut = tail.start() if tail else len(text)
        self._held = text[cut:]
        return self._clean(text[:cut])

    def close(self) -> str:
        """The rest, when nothing more comes."""
        text, self._held = self._held, ""
        return self._clean(text)

    def _clean(self, text: str) -> str:
        pieces = text.split("`")
        for index, piece in enumerate(pieces):
            if index:
                self._code = not self._code
            if not self._code:
                pieces[index] = _MARK.sub(self._mark, piece)
        return "`".join(pieces)

    def _mark(self, match: re.Match[str]) -> str:
        mark = match.group()
        numbers = [int(n) for n in _NUMBER.findall(mark)]
        known = [n for n in numbers if 1 <= n <= self._count]
        if known == numbers:
            return mark
        if not known:
            return ""
        space = mark[0] if mark[0] in " \t" else ""
        return f"{space}[{', '.join(map(str, known))}]"
