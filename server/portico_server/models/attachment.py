"""Adapters of one model's process: attached as it runs or in a new process."""

from __future__ import annotations

import asyncio

from portico_server.core.relay import AdapterScale
from portico_server.models.process import ModelProcess
from portico_server.models.protocol import AttachesAdapters, RunningEngine
from portico_server.models.startup_progress import unheard


async def attach(process: ModelProcess, adapter: AdapterScale) -> None:
    """Have the process, if there is one, answer with an adapter: as it runs, or restarted with all that its
    site names now. Raises `PorticoError`.
    """
    running = await _settled(process)
    if running is None:
        return  # the next start brings it along
    client = running.client
    if isinstance(client, AttachesAdapters) and client.fits(adapter):
        await client.attach(adapter)
    else:
        await _renew(process)


async def detach(process: ModelProcess, name: str) -> None:
    """Have the process, if there is one, forget an adapter."""
    running = await _settled(process)
    if running is None:
        return
    client = running.client
    if isinstance(client, AttachesAdapters) and not await client.detach(name):
        await _renew(process)


def takes(process: ModelProcess, adapter: AdapterScale) -> bool:
    """Whether a call that names it would be answered with it, as far as is known."""
    running = process.running
    return running is None or (isinstance(running.client, AttachesAdapters) and running.client.fits(adapter))


async def _settled(process: ModelProcess) -> RunningEngine | None:
    """What runs once a start that is under way is over."""
    while (start := process.launch.task) is not None:
        await asyncio.wait([start])
    return process.running


async def _renew(process: ModelProcess) -> None:
    """A new process in place of the one that runs: the calls that are here are answered, later ones wait."""
    await process.vacate()
    await process.load(unheard)
