"""Chunkers that are defined by where their units begin, such as clauses, turns, log entries and paragraphs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sentences import cut_wide, sentences
from portico_server.features.chunkers.spans import Span, carve, pack, width

Split: TypeAlias = Callable[[str], Iterable[Span]]
"""Splits a text into units: consecutive spans that cover the text."""

Within: TypeAlias = Callable[[str, int, int], Iterable[Span]]
"""Splits a span that is wider than a chunk into smaller units."""


def units_from(text: str, starts: Iterable[int]) -> Iterator[Span]:
    """Yield units that begin at ``starts`` (in ascending order). The text before the first start is also a unit."""
    begin = 0
    for start in starts:
        if start > begin:
            yield begin, start
            begin = start
    if begin < len(text):
        yield begin, len(text)


def split_lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the spans of lines, each including its line break."""
    while start < end:
        newline = text.find("\n", start, end)
        stop = end if newline < 0 else newline + 1
        yield start, stop
        start = stop


def pack_units(
    text: str, split: Split, size: int, overlap: int, *, within: Within = sentences, together: bool = True
) -> list[Span]:
    """Return the units of a text, of up to ``size`` columns each. ``together`` packs several units into one span, and
    ``within`` splits wider units.
    """
    found_spans: list[Span] = []
    spans: list[Span] = []
    for unit in split(text):
        if width(text[unit[0] : unit[1]]) <= size:
            if together:
                spans.append(unit)
            else:
                found_spans.append(unit)
            continue
        found_spans.extend(pack(text, spans, size, overlap))
        spans = []
        found_spans.extend(pack(text, cut_wide(text, within(text, *unit), size), size, overlap))
    found_spans.extend(pack(text, spans, size, overlap))
    return found_spans


def chunk_units(
    parts: Iterable[Part],
    split: Split,
    size: int,
    overlap: int,
    *,
    within: Within = sentences,
    together: bool = True,
    is_indented: bool = False,
) -> list[Part]:
    """Return the units of every part as chunks, split and packed by `pack_units`."""
    chunks: list[Part] = []
    for part in parts:
        spans = pack_units(part.text, split, size, overlap, within=within, together=together)
        chunks.extend(carve(part, spans, is_indented=is_indented))
    return chunks


def add_headings(chunks: Iterable[Part], title: Callable[[str], str]) -> list[Part]:
    """Return the chunks, each with its title as the innermost heading. ``title`` returns the title in a chunk's text,
    or "".
    """
    parts = []
    for chunk in chunks:
        name = title(chunk.text)
        place = replace(chunk.place, heading=(*chunk.place.heading, name)) if name else chunk.place
        parts.append(Part(chunk.text, place))
    return parts


def group_adjacent(parts: Iterable[Part], are_same: Callable[[Part, Part], bool]) -> Iterator[list[Part]]:
    """Group consecutive parts. A part joins the group if it adjoins the previous part and ``are_same`` returns true
    for both.
    """
    held_parts: list[Part] = []
    for part in parts:
        if held_parts and not (
            0 <= part.place.start - held_parts[-1].place.end <= 1 and are_same(held_parts[-1], part)
        ):
            yield held_parts
            held_parts = []
        held_parts.append(part)
    if held_parts:
        yield held_parts


def chunk_runs(run: list[Part], size: int, overlap: int) -> list[Part]:
    """Join adjacent parts and pack their text up to ``size`` columns. A chunk gets the page, heading and line of the
    part in which it begins.
    """
    starts: list[int] = []
    lines_before: list[int] = []
    pieces_of: list[str] = []
    length = lines = 0
    for i, part in enumerate(run):
        if i and part.place.start > run[i - 1].place.end:
            pieces_of.append("\n")
            length += 1
            lines += 1
        starts.append(length)
        lines_before.append(lines)
        pieces_of.append(part.text)
        length += len(part.text)
        lines += part.text.count("\n")
    text = "".join(pieces_of)
    spans = pack_units(text, lambda full_text: units_from(full_text, starts), size, overlap)
    whole_part = Part(text, replace(run[0].place, line=0, end=run[0].place.start + length))
    chunks = []
    for chunk in carve(whole_part, spans):
        at = chunk.place.start - run[0].place.start
        i = bisect_right(starts, at) - 1
        line = run[i].place.line
        if line is not None and chunk.place.line is not None:
            line += chunk.place.line - lines_before[i]
        place = replace(run[i].place, line=line, start=chunk.place.start, end=chunk.place.end)
        chunks.append(Part(chunk.text, place))
    return chunks
