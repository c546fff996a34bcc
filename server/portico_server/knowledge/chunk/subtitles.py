"""Subtitles: what is said within a while, with the second at which it begins."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.units import chunk_runs, runs
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Cues packed up to ``size`` columns, the last ones repeated."""
    chunks: list[Part] = []
    for run in runs(parts, lambda one, other: one.place.heading == other.place.heading):
        chunks.extend(chunk_runs(run, size, overlap))
    return chunks
