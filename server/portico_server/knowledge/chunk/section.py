"""Sections: what stands under one heading is one chunk; short sections join their neighbours."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.markdown import joined
from portico_server.knowledge.chunk.paragraph import paragraphs
from portico_server.knowledge.chunk.units import chunk_runs, chunk_units, runs
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Sections up to ``size`` columns, of HTML, Word or Markdown; a wider one is cut between paragraphs."""
    chunks: list[Part] = []
    for run in runs(joined(parts, size), lambda one, other: one.place.heading == other.place.heading):
        if len(run) == 1:
            chunks.extend(chunk_units(run, paragraphs, size, overlap))
        else:
            chunks.extend(chunk_runs(run, size, overlap))
    return chunks
