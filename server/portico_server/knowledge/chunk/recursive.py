"""Recursive: cut at the coarsest mark that makes the pieces fit (empty lines, lines, sentences, commas, spaces)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.knowledge.chunk.sentence import sentences
from portico_server.knowledge.chunk.spans import Span, carve, cut, pack, width
from portico_server.knowledge.part import Part

_MARKS = (
    re.compile(r"\n[ \t]*\n[ \t]*\n\s*"),
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    None,  # sentences
    re.compile(r"[，、,;:：]\s*"),
    re.compile(r"\s+"),
)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pieces at most ``size`` columns wide, neighbours put together again up to that."""
    chunks: list[Part] = []
    for part in parts:
        units = _pieces(part.text, (0, len(part.text)), size, 0)
        chunks.extend(carve(part, pack(part.text, units, size, overlap)))
    return chunks


def _pieces(text: str, span: Span, size: int, level: int) -> Iterator[Span]:
    if width(text[span[0] : span[1]]) <= size:
        yield span
    elif level == len(_MARKS):
        yield from cut(text, span, size)
    else:
        for piece in _split(text, span, level):
            yield from _pieces(text, piece, size, level + 1)


def _split(text: str, span: Span, level: int) -> Iterator[Span]:
    mark = _MARKS[level]
    if mark is None:
        yield from sentences(text, *span)
        return
    begin, end = span
    for match in mark.finditer(text, begin, end):
        if match.end() > begin:
            yield begin, match.end()
            begin = match.end()
    if begin < end:
        yield begin, end
