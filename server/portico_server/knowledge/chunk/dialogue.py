"""Dialogue: a turn stays whole: chats, interviews, minutes, transcripts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import begun, chunk_units
from portico_server.knowledge.part import Part

_TURN = re.compile(
    r"^[ \t]*(?:[-–*•][ \t]+)?(?:[\[(]?\d{1,2}:\d{2}(?::\d{2})?[\])]?[ \t]*)?"
    r"(?:\*\*|<)?[^\W\d_][^:：\n。.!?！？]{0,39}(?:\*\*|>)?(?::(?:\*\*)?[ \t\n]|：)",
    re.M,
)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Turns (``Name: what was said``) packed up to ``size`` columns, the last ones repeated."""
    return chunk_units(parts, _turns, size, overlap)


def _turns(text: str) -> Iterable[Span]:
    return begun(text, (match.start() for match in _TURN.finditer(text)))
