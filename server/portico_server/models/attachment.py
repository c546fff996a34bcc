"""Attaches adapters to the process of a model: while it runs, or in a new process."""

from __future__ import annotations

import asyncio

from portico_server.core.relay import AdapterScale
from portico_server.models.process import ModelProcess
from portico_server.models.protocol import AttachesAdapters, RunningEngine
from portico_server.models.startup_progress import unheard


async def attach(process: ModelProcess, adapter: AdapterScale) -> None:
    """Attach an adapter to the process, if any: while it runs, or by a restart with all current adapters of its site.

    Raises `PorticoError`.
    """
    running = await _settle(process)
    if running is None:
        return  # the next start includes it
    client = running.client
    if isinstance(client, AttachesAdapters) and client.fits(adapter):
        await client.attach(adapter)
    else:
        await _renew(process)


async def detach(process: ModelProcess, name: str) -> None:
    """Detach an adapter from the process, if any."""
    running = await _settle(process)
    if running is None:
        return
    client = running.client
    if isinstance(client, AttachesAdapters) and not await client.detach(name):
        await _renew(process)


def takes(process: ModelProcess, adapter: AdapterScale) -> bool:
    """Return whether a call with the adapter would be answered with it, as far as known."""
    running = process.running
    return running is None or (isinstance(running.client, AttachesAdapters) and running.client.fits(adapter))


async def _settle(process: ModelProcess) -> RunningEngine | None:
    """Return the running engine, after waiting for a start in progress."""
    while (start := process.launch.task) is not None:
        await asyncio.wait([start])
    return process.running


async def _renew(process: ModelProcess) -> None:
    """Replace the running process by a new one: calls in progress are completed, later calls wait."""
    await process.vacate()
    await process.load(unheard)
