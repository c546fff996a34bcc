"""Diffs: a hunk stays whole, the names of the files with the first one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import begun, chunk_units, lines
from portico_server.knowledge.part import Part

_FILE = re.compile(r"^(?:diff |Index: |--- (?=[^\n]*\n\+\+\+ ))", re.M)
_HUNK = re.compile(r"^@@ ", re.M)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Hunks packed up to ``size`` columns; a wider one is cut between lines."""
    return chunk_units(parts, _hunks, size, overlap, within=lines, indented=True)


def _hunks(text: str) -> Iterable[Span]:
    starts: list[int] = []
    headed = False
    for at, is_file in sorted(
        [(m.start(), True) for m in _FILE.finditer(text)] + [(m.start(), False) for m in _HUNK.finditer(text)]
    ):
        if not headed:
            starts.append(at)
        headed = is_file
    return begun(text, starts)
