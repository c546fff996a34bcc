"""Ratings of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rating:
    """A person's rating of an answer: ``value`` is ``good``, ``bad`` or ``corrected``, the last with a ``correction``.

    The answer is message number ``message`` of ``session``, by ``model``; ``messages`` are the earlier messages, each
    with ``role`` and ``content``. ``rated_at`` is in seconds since 1970.
    """

    id: str
    session: str
    message: int
    app: str
    model: str
    value: str
    correction: str
    note: str
    rated_at: float
    messages: tuple[Mapping[str, Any], ...]
    answer: str | tuple[Mapping[str, Any], ...]
