"""Spans of a text: functions that measure spans, find where units such as sentences begin, and pack units into
chunks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from portico_server.features.chunkers.document import Part

T = TypeVar("T")

Span: TypeAlias = tuple[int, int]
"""Start and end (exclusive) in a text."""

_WIDE_CHARACTER = re.compile(
    r"[\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60]"
)
_WEAK_BREAK = re.compile(r"\n|[，、,;:：]\s*|\s+")


MAX_FLAG_RUN = 64
"""Maximum number of letters of flags in a row that are paired. A longer row can be split at any letter."""


def width(text: str) -> int:
    """Return the width of a text in columns: an East Asian character is two columns wide, any other character one."""
    return len(text) if text.isascii() else len(text) + len(_WIDE_CHARACTER.findall(text))


def inside_grapheme(text: str, at: int) -> bool:
    """Return whether a cut before ``text[at]`` would split what a reader sees as one character.

    Implements the rules of Unicode's annex 29 that matter in practice: marks and joiners stay with their base
    character, and skin tones with their emoji; a flag, a Hangul syllable and ``\\r\\n`` each count as one character.
    """
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if before < "\u0300" and after < "\u0300":
        return before == "\r" and after == "\n"
    if after in "\u200d\u200c" or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return True
    if before == "\u200d" or "\u1160" <= after <= "\u11ff":
        return True
    if _is_flag(before) and _is_flag(after):
        run = 0
        while run < min(at, MAX_FLAG_RUN) and _is_flag(text[at - 1 - run]):
            run += 1
        return run % 2 == 1
    return False


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def cut(text: str, span: Span, size: int) -> Iterator[Span]:
    """Split a span into pieces of at most ``size`` columns: after a line break, comma or space, otherwise between two
    characters.
    """
    start, end = span
    while start < end:
        stop = reach(text, start, end, size)
        if stop == end:
            yield start, end
            return
        weak = start
        for match in _WEAK_BREAK.finditer(text, start, stop):
            weak = match.end()
        if weak > start + (stop - start) // 2:
            stop = weak
        while stop > start + 1 and inside_grapheme(text, stop):
            stop -= 1
        if stop == start + 1:  # a grapheme that is wider than a chunk is not split
            while stop < end and inside_grapheme(text, stop):
                stop += 1
        yield start, stop
        start = stop


def reach(text: str, start: int, end: int, size: int) -> int:
    """Return the furthest end at which the span from ``start`` is at most ``size`` columns wide. The span contains at
    least one character.
    """
    stop = min(end, start + size)
    while stop > start + 1 and (over := width(text[start:stop]) - size) > 0:
        stop = max(start + 1, stop - max(1, over // 2))
    return stop


def pack(text: str, units: Iterable[Span], size: int, overlap: int) -> list[Span]:
    """Pack consecutive units up to ``size`` columns. Each pack repeats the last units of the previous pack, up to
    ``overlap`` columns.
    """
    packs: list[Span] = []
    pending_spans: list[tuple[Span, int]] = []
    total = 0
    fresh = False  # whether the pack contains a unit that is not repeated from the previous pack
    for unit in units:
        wide = width(text[unit[0] : unit[1]])
        if pending_spans and fresh and total + wide > size:
            packs.append((pending_spans[0][0][0], pending_spans[-1][0][1]))
            pending_spans, total = _overlapping(pending_spans, min(overlap, max(0, size - wide)))
        pending_spans.append((unit, wide))
        total += wide
        fresh = True
    if pending_spans and fresh:
        packs.append((pending_spans[0][0][0], pending_spans[-1][0][1]))
    return packs


def _overlapping(
    packed_spans: Sequence[tuple[Span, int]], overlap: int
) -> tuple[list[tuple[Span, int]], int]:
    kept_spans: list[tuple[Span, int]] = []
    total = 0
    for item in reversed(packed_spans[1:]):
        if total + item[1] > overlap:
            break
        kept_spans.append(item)
        total += item[1]
    return kept_spans[::-1], total


def strip(text: str, span: Span, *, is_indented: bool = False) -> Span:
    """Return the span without white space at its ends. ``is_indented`` keeps the indentation of the first line, as
    needed for code.
    """
    start, end = span
    while end > start and text[end - 1].isspace():
        end -= 1
    begin = start
    while begin < end and text[begin].isspace():
        begin += 1
    if is_indented:
        begin = max(text.rfind("\n", start, begin) + 1, start)
    return begin, end


def carve(part: Part, spans: Iterable[Span], *, is_indented: bool = False, above: str = "") -> list[Part]:
    """Return the spans of a part as separate parts, each with its page, heading, line and position in the document.

    ``above`` is text from the beginning of the part, such as a header. It is repeated before the text of each span
    that begins after it; the position of the new part remains that of the span.
    """
    text, place = part.text, part.place
    chunks: list[Part] = []
    line, counted_offset = place.line, 0
    for span in spans:
        start, end = strip(text, span, is_indented=is_indented)
        if start >= end:
            continue
        if line is not None:
            # Spans overlap, so a span can begin before the position up to which lines have been counted.
            line += (
                text.count("\n", counted_offset, start)
                if start >= counted_offset
                else -text.count("\n", start, counted_offset)
            )
            counted_offset = start
        content = text[start:end]
        if above and start >= len(above):
            content = f"{above}\n{content}"
        chunks.append(
            Part(content, replace(place, line=line, start=place.start + start, end=place.start + end))
        )
    return chunks


def carve_each(
    part: Part, pairs: Iterable[tuple[Span, T]], *, is_indented: bool = False
) -> list[tuple[Part, T]]:
    """Apply `carve` to spans, each with a value, and return the new parts with the values of their spans.

    Pass all spans of a long part in one call, because lines are counted from the previous span.
    """
    kept_pairs = [(span, value) for span, value in pairs if part.text[span[0] : span[1]].strip()]
    chunks = carve(part, (span for span, _ in kept_pairs), is_indented=is_indented)
    return [(chunk, value) for chunk, (_, value) in zip(chunks, kept_pairs, strict=True)]


# Look-ahead and possessive quantifiers read each line a constant number of times, whatever it contains.
_RULED = re.compile(
    r"^(?P<head>(?=[^\n]*\|)[^\n]*+\n"
    r"[ \t]*+\|?+[ \t]*+:?+-++:?+[ \t]*+(?:\|[ \t]*+:?+-++:?+[ \t]*+)*+\|?+[ \t]*+\n)"
    r"(?P<rows>(?:(?=[^\n]*\|)[^\n]*+(?:\n|\Z))++)",
    re.M,
)
"""A Markdown table."""

_PLAIN = re.compile(
    r"^(?P<head>(?=[^\n]*\S \| )[^\n]*+\n{1,2}+)"
    r"(?P<rows>(?:(?=[^\n]*\S \| )[^\n]*+(?:\n{1,2}+|\Z)){2,}+)",
    re.M,
)
"""A table as extracted from HTML, Word and PDF, with or without empty lines between its rows."""

_NUMBER = re.compile(r"[.,:/%€$£+() -]*+\d[\d.,:/%€$£+() -]*+")


def around_tables(
    part: Part, size: int, prose: Callable[[Part, Span], list[Part]], *, is_ruled: bool
) -> list[Part]:
    """Return the chunks of a part. ``prose`` cuts the text around tables and the tables that are narrower than a
    chunk.

    A wider table is cut between rows, with its header repeated above each piece. If the header is wider than half a
    chunk, the table is cut as prose. With ``is_ruled``, tables are Markdown with a rule below the header. Otherwise,
    the first of several rows is the header if none of its cells is a number.
    """
    text, at = part.text, 0
    chunks: list[Part] = []
    for match in (_RULED if is_ruled else _PLAIN).finditer(text):
        head = match["head"].strip("\n")
        if width(match.group()) <= size or width(head) > size // 2:
            continue
        if not is_ruled and any(_NUMBER.fullmatch(cell.strip()) for cell in head.split(" | ")):
            continue
        chunks.extend(prose(part, (at, match.start())))
        chunks.extend(_row_groups(part, match, head, size - width(head) - 1))
        at = match.end()
    chunks.extend(prose(part, (at, len(text))))
    return chunks


def _row_groups(part: Part, match: re.Match[str], head: str, free_columns: int) -> list[Part]:
    start, end = match.span("rows")
    rows: list[Span] = []
    while start < end:
        stop = part.text.find("\n", start, end) + 1 or end
        rows.extend(cut(part.text, (start, stop), free_columns))
        start = stop
    groups = pack(part.text, rows, free_columns, 0)
    groups[0] = (match.start(), groups[0][1])
    return [*carve(part, groups[:1]), *carve(part, groups[1:], above=head)]
