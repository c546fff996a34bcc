"""``/api/canaries``: aliases whose calls are split between their current and their next target."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from portico.schemas.canaries import Canary, CanaryEntry, CanarySide
from portico_server.api.endpoint import Admin, feature_service, new_router
from portico_server.api.shapes import Listed, shaped
from portico_server.db.canaries import SideCounts
from portico_server.features.canaries.canaries import MAX_REASON_CHARS, CanaryService, CanaryView
from portico_server.features.canaries.spec import MAX_KEYS, MAX_NAME_CHARS, parse
from portico_server.features.canaries.verdict import rate

router = new_router(prefix="/api/canaries", tags=["Canaries"])

TheCanaries = Annotated[CanaryService, feature_service("canaries", CanaryService)]
"""The service of the feature."""

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
Share = Annotated[float, Field(ge=0, le=1)]
StickyRule = Literal["session", "caller", "request"]
Outcome = Literal["promoted", "rolled_back"]


class CanaryRuleRequest(BaseModel, extra="forbid"):
    """Conditions that are checked after a canary has had ``after`` calls: its mean score, the maximum distance of its
    score below the baseline's score, its errors per call, and the ratio of its mean duration to the baseline's.

    Scores count once ``min_samples`` answers are judged (default 20).
    """

    after: Annotated[int | None, Field(ge=1)] = None
    min_samples: Annotated[int | None, Field(ge=1)] = None
    min_score: Share | None = None
    max_drop: Share | None = None
    max_error_rate: Share | None = None
    max_latency_ratio: Annotated[float | None, Field(ge=0, le=1000)] = None


class CanaryRequest(BaseModel, extra="forbid"):
    """A canary to set. ``target`` is the alias's possible next target, a model or ``APP@VERSION``.

    ``weight`` is the target's share of calls; all calls of ``keys``, given by name or id, go to the target. ``sticky``
    is the unit whose calls all go to the same side: a ``session`` (a conversation), a ``caller`` (a key) or a
    ``request``. With ``min_confidence``, the current target answers instead where the mean probability of the tokens in
    the canary's answer is lower. ``eval`` judges the share ``sample`` of the answers; without ``eval``, the current
    target answers this share of the canary's calls too, and the score is their agreement. The canary is promoted when
    all conditions of ``promote`` are met, and rolled back when any condition of ``rollback`` is not met.
    """

    target: Name
    weight: Share | None = None
    keys: Annotated[list[Name] | None, Field(max_length=MAX_KEYS)] = None
    sticky: StickyRule | None = None
    min_confidence: Share | None = None
    sample: Share | None = None
    eval: Name | None = None
    promote: CanaryRuleRequest | None = None
    rollback: CanaryRuleRequest | None = None


class CanaryEnd(BaseModel, extra="forbid"):
    """The reason for ending the canary. The canary's journal records it."""

    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""


@router.get("")
async def list_canaries(canaries: TheCanaries, caller: Admin) -> Listed[Canary]:
    """List the newest canary of each alias, sorted by alias. The list includes canaries that have ended."""
    return Listed(data=[_canary(view) for view in await canaries.list(caller)])


@router.get("/{alias}")
async def retrieve_canary(alias: str, canaries: TheCanaries, caller: Admin) -> Canary:
    """Return the newest canary of an alias, with its metrics and its journal."""
    return _canary(await canaries.get(alias, caller))


@router.get("/{alias}/history")
async def canary_history(alias: str, canaries: TheCanaries, caller: Admin) -> Listed[Canary]:
    """List the canaries of an alias, newest first. The last twenty are kept."""
    return Listed(data=[_canary(view) for view in await canaries.all_of(alias, caller)])


@router.put("/{alias}")
async def set_canary(alias: str, body: CanaryRequest, canaries: TheCanaries, caller: Admin) -> Canary:
    """Split the calls of an alias from now on.

    If the current canary has the same target, its weight and rules change and its counts stay.
    """
    spec = parse(body.model_dump(exclude_unset=True))
    return _canary(await canaries.set(alias, spec, caller))


@router.post("/{alias}/promote")
async def promote_canary(alias: str, body: CanaryEnd, canaries: TheCanaries, caller: Admin) -> Canary:
    """Point the alias to the canary's target, for all calls from now on."""
    return _canary(await canaries.end(alias, "promoted", body.reason, caller))


@router.post("/{alias}/rollback")
async def rollback_canary(alias: str, body: CanaryEnd, canaries: TheCanaries, caller: Admin) -> Canary:
    """Point the alias back to its previous target, for all calls from now on. Calls in progress finish with the target
    they started with.
    """
    return _canary(await canaries.end(alias, "rolled_back", body.reason, caller))


def _canary(view: CanaryView) -> Canary:
    row, spec = view.row, view.spec
    return shaped(
        Canary,
        row,
        **spec.document(),
        status=row.outcome or "running",
        baseline=_side(row.baseline, view.counts.baseline),
        canary=_side(row.target, view.counts.canary),
        waits_for=list(view.waits_for),
        journal=[shaped(CanaryEntry, entry) for entry in view.entries],
    )


def _side(target: str, counts: SideCounts) -> CanarySide:
    return CanarySide(
        **{
            **asdict(counts),
            "target": target,
            "error_rate": rate(counts.errors, counts.calls),
            "milliseconds": rate(counts.milliseconds, counts.calls),
            "score": rate(counts.score, counts.samples),
        }
    )
