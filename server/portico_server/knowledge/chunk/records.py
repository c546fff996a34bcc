"""Records: each row of a table is a chunk of its own, below the header."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.rows import divide
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """One row each, header above; a row wider than ``size`` columns is cut."""
    del overlap
    return [item for part in parts for item in divide(part, size, together=False)]
