"""Logs: an entry stays whole, its stack trace with it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import begun, chunk_units, lines
from portico_server.knowledge.part import Part

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


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Entries packed up to ``size`` columns; lines, where no entry can be told."""
    return chunk_units(parts, _entries, size, overlap, within=lines, indented=True)


def _entries(text: str) -> Iterable[Span]:
    starts = [match.start() for match in _ENTRY.finditer(text)]
    return begun(text, starts) if starts else lines(text, 0, len(text))
