"""Formulas: one is never cut, and a displayed one stays with the sentence that leads to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.knowledge.chunk.sentence import sentences
from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import chunk_units, lines
from portico_server.knowledge.part import Part

_FORMULA = re.compile(
    r"(?P<shown>\$\$(?:[^$\\]|\\.){1,5000}\$\$|\\\[(?:(?!\\[\[\]]).){1,5000}\\\]"
    r"|\\begin\{(?P<kind>equation|align|gather|multline|eqnarray|displaymath|math|cases)(?P<star>\*?)\}"
    r"(?:(?!\\(?:begin|end)\{(?P=kind)(?P=star)\}).){1,10000}\\end\{(?P=kind)(?P=star)\})"
    r"|\\\((?:(?!\\[()]).){1,2000}\\\)|\$(?=\S)(?:[^$\\\n]|\\.){1,500}(?<=\S)\$",
    re.S,
)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Sentences packed up to ``size`` columns, their formulas whole; only a wider formula is cut, between lines."""
    return chunk_units(parts, _units, size, overlap, within=lines)


def _units(text: str) -> Iterator[Span]:
    """Sentences, those put together between which a formula lies."""
    formulas = [(match.start(), match.end(), match["shown"] is not None) for match in _FORMULA.finditer(text)]
    begin = 0
    at = 0
    for _start, end in sentences(text):
        while at < len(formulas) and formulas[at][1] <= end:
            at += 1
        if at < len(formulas):
            start, _stop, shown = formulas[at]
            if start < end or (shown and not text[end:start].strip()):
                continue
        yield begin, end
        begin = end
    if begin < len(text):
        yield begin, len(text)
