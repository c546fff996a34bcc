"""Slides: a slide is a chunk with its notes; the pieces of a crowded one repeat its title."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.spans import carve, width
from portico_server.knowledge.chunk.units import lines, spans
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Whole slides; one wider than ``size`` columns is cut between lines, its first line above each piece."""
    chunks: list[Part] = []
    for part in parts:
        title = part.text.partition("\n")[0].strip()
        if width(title) > size // 4 or not part.text.startswith(title):
            title = ""
        room = size - width(title) - 1 if title and width(part.text) > size else size
        found = spans(part.text, lambda text: lines(text, 0, len(text)), room, overlap)
        chunks.extend(carve(part, found, above=title))
    return chunks
