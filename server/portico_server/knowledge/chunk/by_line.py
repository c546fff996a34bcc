"""Lines: whole lines, as many as fit; nothing else is looked at."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.units import chunk_units, lines
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Lines packed up to ``size`` columns; a wider one is cut at a comma or a space."""
    return chunk_units(
        parts, lambda text: lines(text, 0, len(text)), size, overlap, within=lines, indented=True
    )
