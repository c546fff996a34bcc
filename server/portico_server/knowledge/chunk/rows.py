"""Rows of a table: the first line of a part is the header, repeated above every chunk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from portico_server.knowledge.chunk.spans import Span, carve, cut, pack, width
from portico_server.knowledge.chunk.units import lines
from portico_server.knowledge.part import Part

_RANGE = re.compile(r"([A-Z]+)\d+:([A-Z]+)\d+")


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Groups of rows up to ``size`` columns, header included. Rows do not overlap: each stands for itself."""
    del overlap
    chunks: list[Part] = []
    for part in parts:
        if width(part.text) <= size:
            chunks.extend([part] if part.text.strip() else [])
        else:
            chunks.extend(divide(part, size, together=True))
    return chunks


def divide(part: Part, size: int, *, together: bool) -> list[Part]:
    """The rows of a part under its header, as many ``together`` as fit or each by itself, with row and cells."""
    header, _, body = part.text.partition("\n")
    if width(header) > size // 2 or not header.strip() or not body.strip():
        header = ""  # too wide to be repeated: then it is a row like any other
    first = len(header) + 1 if header else 0
    room = size - width(header) - 1 if header else size
    rows = list(lines(part.text, first, len(part.text)))
    pieces = (piece for row in rows for piece in cut(part.text, row, room))
    found: list[Span] = pack(part.text, pieces, room, 0) if together else list(pieces)
    if header and found:
        found[0] = (0, found[0][1])
    chunks = []
    start, above, counted = part.place.start, 0, first
    for item in carve(part, found, above=header):
        begin, end = max(first, item.place.start - start), item.place.end - start
        above += part.text.count("\n", counted, begin)
        counted = begin
        last = above + part.text.count("\n", begin, end)
        place = item.place
        if place.row is not None:
            top = place.row + above
            cells = _RANGE.fullmatch(place.cell or "")
            cell = f"{cells[1]}{top}:{cells[2]}{place.row + last}" if cells else place.cell
            place = replace(place, row=top, cell=cell)
        chunks.append(Part(item.text, place))
    return chunks
