"""Canaries: aliases whose calls are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class CanarySide:
    """Statistics of a side: finished calls, including the side's own ``errors``, tokens, and the mean score from 0 to
    1 of the ``samples`` that were graded. ``unjudged``: answers whose judge failed.
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
    """An entry of the journal. ``by`` is the id of a key; ``None`` means the rule."""

    at: float
    by: str | None
    action: Literal["set", "promoted", "rolled_back"]
    reason: str
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary, see `CanaryRequest`; the other side is the target of ``alias`` when the canary was set.

    ``status`` is ``running`` until it is ``promoted`` or ``rolled_back``, for a ``reason``. ``waits_for``: the missing
    conditions for its promotion. ``key``: the key that set it, and for which answers are graded. Times are in seconds
    since 1970.
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
    "For admins. `Models.alias` creates an alias; an app alias points to one of its versions, such as "
    "``desk@3``.",
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
