"""Applies the schedules of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from portico.schemas.configuration import Change
from portico_server.core.configuration_step import ConfigurationStep
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.principal import SYSTEM, Principal
from portico_server.features.schedules.schedules import ScheduleService, differing
from portico_server.features.schedules.spec import ScheduleSpec

KEY = "schedules"


class ScheduleReconciler:
    """Compares the schedules of a configuration with the shared schedules."""

    def __init__(self, schedules: ScheduleService) -> None:
        self._schedules = schedules

    async def steps(
        self, specs: Sequence[ScheduleSpec], caller: Principal, new: set[tuple[str, str]]
    ) -> list[ConfigurationStep]:
        """Return a step for each schedule. A target that is ``new`` is checked when its schedule is created."""
        rows = await self._schedules.list_shared()
        steps = []
        for number, spec in enumerate(specs):
            if (f"{spec.kind}s", spec.target) not in new:
                try:
                    await self._schedules.check_target(spec, caller)
                except PorticoError as error:
                    at = f"{KEY}[{number}].{spec.kind}"
                    raise InvalidRequest(f"{at}: {error.message}", code=error.code, param=at) from error
            row = rows.get(spec.name)
            fields = differing(row, spec) if row is not None else ()
            if row is None or fields:
                change = Change(KEY, spec.name, "create" if row is None else "change", fields)
                steps.append(ConfigurationStep(change, partial(self._schedules.put, spec)))
            else:
                steps.append(ConfigurationStep(Change(KEY, spec.name, "unchanged")))
        return steps

    async def begin(self, specs: Sequence[ScheduleSpec]) -> None:
        for spec in specs:
            await self._schedules.put(spec)

    async def names(self) -> Sequence[str]:
        return list(await self._schedules.list_shared())

    async def remove(self, name: str) -> None:
        await self._schedules.remove(name, SYSTEM)
