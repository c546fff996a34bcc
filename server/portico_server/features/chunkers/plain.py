"""Chunkers for plain text: paragraphs, sentences, windows, lines, formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sentences import chunk_sentences, cut_wide, sentences
from portico_server.features.chunkers.spans import Span, carve, cut, inside_grapheme, pack, reach, width
from portico_server.features.chunkers.units import chunk_units, split_lines, units_from

_EMPTY_LINES = re.compile(r"\n[ \t\u3000]*\n\s*")


def paragraphs(text: str) -> Iterable[Span]:
    """Return the spans of paragraphs, each including the empty lines that follow."""
    return units_from(text, (match.end() for match in _EMPTY_LINES.finditer(text)))


def chunk_paragraphs(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack paragraphs up to ``size`` columns; split wider ones between sentences."""
    return chunk_units(parts, paragraphs, size, overlap)


_MARKS = (
    re.compile(r"\n[ \t]*\n[ \t]*\n\s*"),
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    None,  # sentences
    re.compile(r"[，、,;:：]\s*"),
    re.compile(r"\s+"),
)


def chunk_recursive(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Split recursively into pieces of at most ``size`` columns, and merge neighbours up to that width."""
    chunks: list[Part] = []
    for part in parts:
        units = _split_to_fit(part.text, (0, len(part.text)), size, 0)
        chunks.extend(carve(part, pack(part.text, units, size, overlap)))
    return chunks


def _split_to_fit(text: str, span: Span, size: int, level: int) -> Iterator[Span]:
    if width(text[span[0] : span[1]]) <= size:
        yield span
    elif level == len(_MARKS):
        yield from cut(text, span, size)
    else:
        for piece in _split_at_level(text, span, level):
            yield from _split_to_fit(text, piece, size, level + 1)


def _split_at_level(text: str, span: Span, level: int) -> Iterator[Span]:
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


def chunk_windows(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return windows of up to ``size`` columns. Each overlaps the previous window by half of ``size``, or by
    ``overlap`` columns if that is more.
    """
    return chunk_sentences(parts, size, max(overlap, size // 2))


# A word with the white space after it. Each East Asian character counts as a word.
_EAST = r"\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"[{_EAST}]\s*|[^\s{_EAST}]+\s*|\s+")


def chunk_tokens(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack words up to ``size`` columns, where four columns are about one token."""
    chunks: list[Part] = []
    for part in parts:
        units = cut_wide(part.text, _words(part.text), size)
        chunks.extend(carve(part, pack(part.text, units, size, overlap)))
    return chunks


def _words(text: str) -> Iterator[Span]:
    begin = 0
    for match in _WORD.finditer(text):
        if match.end() < len(text) and inside_grapheme(text, match.end()):
            continue
        yield begin, match.end()
        begin = match.end()


def chunk_fixed(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return windows of ``size`` columns, each starting ``overlap`` columns before the end of the previous window."""
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
        if end == start + 1:  # a grapheme that is wider than a chunk is not split
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


def chunk_lines(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack lines up to ``size`` columns; split wider lines at a comma or a space."""
    return chunk_units(
        parts,
        lambda text: split_lines(text, 0, len(text)),
        size,
        overlap,
        within=split_lines,
        is_indented=True,
    )


_FORMULA = re.compile(
    r"(?P<shown>\$\$(?:[^$\\]|\\.){1,5000}\$\$|\\\[(?:(?!\\[\[\]]).){1,5000}\\\]"
    r"|\\begin\{(?P<kind>equation|align|gather|multline|eqnarray|displaymath|math|cases)(?P<star>\*?)\}"
    r"(?:(?!\\(?:begin|end)\{(?P=kind)(?P=star)\}).){1,10000}\\end\{(?P=kind)(?P=star)\})"
    r"|\\\((?:(?!\\[()]).){1,2000}\\\)|\$(?=\S)(?:[^$\\\n]|\\.){1,500}(?<=\S)\$",
    re.S,
)


def chunk_formulas(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack sentences up to ``size`` columns without splitting formulas; split a wider formula between lines."""
    return chunk_units(parts, _formula_units, size, overlap, within=split_lines)


def _formula_units(text: str) -> Iterator[Span]:
    """Yield spans of sentences. Sentences that share a formula are merged."""
    formulas = [(match.start(), match.end(), match["shown"] is not None) for match in _FORMULA.finditer(text)]
    begin = 0
    at = 0
    for _start, end in sentences(text):
        while at < len(formulas) and formulas[at][1] <= end:
            at += 1
        if at < len(formulas):
            start, _stop, is_shown = formulas[at]
            if start < end or (is_shown and not text[end:start].strip()):
                continue
        yield begin, end
        begin = end
    if begin < len(text):
        yield begin, len(text)
