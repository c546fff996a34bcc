"""Applies the schedules of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from portico_server.core.configuration_document import ConfigurationDocument
from portico_server.core.configuration_step import ConfigurationPlan, ConfigurationStep, entry_step
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.principal import SYSTEM
from portico_server.feature_table import Features
from portico_server.features.schedules.schedules import ScheduleService, differing
from portico_server.features.schedules.spec import ScheduleSpec, parse

KEY = "schedules"


def read(document: ConfigurationDocument) -> tuple[ScheduleSpec, ...]:
    """Return the schedules of a configuration. Raise `InvalidRequest`."""
    return document.read_each(KEY, parse)


class ScheduledServices(Protocol):
    """The services of the daemon that the reconciler of schedules uses."""

    features: Features


class ScheduleReconciler:
    """Compares the schedules of a configuration with the shared schedules."""

    def __init__(self, schedules: ScheduleService) -> None:
        self._schedules = schedules

    async def steps(self, specs: Sequence[ScheduleSpec], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each schedule. A target that is new is checked when its schedule is created."""
        rows = await self._schedules.list_shared()
        steps = []
        for number, spec in enumerate(specs):
            if (f"{spec.kind}s", spec.target) not in plan.new:
                try:
                    await self._schedules.check_target(spec, plan.caller)
                except PorticoError as error:
                    at = f"{KEY}[{number}].{spec.kind}"
                    raise InvalidRequest(f"{at}: {error.message}", code=error.code, param=at) from error
            row = rows.get(spec.name)
            fields = differing(row, spec) if row is not None else None
            steps.append(entry_step(KEY, spec.name, fields, partial(self._schedules.put, spec)))
        return steps

    async def begin(self, specs: Sequence[ScheduleSpec]) -> None:
        for spec in specs:
            await self._schedules.put(spec)

    async def names(self, key: str) -> Sequence[str]:
        return list(await self._schedules.list_shared())

    async def remove(self, name: str) -> None:
        await self._schedules.remove(name, SYSTEM)


def build(services: ScheduledServices) -> ScheduleReconciler:
    """Return the reconciler of the key ``schedules``."""
    return ScheduleReconciler(services.features.get("schedules", ScheduleService))
