"""Tables in running text: a Markdown table that is too wide goes by groups of rows, its header above each."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.knowledge.chunk.markdown import blocks
from portico_server.knowledge.chunk.spans import Span, carve, cut, pack, width
from portico_server.knowledge.chunk.units import lines
from portico_server.knowledge.part import Part

_TABLE = re.compile(
    r"^(?P<head>[^\n]*\|[^\n]*\n[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\n)"
    r"(?P<rows>(?:[^\n]*\|[^\n]*(?:\n|\Z))+)",
    re.M,
)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Text as by ``markdown``; of a table no chunk is without its header, unless that is wider than half a chunk."""
    chunks: list[Part] = []
    for part in parts:
        text = part.text
        at = 0
        for match in _TABLE.finditer(text):
            if width(match.group()) <= size or width(match["head"]) > size // 2:
                continue
            chunks.extend(_prose(part, (at, match.start()), size, overlap))
            chunks.extend(_rows(part, match, size))
            at = match.end()
        chunks.extend(_prose(part, (at, len(text)), size, overlap))
    return chunks


def _prose(part: Part, span: Span, size: int, overlap: int) -> list[Part]:
    start, end = span
    text = part.text[start:end]
    found = pack(text, blocks(text, size), size, overlap)
    return carve(part, ((start + a, start + b) for a, b in found), indented=True)


def _rows(part: Part, match: re.Match[str], size: int) -> list[Part]:
    text = part.text
    head = match["head"].strip("\n")
    room = size - width(head) - 1
    units = (piece for row in lines(text, *match.span("rows")) for piece in cut(text, row, room))
    groups = pack(text, units, room, 0)
    groups[0] = (match.start(), groups[0][1])
    chunks = carve(part, groups[:1])
    return [*chunks, *carve(part, groups[1:], above=head)]
