"""Distillations: started and shown by the alias whose answers a small model learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson

from portico_server.core.base_models import BaseModels
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.db import runs, steps, usage
from portico_server.db.canaries import running_conflict
from portico_server.db.runs import RunRow
from portico_server.features.canaries.canaries import CanaryService, CanaryView
from portico_server.features.canaries.comparison import COMPARISON_RUN_KIND
from portico_server.features.distil.work import (
    CANARY,
    DistillationServices,
    DistillationSpec,
    DistillationWork,
)
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog

DISTIL_RUN_KIND: Final = "distil"


@dataclass(frozen=True, slots=True)
class Savings:
    """What the small model has saved since its canary began. ``cost`` is in US dollars, ``None`` if the larger model
    has no known price; ``milliseconds`` is the difference of the mean durations times the calls.
    """

    calls: int
    local_calls: int
    cost: float | None
    milliseconds: float | None


@dataclass(frozen=True, slots=True)
class DistillationView:
    """A distillation: its run, the outcomes of its finished stages, and its canary with what it has saved."""

    run: RunRow
    stages: Mapping[str, Mapping[str, Any]]
    canary: CanaryView | None
    savings: Savings | None


class Distillations:
    """The distillations of the daemon. Only admins start them, because aliases are shared."""

    def __init__(
        self, services: DistillationServices, scheduler: Scheduler, bases: BaseModels, usage_log: UsageLog
    ) -> None:
        self._services = services
        self._canaries = services.features.get("canaries", CanaryService)
        self._scheduler = scheduler
        self._bases = bases
        self._usage_log = usage_log

    async def start(self, alias: str, spec: DistillationSpec, caller: Principal) -> str:
        """Start a distillation, and return the id of its run. If one of the alias is waiting, return its id.

        Raises `NotFound` and `InvalidRequest` for names that cannot be used, and `Conflict` while a canary of the alias
        is running.
        """
        caller.require("admin")
        baseline = await self._canaries.baseline(alias)
        for view in (await self._canaries.history(alias))[:1]:
            if view.row.running is not None:
                raise running_conflict(view.row)
        teacher = self._services.registry.get(baseline)
        if teacher is None or teacher.card.kind != "model" or "chat" not in teacher.card.capabilities:
            raise InvalidRequest(
                f"'{alias}' refers to '{baseline}', which is not a chat model. Distil the alias of the model "
                "that the app calls.",
                code="unsupported_operation",
                param="alias",
            )
        self._bases.check(spec.onto, caller)
        return await self._scheduler.ensure(DISTIL_RUN_KIND, alias, asdict(spec), caller=caller)

    async def get(self, alias: str, caller: Principal) -> DistillationView:
        """Return the newest distillation of an alias. Raises `NotFound`."""
        caller.require("admin")
        row = await self._services.database.read(runs.newest_of, DISTIL_RUN_KIND, alias)
        if row is None:
            raise NotFound(
                f"'{alias[:80]}' has not been distilled. Start: portico distil '{alias[:80]}' --onto default.",
                code="distillation_not_found",
                param="alias",
            )
        step_rows = await self._services.database.read(steps.finished_steps, row.id)
        stages = {step.path: orjson.loads(step.output or "{}") for step in step_rows}
        canary = await self._canary(alias, stages)
        return DistillationView(row, stages, canary, None if canary is None else await self._savings(canary))

    async def _canary(self, alias: str, stages: Mapping[str, Mapping[str, Any]]) -> CanaryView | None:
        if CANARY not in stages:
            return None
        views = await self._canaries.history(alias)
        return next((view for view in views if view.row.id == stages[CANARY]["canary"]), None)

    async def _savings(self, canary: CanaryView) -> Savings:
        row, counts = canary.row, canary.counts
        await self._usage_log.flush()
        totals = await self._services.database.read(usage.totals, row.created_at)
        of_alias = [total for total in totals if total["name"] == row.alias]
        local_calls = counts.canary.calls - counts.canary.errors
        milliseconds = None
        if counts.baseline.calls:
            mean = counts.baseline.milliseconds / counts.baseline.calls
            milliseconds = mean * local_calls - counts.canary.milliseconds
        return Savings(
            local_calls + counts.baseline.calls,
            local_calls,
            saved_cost(row.baseline, row.target, of_alias),
            milliseconds,
        )

    async def work(self, payload: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Process a distillation. The scheduler calls this for each run."""
        run = await self._services.database.read(runs.get, context.run)
        assert run is not None
        spec = DistillationSpec.from_json(payload)
        return await DistillationWork(self._services, run.name, spec, context, self._scheduler.holder).run()


def saved_cost(teacher: str, student: str, totals: Sequence[Mapping[str, Any]]) -> float | None:
    """Return what the calls that the student answered would have cost at the teacher, less the cost of these calls and
    of the comparisons, in US dollars; ``None`` if the teacher has no known price.
    """
    local_cost = 0.0
    local_calls = 0
    mean_cost = None
    for total in totals:
        if total["operation"] == COMPARISON_RUN_KIND:
            local_cost += total["cost"] or 0.0
        elif total["model"] == student:
            local_cost += total["cost"] or 0.0
            local_calls += total["calls"]
        elif total["model"] == teacher and total["cost"] is not None:
            mean_cost = total["cost"] / total["calls"]
    return None if mean_cost is None else mean_cost * local_calls - local_cost


def build(services: DistillationServices) -> Distillations:
    """Return the service of the feature."""
    return Distillations(services, services.scheduler, services.models.bases, services.usage)
