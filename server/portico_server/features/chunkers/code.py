"""Chunkers for source code, diffs and logs that keep definitions, hunks and entries whole."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sentences import cut_wide
from portico_server.features.chunkers.spans import Span, carve_each, pack, width
from portico_server.features.chunkers.units import chunk_units, split_lines, units_from

MAX_PARSED_CHARS = 1_000_000
"""Maximum length of Python source that is parsed, in characters: its syntax tree needs a hundred times the memory of
the text.
"""

MAX_SYMBOLS = 3
"""Maximum number of definition names listed for a chunk."""

# An empty line followed by a line without indentation, where most languages begin a new definition.
_TOP = re.compile(r"\n[ \t]*\n(?=[^\s)}\]])")
_PYTHON = re.compile(r"^(?:def|class|import|from|async def|if __name__|@\w)", re.M)
_DEFINES = re.compile(
    r"^[ \t]*(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|"
    r"pub(?:\([^)\n]{0,99}\))?|"
    r"unsafe|extern|inline|virtual|override|sealed|partial|open|data|const)[ \t]+)*"
    r"(?:class|interface|struct|enum|trait|impl|func|fn|function|def|module|namespace|protocol|record|object|type)"
    r"(?:[ \t]*\*)?"
    r"[ \t]+(?:\([^)\n]{0,199}\)[ \t]*)?([A-Za-z_$][\w$]*(?:[.:]+[A-Za-z_]\w*)*)",
    re.M,
)


@dataclass(frozen=True, slots=True)
class _Definition:
    """A piece of code, the names it defines, and the smaller definitions in it."""

    span: Span
    names: tuple[str, ...] = ()
    inner: tuple[_Definition, ...] = ()


def chunk_code(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack definitions up to ``size`` columns; split wider definitions by methods, then by lines.

    The chunk's ``symbol`` lists the names it defines. Definitions do not overlap, but the line groups of a split
    definition do.
    """
    chunks: list[Part] = []
    for part in parts:
        spans: list[tuple[Span, str]] = []
        definitions: list[_Definition] = []
        total = 0
        for unit in _fit(part.text, _definitions(part.text), size):
            wide = width(part.text[unit.span[0] : unit.span[1]])
            if definitions and total + wide > size:
                spans.extend(_with_symbols(part.text, definitions, size, overlap))
                definitions, total = [], 0
            definitions.append(unit)
            total += wide
        if definitions:
            spans.extend(_with_symbols(part.text, definitions, size, overlap))
        for item, symbol in carve_each(part, spans, is_indented=True):
            chunks.append(Part(item.text, replace(item.place, symbol=symbol or None)))
    return chunks


def _with_symbols(
    text: str, units: Sequence[_Definition], size: int, overlap: int
) -> Iterator[tuple[Span, str]]:
    """Yield the spans of consecutive definitions, each with the names that they define."""
    start, end = units[0].span[0], units[-1].span[1]
    if width(text[start:end]) <= size:
        spans = [(start, end)]
    else:
        spans = pack(text, cut_wide(text, split_lines(text, start, end), size), size, overlap)
    names = list(dict.fromkeys(name for unit in units for name in unit.names))
    symbol = ", ".join(names[:MAX_SYMBOLS]) + (" …" if len(names) > MAX_SYMBOLS else "")
    for span in spans:
        yield span, symbol


def _fit(text: str, units: Iterable[_Definition], size: int) -> Iterator[_Definition]:
    for unit in units:
        if unit.inner and width(text[unit.span[0] : unit.span[1]]) > size:
            yield from _fit(text, unit.inner, size)
        else:
            yield unit


def _definitions(text: str) -> Sequence[_Definition]:
    if len(text) <= MAX_PARSED_CHARS and _PYTHON.search(text):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # escapes and comparisons in the parsed file can cause warnings
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass  # not Python, or the syntax of another Python version
        else:
            return _statement_units(tree.body, (0, len(text)), _line_offsets(text), "")
    return [_Definition(span, _defined_names(text, span)) for span in _blocks(text)]


def _statement_units(
    body: Sequence[ast.stmt], span: Span, offsets: Sequence[int], above: str
) -> tuple[_Definition, ...]:
    """Return definitions that cover ``span``: the statements in it, each with the text that precedes it."""
    units: list[_Definition] = []
    begin, end = span
    for i, item in enumerate(body):
        last = item.end_lineno or item.lineno
        stop = end if i == len(body) - 1 else min(end, offsets[min(last, len(offsets) - 1)])
        if stop <= begin:  # two statements on the same line
            continue
        if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{above}.{item.name}" if above else item.name
            inner: tuple[_Definition, ...] = ()
            if isinstance(item, ast.ClassDef):
                inner = _statement_units(item.body, (begin, stop), offsets, name)
            units.append(_Definition((begin, stop), (name,), inner))
        else:
            units.append(_Definition((begin, stop), (above,) if above else ()))
        begin = stop
    if begin < end:
        units.append(_Definition((begin, end)))
    return tuple(units)


def _line_offsets(text: str) -> list[int]:
    """Return the offset of each line, followed by the length of the text if its last line does not end with a line
    break.
    """
    offsets = [0]
    offsets.extend(match.end() for match in re.finditer("\n", text))
    if offsets[-1] != len(text):
        offsets.append(len(text))
    return offsets


def _blocks(text: str) -> Iterator[Span]:
    begin = 0
    for match in _TOP.finditer(text):
        yield begin, match.end()
        begin = match.end()
    if begin < len(text):
        yield begin, len(text)


def _defined_names(text: str, span: Span) -> tuple[str, ...]:
    match = _DEFINES.search(text, *span)
    return (match[1],) if match else ()


_FILE = re.compile(r"^(?:diff |Index: |--- (?=[^\n]*\n\+\+\+ ))", re.M)
_HUNK = re.compile(r"^@@ ", re.M)


def chunk_diff(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack hunks up to ``size`` columns; split wider hunks between lines."""
    return chunk_units(parts, _hunks, size, overlap, within=split_lines, is_indented=True)


def _hunks(text: str) -> Iterable[Span]:
    starts: list[int] = []
    is_headed = False
    for at, is_file in sorted(
        [(m.start(), True) for m in _FILE.finditer(text)] + [(m.start(), False) for m in _HUNK.finditer(text)]
    ):
        if not is_headed:
            starts.append(at)
        is_headed = is_file
    return units_from(text, starts)


_ENTRY = re.compile(
    r"^(?:"
    r"[\[(<]?\d{4}[-/.]\d{1,2}[-/.]\d{1,2}[T ,]"  # 2026-11-20 10:00
    r"|[\[(]?\d{1,2}:\d{2}:\d{2}"  # 10:00:00
    r"|[A-Z][a-z]{2} +\d{1,2} \d{1,2}:\d{2}"  # Nov 20 10:00
    r"|\S+ \S+ \S+ \[\d{1,2}/[A-Z][a-z]{2}/\d{4}"  # 10.0.0.1 - - [20/Nov/2026
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|FATAL|CRITICAL)\b"
    r"|[IWEF]\d{4} \d{2}:|<\d{1,3}>|\{\""
    r")",
    re.M,
)


def chunk_log(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack log entries up to ``size`` columns, or lines if no entries are recognized."""
    return chunk_units(parts, _entries, size, overlap, within=split_lines, is_indented=True)


def _entries(text: str) -> Iterable[Span]:
    starts = [match.start() for match in _ENTRY.finditer(text)]
    return units_from(text, starts) if starts else split_lines(text, 0, len(text))
