"""Canaries: aliases whose calls are split between two targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class CanarySide:
    """Statistics of one side: ``calls`` that have finished, ``errors`` that the side itself caused, tokens, and
    ``score``, the mean from 0 to 1 over the ``samples`` that were graded. ``unjudged``: answers that could not be
    graded, because the judge failed.
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
    """An entry of the journal. ``by`` is the id of the key that acted; ``None`` if a rule acted."""

    at: float
    by: str | None
    action: Literal["set", "promoted", "rolled_back"]
    reason: str
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary; see `CanaryRequest`. The other side is the alias's target at the time when the canary was set.

    ``status`` is ``running`` until the canary is ``promoted`` or ``rolled_back``; ``reason`` says why. ``waits_for``:
    the conditions for promotion that are not met yet. A canary with ``min_confidence`` keeps running after its
    promotion, with all calls. ``key``: the key that set the canary, on whose behalf answers
    are graded. Times are in seconds since 1970.
    """

    id: str
    alias: str
    status: Literal["running", "promoted", "rolled_back"]
    weight: float
    keys: tuple[str, ...]
    sticky: Literal["session", "caller", "request"]
    min_confidence: float | None
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
