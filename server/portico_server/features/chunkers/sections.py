"""Chunkers for structured text: Markdown, headings, outlines, pages, slides, clauses of laws."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.plain import paragraphs
from portico_server.features.chunkers.sentences import cut_wide, sentences
from portico_server.features.chunkers.spans import Span, around_tables, carve, carve_each, pack, width
from portico_server.features.chunkers.units import (
    add_headings,
    chunk_runs,
    chunk_units,
    group_adjacent,
    pack_units,
    split_lines,
    units_from,
)

MIN_SECTION_COLUMNS = 200
"""Minimum width of a section in columns. A narrower section is joined with the next section of the same or a deeper
level.
"""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.M)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def chunk_markdown(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack blocks up to ``size`` columns. Split wider blocks: prose by sentences, code by lines, tables by rows."""
    chunks: list[Part] = []
    for part in join_short_sections(parts, size):
        chunks.extend(divide_markdown(part, size, overlap))
    return chunks


def divide_markdown(part: Part, size: int, overlap: int) -> list[Part]:
    """Return the blocks of a part; each piece of a split table repeats its header."""

    def prose(part: Part, span: Span) -> list[Part]:
        start, end = span
        text = part.text[start:end]
        spans = pack(text, markdown_blocks(text, size), size, overlap)
        return carve(part, ((start + a, start + b) for a, b in spans), is_indented=True)

    return around_tables(part, size, prose, is_ruled=True)


def join_short_sections(parts: Iterable[Part], size: int) -> Iterator[Part]:
    """Join sections that are too short for a search to find with the section that follows, under the headings they
    share.
    """
    held_part: Part | None = None
    for part in parts:
        if held_part is None:
            held_part = part
        elif _can_join(held_part, part, size):
            is_alone = "\n" not in held_part.text.strip() and bool(held_part.place.heading)
            # A heading without text belongs to the section that follows. Otherwise, the joined passage covers
            # both sections and gets only the headings they share.
            heading = (
                part.place.heading
                if is_alone
                else _shared_heading(held_part.place.heading, part.place.heading)
            )
            held_part = Part(
                held_part.text + part.text, replace(held_part.place, heading=heading, end=part.place.end)
            )
        else:
            yield held_part
            held_part = part
    if held_part is not None:
        yield held_part


def _can_join(held_part: Part, part: Part, size: int) -> bool:
    if held_part.place.end != part.place.start or width(held_part.text) >= MIN_SECTION_COLUMNS:
        return False
    above, below = held_part.place.heading, part.place.heading
    if below[: len(above)] == above:
        return True  # a short introduction belongs to the section that follows it
    beside = len(below) == len(above) and below[:-1] == above[:-1]
    return beside and width(held_part.text) + width(part.text) <= size


def _shared_heading(heading: tuple[str, ...], other_heading: tuple[str, ...]) -> tuple[str, ...]:
    shared_heading = []
    for a, b in zip(heading, other_heading, strict=False):
        if a != b:
            break
        shared_heading.append(a)
    return tuple(shared_heading)


def markdown_blocks(text: str, size: int) -> Iterator[Span]:
    """Yield the spans of blocks, which are separated by empty lines. Fenced code is one block unless it is wider than
    ``size``.
    """
    at = 0
    while (opened_match := _FENCE.search(text, at)) is not None:
        yield from _prose_blocks(text, at, opened_match.start(), size)
        mark = opened_match.group(1)
        closing = re.compile(rf"^ {{0,3}}{re.escape(mark[0])}{{{len(mark)},}}[ \t]*$\n?", re.M)
        match = closing.search(text, text.find("\n", opened_match.end()) + 1 or len(text))
        end = match.end() if match else len(text)
        if width(text[opened_match.start() : end]) > size:
            yield from cut_wide(text, split_lines(text, opened_match.start(), end), size)
        else:
            yield opened_match.start(), end
        at = end
    yield from _prose_blocks(text, at, len(text), size)


def _prose_blocks(text: str, start: int, end: int, size: int) -> Iterator[Span]:
    begin = start
    ends = [match.end() for match in _BLANK_LINES.finditer(text, start, end)]
    for stop in [*ends, end]:
        if stop <= begin:
            continue
        if width(text[begin:stop]) <= size:
            yield begin, stop
        elif text[begin:stop].lstrip().startswith(("|", "- ", "* ", "+ ", "1.")):
            yield from cut_wide(text, split_lines(text, begin, stop), size)
        else:
            yield from cut_wide(text, sentences(text, begin, stop), size)
        begin = stop


