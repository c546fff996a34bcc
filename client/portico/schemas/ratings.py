"""Ratings of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rating:
    """A person's rating of an answer. ``value`` is ``good``, ``bad`` or ``corrected``; a corrected answer has a
    ``correction``.

    The answer is the message with the number ``message`` in ``session``, written by ``model``. ``messages`` are the
    messages before it, each with ``role`` and ``content``. ``rated_at`` is in seconds since 1970.
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
