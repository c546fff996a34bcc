"""Source code: definitions stay whole and are named; Python by its syntax tree, other languages by blank lines."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from portico_server.knowledge.chunk.sentence import pieces
from portico_server.knowledge.chunk.spans import Span, carve_each, pack, width
from portico_server.knowledge.chunk.units import lines
from portico_server.knowledge.part import Part

LONGEST = 1_000_000
"""Characters up to which Python is parsed: its tree takes a hundred times the memory of the text."""

NAMED = 3
"""Names of definitions that are told of one chunk, at most."""

# An empty line, and behind it a line that is not indented: where a new definition begins in most languages.
_TOP = re.compile(r"\n[ \t]*\n(?=[^\s)}\]])")
_PYTHON = re.compile(r"^(?:def|class|import|from|async def|if __name__|@\w)", re.M)
_DEFINES = re.compile(
    r"^[ \t]*(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([^)]*\))?|"
    r"unsafe|extern|inline|virtual|override|sealed|partial|open|data|const)[ \t]+)*"
    r"(?:class|interface|struct|enum|trait|impl|func|fn|function|def|module|namespace|protocol|record|object|type)"
    r"[ \t]*\*?"
    r"[ \t]+(?:\([^)]*\)[ \t]*)?([A-Za-z_$][\w$]*(?:[.:]+[A-Za-z_]\w*)*)",
    re.M,
)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece of code, the names it defines, and the smaller units it is made of."""

    span: Span
    names: tuple[str, ...] = ()
    inner: tuple[_Unit, ...] = ()


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Definitions packed up to ``size`` columns, wider ones by their methods, then by lines; ``symbol`` names them.

    Nothing overlaps between definitions; the lines of one that is cut do.
    """
    chunks: list[Part] = []
    for part in parts:
        found: list[tuple[Span, str]] = []
        held: list[_Unit] = []
        total = 0
        for unit in _fitting(part.text, _units(part.text), size):
            wide = width(part.text[unit.span[0] : unit.span[1]])
            if held and total + wide > size:
                found.extend(_named(part.text, held, size, overlap))
                held, total = [], 0
            held.append(unit)
            total += wide
        if held:
            found.extend(_named(part.text, held, size, overlap))
        for item, symbol in carve_each(part, found, indented=True):
            chunks.append(Part(item.text, replace(item.place, symbol=symbol or None)))
    return chunks


def _named(text: str, units: Sequence[_Unit], size: int, overlap: int) -> Iterator[tuple[Span, str]]:
    """The spans of neighbouring units, with the names that they define."""
    start, end = units[0].span[0], units[-1].span[1]
    if width(text[start:end]) <= size:
        spans = [(start, end)]
    else:
        spans = pack(text, pieces(text, lines(text, start, end), size), size, overlap)
    names = list(dict.fromkeys(name for unit in units for name in unit.names))
    symbol = ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
    for span in spans:
        yield span, symbol


def _fitting(text: str, units: Iterable[_Unit], size: int) -> Iterator[_Unit]:
    for unit in units:
        if unit.inner and width(text[unit.span[0] : unit.span[1]]) > size:
            yield from _fitting(text, unit.inner, size)
        else:
            yield unit


def _units(text: str) -> Sequence[_Unit]:
    if len(text) <= LONGEST and _PYTHON.search(text):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the file's own escapes and comparisons
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass  # another language, or the dialect of another Python
        else:
            return _of_statements(tree.body, (0, len(text)), _offsets(text), "")
    return [_Unit(span, _defined(text, span)) for span in _blocks(text)]


def _of_statements(
    body: Sequence[ast.stmt], span: Span, offsets: Sequence[int], above: str
) -> tuple[_Unit, ...]:
    """Units that cover ``span``: the statements in it, what stands before one belonging to it."""
    units: list[_Unit] = []
    begin, end = span
    for i, item in enumerate(body):
        last = item.end_lineno or item.lineno
        stop = end if i == len(body) - 1 else min(end, offsets[min(last, len(offsets) - 1)])
        if stop <= begin:  # two statements on one line
            continue
        if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{above}.{item.name}" if above else item.name
            inner: tuple[_Unit, ...] = ()
            if isinstance(item, ast.ClassDef):
                inner = _of_statements(item.body, (begin, stop), offsets, name)
            units.append(_Unit((begin, stop), (name,), inner))
        else:
            units.append(_Unit((begin, stop), (above,) if above else ()))
        begin = stop
    if begin < end:
        units.append(_Unit((begin, end)))
    return tuple(units)


def _offsets(text: str) -> list[int]:
    """Where each line begins, by its number from 0, and the end."""
    found = [0]
    found.extend(match.end() for match in re.finditer("\n", text))
    if found[-1] != len(text):
        found.append(len(text))
    return found


def _blocks(text: str) -> Iterator[Span]:
    begin = 0
    for match in _TOP.finditer(text):
        yield begin, match.end()
        begin = match.end()
    if begin < len(text):
        yield begin, len(text)


def _defined(text: str, span: Span) -> tuple[str, ...]:
    match = _DEFINES.search(text, *span)
    return (match[1],) if match else ()
