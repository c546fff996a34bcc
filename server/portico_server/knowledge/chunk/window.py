"""Sliding window: whole sentences, every passage seen twice, each time with other neighbours."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.knowledge.chunk import sentence
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Windows up to ``size`` columns, each beginning halfway through the one before it, or earlier by ``overlap``."""
    return sentence.chunk(parts, size, max(overlap, size // 2))
