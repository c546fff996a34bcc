"""Fixed: windows exactly as wide as asked for, cut anywhere but inside a character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from portico_server.knowledge.chunk.spans import Span, carve, inside_grapheme, reach
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Windows of ``size`` columns, each beginning ``overlap`` columns before the end of the one before it."""
    chunks: list[Part] = []
    for part in parts:
        chunks.extend(carve(part, _windows(part.text, size, overlap)))
    return chunks


def _windows(text: str, size: int, overlap: int) -> Iterator[Span]:
    start, length = 0, len(text)
    while start < length:
        end = reach(text, start, length, size)
        while end > start + 1 and inside_grapheme(text, end):
            end -= 1
        if end == start + 1:  # one grapheme wider than a chunk: it stays whole
            while end < length and inside_grapheme(text, end):
                end += 1
        yield start, end
        if end >= length:
            return
        back = reach(text, end, length, overlap) - end if overlap else 0
        following = max(start + 1, end - back)
        while following < end and inside_grapheme(text, following):
            following += 1
        start = following
