"""Adapters of one model's process: tried before they are kept, put on as it runs or with a process anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from portico.wire import Event
from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.engines.protocol import Adapts, Attaches, Engine, Running, Site
from portico_server.engines.spec import ModelSpec


class Process(Protocol):
    """What runs a model: a `portico_server.engines.life.Life`."""

    @property
    def running(self) -> Running | None: ...

    @property
    def start(self) -> asyncio.Task[Running] | None: ...

    async def vacate(self) -> None: ...

    async def load(self, emit: Callable[[Event], Awaitable[None]]) -> Running: ...


class Adapting:
    """Lets a ``process`` answer with adapters and forget them."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def attach(self, adapter: AdapterScale) -> None:
        """Have the process, if there is one, answer with an adapter: as it runs, or started anew with all that its
        site names now. Raises `PorticoError`.
        """
        running = await self._settled()
        if running is None:
            return  # the next start brings it along
        speaker = running.speaker
        if isinstance(speaker, Attaches) and speaker.fits(adapter):
            await speaker.attach(adapter)
        else:
            await self._renew()

    async def detach(self, name: str) -> None:
        """Have the process, if there is one, forget an adapter."""
        running = await self._settled()
        if running is None:
            return
        speaker = running.speaker
        if isinstance(speaker, Attaches) and not await speaker.detach(name):
            await self._renew()

    def takes(self, adapter: AdapterScale) -> bool:
        """Whether a call that names it would be answered with it, as far as is known."""
        running = self._process.running
        return running is None or (isinstance(running.speaker, Attaches) and running.speaker.fits(adapter))

    async def _settled(self) -> Running | None:
        """What runs once a start that is under way is over."""
        while (start := self._process.start) is not None:
            await asyncio.wait([start])
        return self._process.running

    async def _renew(self) -> None:
        """A new process in place of the one that runs: the calls that are here are answered, later ones wait."""
        await self._process.vacate()
        await self._process.load(_unheard)


async def try_on(kind: Engine, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: Site) -> None:
    """Find out whether an engine can load a model with an adapter. Raises `PorticoError`."""
    if not isinstance(kind, Adapts):
        raise InvalidRequest(
            f"The engine '{kind.name}' of '{spec.name}' takes no adapters.",
            code="adapters_unsupported",
            param="base",
        )
    await kind.try_adapter(spec, path, adapter, site)


async def _unheard(_event: Event) -> None:
    """For a start that no run is waiting for."""
