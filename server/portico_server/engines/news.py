"""How far the start of a model has come, told to all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from portico.wire import Event, Status
from portico_server.engines.flight import Place


class News:
    """The stage of one model's start: the latest alone counts, whoever is late misses those between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = asyncio.Event()
        self.stage = Status("cold")

    def tell(self, stage: str, done: float | None = None, total: float | None = None, unit: str = "") -> None:
        """A stage has begun or gone on."""
        self.say(Status(stage, self._name, done, total, unit))

    def say(self, stage: Status) -> None:
        """The same in words of one's own."""
        self.stage = stage
        self._told.set()
        self._told = asyncio.Event()

    def progress(self, stage: str, percent: int | None) -> None:
        """A stage, in percent if that is known, which is only news if it is another."""
        if (stage, percent) == (self.stage.stage, self.stage.done):
            return
        if percent is None:
            self.tell(stage)
        else:
            self.tell(stage, percent, 100, "%")

    def end(self) -> None:
        """The start is over, and nobody waits for it any more."""
        self.stage = Status("cold", self._name)

    async def follow(
        self, start: asyncio.Task[Any], place: Place, emit: Callable[[Event], Awaitable[None]]
    ) -> None:
        """Until a start is over, tell one call's run of its stages."""
        while not start.done():
            told, stage = self._told, self.stage
            if stage is not place.told and stage.stage != "cold":
                place.told = stage
                await emit(stage)
            waiter = asyncio.ensure_future(told.wait())
            try:
                await asyncio.wait([start, waiter], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
