"""Markdown: paragraphs, lists, tables and code blocks stay whole where they fit; short sections join what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from portico_server.knowledge.chunk.sentence import pieces, sentences
from portico_server.knowledge.chunk.spans import Span, around_tables, carve, pack, width
from portico_server.knowledge.chunk.units import lines
from portico_server.knowledge.part import Part

SHORT = 200
"""Columns below which a section is joined with the one that follows, if that lies next to it or deeper."""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.M)
_GAP = re.compile(r"\n[ \t]*\n\s*")


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Blocks packed up to ``size`` columns; wider ones are cut: prose by sentences, code by lines, tables by rows."""
    chunks: list[Part] = []
    for part in joined(parts, size):
        chunks.extend(divide(part, size, overlap))
    return chunks


def divide(part: Part, size: int, overlap: int) -> list[Part]:
    """The blocks of a part; each piece of a table that is cut has its header."""

    def prose(part: Part, span: Span) -> list[Part]:
        start, end = span
        text = part.text[start:end]
        found = pack(text, blocks(text, size), size, overlap)
        return carve(part, ((start + a, start + b) for a, b in found), indented=True)

    return around_tables(part, size, prose, ruled=True)


def joined(parts: Iterable[Part], size: int) -> Iterator[Part]:
    """Sections that are too short to be found by themselves with the next one, under the headings they share."""
    held: Part | None = None
    for part in parts:
        if held is None:
            held = part
        elif _joins(held, part, size):
            alone = "\n" not in held.text.strip() and bool(held.place.heading)
            # A title alone above its first section is part of that; otherwise the passage is about both.
            heading = part.place.heading if alone else _shared(held.place.heading, part.place.heading)
            held = Part(held.text + part.text, replace(held.place, heading=heading, end=part.place.end))
        else:
            yield held
            held = part
    if held is not None:
        yield held


def _joins(held: Part, part: Part, size: int) -> bool:
    if held.place.end != part.place.start or width(held.text) >= SHORT:
        return False
    above, below = held.place.heading, part.place.heading
    if below[: len(above)] == above:
        return True  # a short beginning of the section that it opens
    beside = len(below) == len(above) and below[:-1] == above[:-1]
    return beside and width(held.text) + width(part.text) <= size


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    shared = []
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        shared.append(a)
    return tuple(shared)


def blocks(text: str, size: int) -> Iterator[Span]:
    """Blocks between empty lines, code fences whole."""
    at = 0
    while (opened := _FENCE.search(text, at)) is not None:
        yield from _prose(text, at, opened.start(), size)
        mark = opened.group(1)
        closing = re.compile(rf"^ {{0,3}}{re.escape(mark[0])}{{{len(mark)},}}[ \t]*$\n?", re.M)
        closed = closing.search(text, text.find("\n", opened.end()) + 1 or len(text))
        end = closed.end() if closed else len(text)
        if width(text[opened.start() : end]) > size:
            yield from pieces(text, lines(text, opened.start(), end), size)
        else:
            yield opened.start(), end
        at = end
    yield from _prose(text, at, len(text), size)


def _prose(text: str, start: int, end: int, size: int) -> Iterator[Span]:
    begin = start
    ends = [match.end() for match in _GAP.finditer(text, start, end)]
    for stop in [*ends, end]:
        if stop <= begin:
            continue
        if width(text[begin:stop]) <= size:
            yield begin, stop
        elif text[begin:stop].lstrip().startswith(("|", "- ", "* ", "+ ", "1.")):
            yield from pieces(text, lines(text, begin, stop), size)
        else:
            yield from pieces(text, sentences(text, begin, stop), size)
        begin = stop
