"""Indexes follow the change logs of their stores: on demand, in the background, from zero when they must."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from portico_server.core.context import Listener
from portico_server.core.errors import PorticoError
from portico_server.db.database import Database
from portico_server.knowledge.index.opened import OpenIndex

logger = logging.getLogger(__name__)

COALESCE = 0.1
"""Seconds in which changes are collected: a commit costs some twenty fsyncs, however much it brings."""

OPEN = 16
"""Indexes kept open."""

IDLE = 600.0
"""Seconds after its last use at which an index is closed."""


class Indexes:
    """The indexes of all stores, opened when they are needed, in ``folder``/STORE. It owns all their tasks.

    Cheap to make: nothing is read, and nothing heavy imported, before the first search or change.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._open: dict[str, OpenIndex] = {}
        self._opening = asyncio.Lock()
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._changed: set[str] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def use(self, store_id: str, model: str) -> AsyncIterator[OpenIndex]:
        """The index of a store with the vectors of ``model`` ("" for none), open until the block ends."""
        index = await self._get(store_id, model)
        try:
            yield index
        finally:
            index.users -= 1
            index.last_used = asyncio.get_running_loop().time()

    def changed(self, store_id: str, model: str) -> None:
        """Say that the store's log has grown: it is followed in the background, soon."""
        if self._closed:
            return
        self._changed.add(store_id)
        if store_id not in self._followers:
            task = asyncio.create_task(self._follow(store_id, model), name=f"index {store_id}")
            self._followers[store_id] = task

    async def ready(self, store_id: str, model: str, listener: Listener | None = None) -> None:
        """Wait until all of the log can be found; ``listener`` hears of a build in `Status` events."""
        async with self.use(store_id, model) as index:
            await index.catch_up(None, listener)

    async def drop(self, store_id: str) -> None:
        """Close and delete the index of a store that has been deleted."""
        follower = self._followers.get(store_id)
        if follower is not None:
            self._followers.pop(store_id, None)
            follower.cancel()
            await asyncio.wait([follower])
        self._changed.discard(store_id)
        async with self._opening:
            index = self._open.pop(store_id, None)
            if index is not None:
                await index.close()
        await asyncio.to_thread(shutil.rmtree, self._folder / store_id, True)

    async def sweep(self, store_ids: Collection[str]) -> None:
        """Delete the indexes of stores that no longer exist; ``store_ids`` are those that do."""

        def work() -> None:
            if self._folder.is_dir():
                for path in self._folder.iterdir():
                    if path.name.startswith("vs_") and path.name not in store_ids:
                        shutil.rmtree(path, ignore_errors=True)

        await asyncio.to_thread(work)

    async def close(self) -> None:
        """Stop following, save and close everything."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        tasks = [*self._followers.values(), *([self._reaping] if self._reaping else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for index in self._open.values():
            await index.close()
        self._open.clear()

    async def _get(self, store_id: str, model: str) -> OpenIndex:
        index = self._open.get(store_id)
        if index is None or index.model != model:
            async with self._opening:
                index = self._open.get(store_id)
                if index is not None and index.model != model:
                    await self._shut(index)
                    index = None
                if index is None:
                    await self._evict(OPEN - 1)
                    index = OpenIndex(self._database, store_id, model, self._folder / store_id)
                    self._open[store_id] = index
                    self._arm()
        self._open[store_id] = self._open.pop(store_id)  # the most recently used stands last
        index.users += 1
        return index

    async def _follow(self, store_id: str, model: str) -> None:
        try:
            while store_id in self._changed:
                await asyncio.sleep(COALESCE)
                self._changed.discard(store_id)
                try:
                    await self.ready(store_id, model)
                except PorticoError as error:
                    # The log keeps what is missing: the next search or change tries again and tells why.
                    logger.warning("the index of %s is behind: %s", store_id, error.message)
                except Exception:
                    logger.exception("the index of %s is behind", store_id)
        finally:
            self._followers.pop(store_id, None)

    async def _evict(self, keep: int, older_than: float = float("inf")) -> None:
        """Close unused indexes, the least recently used first, until ``keep`` are left."""
        for index in list(self._open.values()):
            if len(self._open) <= keep:
                return
            if index.users == 0 and index.last_used < older_than:
                await self._shut(index)

    async def _shut(self, index: OpenIndex) -> None:
        await index.unused()
        self._open.pop(index.store_id, None)
        await index.close()

    def _arm(self) -> None:
        """Look for idle indexes now and then, as long as any is open."""
        if self._reaper is None and not self._closed:
            self._reaper = asyncio.get_running_loop().call_later(IDLE / 2, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        self._reaping = asyncio.create_task(self._close_idle(), name="idle indexes")

    async def _close_idle(self) -> None:
        async with self._opening:
            await self._evict(0, asyncio.get_running_loop().time() - IDLE)
        if self._open:
            self._arm()
