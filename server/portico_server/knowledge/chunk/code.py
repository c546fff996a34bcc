"""Source code and data: whole lines, definitions kept together where they fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.knowledge.chunk.sentence import pieces
from portico_server.knowledge.chunk.spans import Span, carve, pack, width
from portico_server.knowledge.part import Part

# An empty line, and behind it a line that is not indented: where a new definition begins in most languages.
_TOP = re.compile(r"\n[ \t]*\n(?=[^\s)}\]])")


def lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Spans of lines, each with its line break."""
    while start < end:
        found = text.find("\n", start, end)
        stop = end if found < 0 else found + 1
        yield start, stop
        start = stop


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Definitions packed up to ``size`` columns, wider ones by lines. Nothing overlaps between definitions."""
    chunks: list[Part] = []
    for part in parts:
        text = part.text
        whole: list[Span] = []
        spans: list[Span] = []
        for unit in _definitions(text):
            if width(text[unit[0] : unit[1]]) <= size:
                whole.append(unit)
                continue
            spans.extend(pack(text, whole, size, 0))
            whole = []
            spans.extend(pack(text, pieces(text, lines(text, *unit), size), size, overlap))
        spans.extend(pack(text, whole, size, 0))
        chunks.extend(carve(part, spans, indented=True))
    return chunks


def _definitions(text: str) -> Iterator[Span]:
    begin = 0
    for match in _TOP.finditer(text):
        yield begin, match.end()
        begin = match.end()
    if begin < len(text):
        yield begin, len(text)
