"""Canaries: aliases whose calls are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CanarySide:
    """What was counted of one side of a canary; ``score`` is the mean of the ``samples`` that were judged, 0 to 1."""

    target: str
    calls: int
    errors: int
    tokens: int
    samples: int
    unjudged: int
    error_rate: float | None = None
    milliseconds: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class CanaryEntry:
    """What was done to a canary: ``by`` a key, or ``None`` for its rule; ``figures`` are the counts of both sides."""

    at: float
    action: str
    reason: str
    figures: Mapping[str, Any]
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """An alias whose calls are split: ``status`` is ``running``, ``promoted`` or ``rolled_back``, for a ``reason``.

    ``waits_for`` says what is missing for its promotion; ``key`` set it.
    """

    id: str
    alias: str
    status: str
    weight: float
    keys: tuple[str, ...]
    sticky: str
    sample: float
    baseline: CanarySide
    canary: CanarySide
    waits_for: tuple[str, ...]
    journal: tuple[CanaryEntry, ...]
    key: str
    created_at: float
    eval: str | None = None
    promote: Mapping[str, Any] | None = None
    rollback: Mapping[str, Any] | None = None
    reason: str | None = None
    ended_at: float | None = None
