"""The progress of a model's start, reported to all waiting callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from portico.wire import Event, Progressed
from portico_server.models.in_flight import InFlightCall

EmitEvent = Callable[[Event], Awaitable[None]]


async def unheard(_event: Event) -> None:
    """Ignore the events of a start that no run waits for."""


class StartupProgress:
    """The stage of one model's start. Only the latest stage is kept, so late listeners miss earlier stages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._change_event = asyncio.Event()
        self.stage = Progressed("cold")

    def report(
        self, stage: str, done_units: float | None = None, total: float | None = None, unit: str = ""
    ) -> None:
        """Report a new stage or its progress."""
        self.set_stage(Progressed(stage, self._name, done_units, total, unit))

    def set_stage(self, stage: Progressed) -> None:
        """Report a stage that is already a `Progressed`."""
        self.stage = stage
        self._change_event.set()
        self._change_event = asyncio.Event()

    def progress(self, stage: str, percent: int | None) -> None:
        """Report a stage and its percentage, if known, unless neither has changed."""
        if (stage, percent) == (self.stage.stage, self.stage.done):
            return
        if percent is None:
            self.report(stage)
        else:
            self.report(stage, percent, 100, "%")

    def finish(self) -> None:
        """Mark the start as finished, for all listeners."""
        self.stage = Progressed("cold", self._name)

    async def follow(self, start: asyncio.Task[Any], call: InFlightCall, emit: EmitEvent) -> None:
        """Report the stages of a start to one call's run until the start is over."""
        while not start.done():
            event, stage = self._change_event, self.stage
            if stage is not call.reported_stage and stage.stage != "cold":
                call.reported_stage = stage
                await emit(stage)
            waiter = asyncio.ensure_future(event.wait())
            try:
                await asyncio.wait([start, waiter], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
