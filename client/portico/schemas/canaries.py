"""Canaries: aliases whose calls are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class CanarySide:
    """What was counted of a side: calls that ended, ``errors`` of the side's own among them, tokens, and of the
    ``samples`` that were judged the mean score from 0 to 1. ``unjudged``: answers whose judge failed.
    """

    target: str
    calls: int
    errors: int
    error_rate: float | None
    milliseconds: float | None
    tokens: int
    samples: int
    score: float | None
    unjudged: int


@dataclass(frozen=True, slots=True)
class CanaryEntry:
    """One entry of the journal. ``by`` is the id of a key; ``None``: the rule."""

    at: float
    by: str | None
    action: Literal["set", "promoted", "rolled_back"]
    reason: str
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary, see `CanaryRequest`; the other side is what the ``alias`` meant when it was set.

    ``status`` is ``running`` until it is ``promoted`` or ``rolled_back``, for a ``reason``. ``waits_for``: what is
    missing for its promotion. ``key``: who set it, and in whose name answers are judged. Times in seconds since 1970.
    """

    id: str
    alias: str
    status: Literal["running", "promoted", "rolled_back"]
    weight: float
    keys: tuple[str, ...]
    sticky: Literal["session", "caller", "request"]
    sample: float
    eval: str | None
    promote: Mapping[str, Any] | None
    rollback: Mapping[str, Any] | None
    baseline: CanarySide
    canary: CanarySide
    waits_for: tuple[str, ...]
    reason: str | None
    key: str
    created_at: float
    ended_at: float | None
    journal: tuple[CanaryEntry, ...]


CANARIES = Resource(
    "Canaries",
    "/api/canaries",
    "For admins. An alias is made with `Models.alias`; one of an app means a version of it, such as ``desk@3``.",
    {"alias": "an alias"},
    (
        Verb("set", "PUT {alias}", Canary),
        Verb("list", "GET", list[Canary]),
        Verb("get", "GET {alias}", Canary),
        Verb("history", "GET {alias}/history", list[Canary]),
        Verb("promote", "POST {alias}/promote", Canary),
        Verb("rollback", "POST {alias}/rollback", Canary),
    ),
    columns=(
        Column("ALIAS"),
        Column("STATUS"),
        Column("BASELINE", "baseline.target"),
        Column("CANARY", "canary.target"),
        Column("WEIGHT", kind="share"),
        Column("CALLS", "canary.calls"),
    ),
)
