"""Tables in running text: a Markdown table that is too wide goes by groups of rows, its header above each."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk.markdown import divide
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """As ``markdown``, but short sections stay apart."""
    return [piece for part in parts for piece in divide(part, size, overlap)]
