"""Paragraphs: what stands between empty lines stays together."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import begun, chunk_units
from portico_server.knowledge.part import Part

_GAP = re.compile(r"\n[ \t\u3000]*\n\s*")


def paragraphs(text: str) -> Iterable[Span]:
    """Spans of paragraphs, the empty lines behind each belonging to it."""
    return begun(text, (match.end() for match in _GAP.finditer(text)))


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Paragraphs packed up to ``size`` columns; a wider one is cut between sentences."""
    return chunk_units(parts, paragraphs, size, overlap)
