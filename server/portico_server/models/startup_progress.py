"""How far the start of a model has come, told to all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from portico.wire import Event, Progressed
from portico_server.models.in_flight import InFlightCall

EmitEvent = Callable[[Event], Awaitable[None]]


async def unheard(_event: Event) -> None:
    """For a start that no run is waiting for."""


class StartupProgress:
    """The stage of one model's start: the latest alone counts, whoever is late misses those between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = asyncio.Event()
        self.stage = Progressed("cold")

    def report(
        self, stage: str, done_units: float | None = None, total: float | None = None, unit: str = ""
    ) -> None:
        """A stage has begun or gone on."""
        self.set_stage(Progressed(stage, self._name, done_units, total, unit))

    def set_stage(self, stage: Progressed) -> None:
        """The same in words of one's own."""
        self.stage = stage
        self._changed.set()
        self._changed = asyncio.Event()

    def progress(self, stage: str, percent: int | None) -> None:
        """A stage, in percent if that is known, which is only news if it is another."""
        if (stage, percent) == (self.stage.stage, self.stage.done):
            return
        if percent is None:
            self.report(stage)
        else:
            self.report(stage, percent, 100, "%")

    def finish(self) -> None:
        """The start is over, and nobody waits for it any more."""
        self.stage = Progressed("cold", self._name)

    async def follow(self, start: asyncio.Task[Any], call: InFlightCall, emit: EmitEvent) -> None:
        """Until a start is over, tell one call's run of its stages."""
        while not start.done():
            event, stage = self._changed, self.stage
            if stage is not call.reported_stage and stage.stage != "cold":
                call.reported_stage = stage
                await emit(stage)
            waiter = asyncio.ensure_future(event.wait())
            try:
                await asyncio.wait([start, waiter], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