def chunk_sections(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return sections of up to ``size`` columns from HTML, Word or Markdown; split wider ones between paragraphs."""
    chunks: list[Part] = []
    for run in group_adjacent(
        join_short_sections(parts, size),
        lambda part, other_part: part.place.heading == other_part.place.heading,
    ):
        if len(run) == 1:
            chunks.extend(chunk_units(run, paragraphs, size, overlap))
        else:
            chunks.extend(chunk_runs(run, size, overlap))
    return chunks


_HEADING = re.compile(
    r"^[ \t\u3000]*(?:第[一二三四五六七八九十百千零〇两\d]+[章节節回卷部篇集][^\n]{0,60}"
    r"|(?:chapter|part|book|act|scene|appendix)[ \t]+[\divxlca-z]+\b[^\n]{0,80}"
    r"|(?:\d{1,3}\.)+\d{0,3}[ \t]+[^\n]{2,80}(?<![.。;；,，])"
    r"|[一二三四五六七八九十]{1,3}、[^\n]{2,60}(?<![。;；,，])"
    r"|[IVXLC]{1,6}\.[ \t]+[^\n]{2,80}(?<![.;,]))[ \t]*$",
    re.M | re.I,
)


def chunk_outline(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return sections of up to ``size`` columns. The title of a section is the innermost heading of each of its
    chunks.
    """
    chunks: list[Part] = []
    for part in parts:
        text = part.text
        titled_spans: list[tuple[Span, str]] = []
        for start, end in units_from(text, (match.start() for match in _HEADING.finditer(text))):
            match = _HEADING.match(text, start)
            title = " ".join(match.group().split()) if match else ""
            inner = pack_units(text[start:end], paragraphs, size, overlap)
            titled_spans.extend(((start + a, start + b), title) for a, b in inner)
        chunks.extend(_with_heading(item, title) for item, title in carve_each(part, titled_spans))
    return chunks


def _with_heading(item: Part, title: str) -> Part:
    if not title:
        return item
    return Part(item.text, replace(item.place, heading=(*item.place.heading, title)))


def chunk_pages(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return whole pages, never two in one chunk. Split pages wider than ``size`` columns between sentences."""
    chunks: list[Part] = []
    for run in group_adjacent(
        parts, lambda part, other_part: part.place.page == other_part.place.page is not None
    ):
        chunks.extend(chunk_runs(run, size, overlap))
    return chunks


def chunk_slides(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return whole slides. Split slides wider than ``size`` columns between lines, and repeat the slide's first line
    above each piece.
    """
    chunks: list[Part] = []
    for part in parts:
        title = part.text.partition("\n")[0].strip()
        if width(title) > size // 4 or not part.text.startswith(title):
            title = ""
        free_columns = size - width(title) - 1 if title and width(part.text) > size else size
        spans = pack_units(part.text, lambda text: split_lines(text, 0, len(text)), free_columns, overlap)
        chunks.extend(carve(part, spans, above=title))
    return chunks


_NUMBER = r"[一二三四五六七八九十百千零〇两\d]+"
_CLAUSE = re.compile(
    r"^[ \t\u3000]*(?P<name>"
    rf"第{_NUMBER}条(?:之{_NUMBER})?"
    r"|(?:Article|Section|Clause|Rule|Art\.|Sec\.)[ \t]+[\dIVXLC]+(?:\.\d+)*"
    r"|§+[ \t]*\d+\w*"
    r"|\d{1,3}(?:\.\d{1,3}){1,4}(?=\.?[ \t\u3000])"
    r")",
    re.M | re.I,
)
_CHAPTER = re.compile(
    r"^[ \t\u3000]*"
    rf"(?:第{_NUMBER}[编編章节節部分]|(?:Chapter|Part|Title|Schedule|Annex)[ \t]+[\dIVXLCA-Z]+\b)"
    r"[^\n]{0,80}$",
    re.M | re.I,
)


def chunk_clauses(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return one clause per chunk, with its number (``第三条``, ``Article 5``) as the innermost heading."""
    return add_headings(chunk_units(parts, _clauses, size, overlap, together=False), _clause_name)


def _clauses(text: str) -> Iterable[Span]:
    clauses = {match.start() for match in _CLAUSE.finditer(text)}
    chapters = {match.start() for match in _CHAPTER.finditer(text)}
    return units_from(text, _clause_starts(text, sorted(clauses | chapters), chapters))


def _clause_starts(text: str, marks: list[int], chapters: set[int]) -> Iterator[int]:
    """Yield the starts of clauses. A chapter's title belongs to the first clause, unless other text separates the
    two.
    """
    before: int | None = None
    for mark in marks:
        titles = before is not None and before in chapters and text.count("\n", before, mark) <= 3
        if not titles:
            yield mark
        before = mark


def _clause_name(text: str) -> str:
    match = _CLAUSE.search(text)
    return match["name"] if match and not text[: match.start()].strip().count("\n") else ""
