"""Noticing that something in a followed folder has changed."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from portico_server.knowledge.walk import is_looked_at

logger = logging.getLogger(__name__)

LOOK = 15_000
"""Milliseconds after which folders that were not there are looked for again."""

DEBOUNCE = 800
"""Milliseconds for which changes are collected at most; a pause of `QUIET` ends it earlier."""

QUIET = 100


class Watch:
    """Watches all followed folders with one thread of the system's notices, or by looking where there are none.

    What happens in ``home`` is our own doing: a store that follows a folder around it must not chase its tail.
    ``changed`` is called with the id of a store, soon after something in its folder has changed. What is missed while
    the daemon is down is found by the sync at its start.
    """

    def __init__(self, changed: Callable[[str], Awaitable[None]], home: Path) -> None:
        self._changed = changed
        self._home = home.resolve()
        self._folders: dict[str, Path] = {}
        self._again = asyncio.Event()
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, store_id: str, folder: Path) -> None:
        """Watch a store's folder from now on."""
        if self._folders.get(store_id) != folder:
            self._folders[store_id] = folder
            self._renew()

    def leave(self, store_id: str) -> None:
        """Watch a store's folder no longer."""
        if self._folders.pop(store_id, None) is not None:
            self._renew()

    async def close(self) -> None:
        """Stop watching."""
        self._folders.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _renew(self) -> None:
        """Begin again with the folders that there are now."""
        self._again.set()
        if self._stop is not None:
            self._stop.set()
        if self._task is None and self._folders:
            self._task = asyncio.create_task(self._run(), name="watch folders")

    async def _run(self) -> None:
        # Most commands of the daemon need no watcher: it is not imported before a folder is followed.
        watchfiles = await asyncio.to_thread(importlib.import_module, "watchfiles")
        polling = False
        while True:
            self._again.clear()
            if not self._folders:
                await self._again.wait()
                continue
            self._stop = asyncio.Event()
            try:
                await self._watch(watchfiles, polling)
            except FileNotFoundError:
                continue  # a folder went away in this moment
            except (OSError, RuntimeError) as error:
                # The system has no notices left to give, or none for such a file system.
                if polling:
                    await self._told(LOOK / 1_000)
                logger.warning("changes in folders are looked for instead of noticed: %s", error)
                polling = True

    async def _told(self, seconds: float) -> None:
        """Wait until the folders are others, at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            return

    async def _watch(self, watchfiles: Any, polling: bool) -> None:
        """Report changes until the folders, or which of them are there, have changed."""
        folders = dict(self._folders)
        here = await asyncio.to_thread(_existing, folders)
        if not here:
            await self._told(LOOK / 1_000)
            return
        notices: AsyncIterator[set[tuple[Any, str]]] = watchfiles.awatch(
            *set(here.values()),
            stop_event=self._stop,
            debounce=DEBOUNCE,
            step=QUIET,
            rust_timeout=LOOK,
            yield_on_timeout=True,
            force_polling=polling or None,
            ignore_permission_denied=True,
        )
        async for notice in notices:
            paths = [
                path for path in (Path(name) for _, name in notice) if not path.is_relative_to(self._home)
            ]
            for store_id, folder in here.items():
                if any(path.is_relative_to(folder) and is_looked_at(path, folder) for path in paths):
                    await self._changed(store_id)
            there = await asyncio.to_thread(_existing, folders)
            if there != here:
                for store_id in there.keys() - here.keys():
                    await self._changed(store_id)  # it is back
                return


def _existing(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Those that are there, as the system reports what lies in them: without links in their own path."""
    return {store_id: folder.resolve() for store_id, folder in folders.items() if folder.is_dir()}
