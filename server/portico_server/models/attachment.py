"""Attaches adapters to the process of a model, either while the process runs or by replacing the process."""

from __future__ import annotations

import asyncio

from portico_server.core.relay import AdapterScale
from portico_server.models.process import ModelProcess
from portico_server.models.protocol import AttachesAdapters, RunningEngine
from portico_server.models.startup_progress import unheard


async def attach(process: ModelProcess, adapter: AdapterScale) -> None:
    """Attach an adapter to a process that is running. If the engine cannot attach it while running, restart the
    process with all current adapters.

    Raises `PorticoError`.
    """
    running = await _settle(process)
    if running is None:
        return  # the next start of the process includes the adapter
    client = running.client
    if isinstance(client, AttachesAdapters) and client.fits(adapter):
        await client.attach(adapter)
    else:
        await _renew(process)


async def detach(process: ModelProcess, name: str) -> None:
    """Detach an adapter from the process if the process is running."""
    running = await _settle(process)
    if running is None:
        return
    client = running.client
    if isinstance(client, AttachesAdapters) and not await client.detach(name):
        await _renew(process)


def takes(process: ModelProcess, adapter: AdapterScale) -> bool:
    """Return whether the process would answer a call for this adapter with the adapter, as far as is known."""
    running = process.running
    return running is None or (isinstance(running.client, AttachesAdapters) and running.client.fits(adapter))


async def _settle(process: ModelProcess) -> RunningEngine | None:
    """Wait for a start in progress, and return the running engine, or ``None`` if no engine runs."""
    while (start := process.launch.task) is not None:
        await asyncio.wait([start])
    return process.running


async def _renew(process: ModelProcess) -> None:
    """Replace the running process with a new process. Calls in progress are completed, and later calls wait."""
    await process.vacate()
    await process.load(unheard)
