"""Pages: a page is a chunk."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.units import chunk_runs, runs
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Whole pages, never two in one chunk; one wider than ``size`` columns is cut between sentences."""
    chunks: list[Part] = []
    for run in runs(parts, lambda one, other: one.place.page == other.place.page is not None):
        chunks.extend(chunk_runs(run, size, overlap))
    return chunks
