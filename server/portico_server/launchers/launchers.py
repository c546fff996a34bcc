"""The launchers of a daemon, by name; each is made when it is first needed."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from portico_server.core import pools
from portico_server.core.errors import PorticoError
from portico_server.launchers.local import LOCAL
from portico_server.launchers.protocol import Launcher, check_launcher
from portico_server.settings import LAUNCHERS, Settings

if TYPE_CHECKING:
    from portico_server.launchers.remote import JobBackend, RemoteLauncher

logger = logging.getLogger(__name__)

JOBS_FOLDER: Final = "jobs"
"""The folder below the home with what nodes read of their jobs."""


class Launchers:
    """Everything they start, they end in `close`, or a later daemon takes it over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, RemoteLauncher] = {}
        self._lock = asyncio.Lock()
        self._finding: asyncio.Task[Sequence[str]] | None = None

    async def get(self, name: str = "") -> Launcher:
        """One of them; the setting's without a name. Raises `InvalidRequest`."""
        check_launcher(name)
        name = name or self._settings.launcher
        if name == LOCAL.name:
            return LOCAL
        if self._finding is not None:  # what an earlier daemon left is not started a second time
            await asyncio.wait([self._finding])
        return await self._remote(name)

    async def _remote(self, name: str) -> RemoteLauncher:
        async with self._lock:
            if name not in self._made:
                # aiohttp takes 0.3 s to import: in a thread, and only where something runs elsewhere.
                module = await pools.LOADING.run(importlib.import_module, "portico_server.launchers.remote")
                settings = self._settings
                self._made[name] = module.RemoteLauncher(
                    await self._backend(name),
                    settings.home / JOBS_FOLDER,
                    lease_s=settings.launcher_lease,
                    queue_s=settings.launcher_queue_timeout,
                )
            return self._made[name]

    async def _backend(self, name: str) -> JobBackend:
        module = await pools.LOADING.run(importlib.import_module, f"portico_server.launchers.{name}")
        made: JobBackend = module.backend(self._settings)
        return made

    def start(self) -> None:
        """Look for what an earlier daemon left running elsewhere. Nothing is started elsewhere before that is known."""
        self._finding = asyncio.create_task(self._find(), name="what runs elsewhere")

    async def leftovers(self) -> Sequence[str]:
        """The names of what can be taken over: it is, when the same is started again. Raises `PorticoError`."""
        return await self._finding if self._finding is not None else ()

    async def _find(self) -> Sequence[str]:
        folder = self._settings.home / JOBS_FOLDER
        names: list[str] = []
        if await pools.MODELS.run(_any, folder):
            for name in LAUNCHERS:
                if name != LOCAL.name:
                    names += await (await self._remote(name)).adopt()
        return names

    async def end_leftovers(self) -> None:
        """End what nobody has taken over."""
        for launcher in self._made.values():
            await launcher.end_leftovers()

    async def close(self) -> None:
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.wait([self._finding])
        for launcher in self._made.values():
            try:
                await launcher.close()
            except PorticoError as error:
                logger.warning("%s", error.message)


def _any(folder: Path) -> bool:
    return any(folder.glob("*"))
