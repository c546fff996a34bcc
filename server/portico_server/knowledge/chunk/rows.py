"""Rows of a table: the first line of a part is the header, repeated above every chunk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from portico_server.knowledge.chunk.code import lines
from portico_server.knowledge.chunk.spans import cut, pack, width
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Groups of rows up to ``size`` columns, header included. Rows do not overlap: each stands for itself."""
    del overlap
    chunks: list[Part] = []
    for part in parts:
        if width(part.text) <= size:
            chunks.append(part)
            continue
        header, _, body = part.text.partition("\n")
        room = max(size // 2, size - width(header))
        spans = list(lines(body, 0, len(body)))
        first = part.place.row or 1
        numbers = {start: first + i for i, (start, _end) in enumerate(spans)}
        for start, end in pack(body, (piece for span in spans for piece in cut(body, span, room)), room, 0):
            row = max((number for at, number in numbers.items() if at <= start), default=first)
            begin = part.place.start + len(header) + 1 + start
            text = f"{header}\n{body[start:end].rstrip()}" if body else header
            chunks.append(Part(text, replace(part.place, row=row, start=begin, end=begin + end - start)))
    return chunks
