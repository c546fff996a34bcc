"""``/api/canaries``: aliases whose calls are split between what they mean and what they may mean next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from portico.schemas.canaries import Canary, CanaryEntry, CanarySide
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.api.shapes import Listed, shaped
from portico_server.canaries.canaries import MAX_REASON_CHARS, CanaryView
from portico_server.canaries.spec import MAX_KEYS, MAX_NAME_CHARS, parse
from portico_server.canaries.verdict import rate
from portico_server.db.canaries import SideCounts

router = new_router(prefix="/api/canaries", tags=["Canaries"])

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
Share = Annotated[float, Field(ge=0, le=1)]
StickyRule = Literal["session", "caller", "request"]
Outcome = Literal["promoted", "rolled_back"]


class CanaryRuleRequest(BaseModel, extra="forbid"):
    """Conditions, looked at from ``after`` calls of the canary on: its mean score, how far that may be below the
    baseline's, errors per call, and its mean duration over the baseline's.

    Scores count from ``min_samples`` judged answers on (20).
    """

    after: Annotated[int | None, Field(ge=1)] = None
    min_samples: Annotated[int | None, Field(ge=1)] = None
    min_score: Share | None = None
    max_drop: Share | None = None
    max_error_rate: Share | None = None
    max_latency_ratio: Annotated[float | None, Field(ge=0, le=1000)] = None


class CanaryRequest(BaseModel, extra="forbid"):
    """A canary to set. ``target``: what the alias may mean next, a model or ``APP@VERSION``.

    ``weight``: the share of calls that it gets; ``keys``, by name or id, always get it. ``sticky``: what stays on its
    side, a ``session`` (a conversation), a ``caller`` (a key) or a ``request``. ``eval`` judges the share ``sample`` of
    the answers. All conditions of ``promote`` promote it, any of ``rollback`` that does not hold takes it back.
    """

    target: Name
    weight: Share | None = None
    keys: Annotated[list[Name] | None, Field(max_length=MAX_KEYS)] = None
    sticky: StickyRule | None = None
    sample: Share | None = None
    eval: Name | None = None
    promote: CanaryRuleRequest | None = None
    rollback: CanaryRuleRequest | None = None


class CanaryEnd(BaseModel, extra="forbid"):
    """Why it ends, for the journal."""

    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""


@router.get("")
async def list_canaries(services: TheServices, caller: Admin) -> Listed[Canary]:
    """The newest canary of each alias, by alias; also one that has ended."""
    return Listed(data=[_canary(view) for view in await services.canaries.list(caller)])


@router.get("/{alias}")
async def retrieve_canary(alias: str, services: TheServices, caller: Admin) -> Canary:
    """The newest canary of an alias, with its figures and its journal."""
    return _canary(await services.canaries.get(alias, caller))


@router.get("/{alias}/history")
async def canary_history(alias: str, services: TheServices, caller: Admin) -> Listed[Canary]:
    """The canaries of an alias, the newest first. The last twenty are kept."""
    return Listed(data=[_canary(view) for view in await services.canaries.all_of(alias, caller)])


@router.put("/{alias}")
async def set_canary(alias: str, body: CanaryRequest, services: TheServices, caller: Admin) -> Canary:
    """Split the calls of an alias from now on. With the same target as the one that runs: change weight and rules, and
    continue to count.
    """
    spec = parse(body.model_dump(exclude_unset=True))
    return _canary(await services.canaries.set(alias, spec, caller))


@router.post("/{alias}/promote")
async def promote_canary(alias: str, body: CanaryEnd, services: TheServices, caller: Admin) -> Canary:
    """Let the alias mean the canary's target, for all calls from now on."""
    return _canary(await services.canaries.end(alias, "promoted", body.reason, caller))


@router.post("/{alias}/rollback")
async def rollback_canary(alias: str, body: CanaryEnd, services: TheServices, caller: Admin) -> Canary:
    """Let the alias mean what it meant, for all calls from now on. Calls in progress end where they are."""
    return _canary(await services.canaries.end(alias, "rolled_back", body.reason, caller))


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
