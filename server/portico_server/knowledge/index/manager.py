"""The indexes of all stores: opened on demand, brought up to date in the background, closed when idle."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from portico_server.core import pools
from portico_server.core.context import Listener
from portico_server.core.errors import NotFound, PorticoError
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.knowledge.index.handle import LEXICAL, IndexHandle
from portico_server.knowledge.index.offset import is_outdated
from portico_server.knowledge.parse.pool import TermPrefetch

logger = logging.getLogger(__name__)

COALESCE_S = 0.1
"""Seconds in which changes are collected: a commit costs some twenty fsyncs, however much it brings."""

MAX_COALESCE_S = 2.0
"""The same while changes keep coming. A search never waits for it: it brings the index up to date itself."""

IndexKey: TypeAlias = tuple[str, str]
"""A store's id, and the name of one of its groups."""

MAX_OPEN_INDEXES = 16
"""Indexes kept open."""

MAX_REMOVED_STORES = 1_000
"""Removed stores that are remembered: what was still at work for one must not bring its index back."""

IDLE_CLOSE_S = 600.0
"""Seconds after its last use at which an index is closed."""


class IndexManager:
    """The indexes of all groups of all stores, opened when they are needed. It owns all their tasks.

    That of the group which every store has lies in ``folder``/STORE, another one in a folder in there. Cheap to make:
    nothing is read, and nothing heavy imported, before the first search or change.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self.ahead = TermPrefetch()
        """Where whoever reads documents may put their terms."""
        self._open: dict[IndexKey, IndexHandle] = {}
        self._opening = asyncio.Lock()
        self._replays: dict[IndexKey, asyncio.Task[None]] = {}
        self._changed: set[IndexKey] = set()
        self._removed_stores: deque[str] = deque(maxlen=MAX_REMOVED_STORES)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_check: asyncio.Task[None] | None = None
        self._closed = False
        self._watchers: list[Callable[[str], None]] = []

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher`` with the id of a store whenever its log has grown."""
        self._watchers.append(watcher)

    @asynccontextmanager
    async def use(self, store_id: str, model: str, group: str = DEFAULT_GROUP) -> AsyncIterator[IndexHandle]:
        """The index of a group with the vectors of ``model`` ("" for none), open until the block ends."""
        index = await self._get((store_id, group), model)
        try:
            yield index
        finally:
            index.users -= 1
            index.last_used = asyncio.get_running_loop().time()

    def changed(self, store_id: str, model: str, group: str = DEFAULT_GROUP) -> None:
        """Report that the store's log has grown: the group's index soon follows in the background."""
        if self._closed:
            return
        for watcher in self._watchers:
            watcher(store_id)
        self._schedule_replay((store_id, group), model)

    async def rebuild_if_outdated(self, store_id: str, model: str) -> None:
        """Build the index of a store in the background if it is of an earlier version of ours: a search would wait."""
        key = (store_id, DEFAULT_GROUP)
        if await pools.INDEX.run(is_outdated, self._folder_of(key) / LEXICAL) and not self._closed:
            self._schedule_replay(key, model)

    def _schedule_replay(self, key: IndexKey, model: str) -> None:
        self._changed.add(key)
        if key not in self._replays:
            task = asyncio.create_task(self._replay(key, model), name=f"index {key[0]} {key[1]}")
            self._replays[key] = task

    async def ready(
        self, store_id: str, model: str, listener: Listener | None = None, group: str = DEFAULT_GROUP
    ) -> None:
        """Wait until all of the log can be found; ``listener`` hears of a build in `Progressed` events.

        Of a store that has been removed there is nothing to be found.
        """
        if store_id in self._removed_stores:
            return
        async with self.use(store_id, model, group) as index:
            await index.catch_up(None, listener)

    async def drop(self, store_id: str, group: str | None = None) -> None:
        """Close and delete the index of a ``group`` that has been removed, or all of a store that has been."""
        if group is None:
            self._removed_stores.append(store_id)
        for key in [key for key in self._replays if _is_of(key, store_id, group)]:
            follower = self._replays.pop(key)
            follower.cancel()
            await asyncio.wait([follower])
        self._changed = {key for key in self._changed if not _is_of(key, store_id, group)}
        async with self._opening:
            for key in [key for key in self._open if _is_of(key, store_id, group)]:
                await self._open.pop(key).close()
        path = self._folder / store_id if group is None else self._folder_of((store_id, group))
        await pools.INDEX.run(shutil.rmtree, path, True)

    async def reset(self, store_id: str) -> None:
        """Close and delete the indexes of a store that stays: the next search or `ready` builds them from SQL."""
        async with self._opening:
            for key in [key for key in self._open if _is_of(key, store_id, None)]:
                await self._close_index(self._open[key])
            await pools.INDEX.run(shutil.rmtree, self._folder / store_id, True)

    async def reserve(self, store_id: str) -> None:
        """Make the folder of a store that does not exist yet: should it never, the next `sweep` finds it."""
        await pools.INDEX.run((self._folder / store_id).mkdir, parents=True, exist_ok=True)

    async def sweep(self, store_ids: Collection[str]) -> list[str]:
        """Delete the indexes of stores that do not exist, and name them; ``store_ids`` are those that do."""

        def work() -> list[str]:
            paths = [path for path in self._folder.glob("vs_*") if path.name not in store_ids]
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)
            return [path.name for path in paths]

        return await pools.INDEX.run(work)

    async def close(self) -> None:
        """Stop following, save and close everything."""
        self._closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        tasks = [*self._replays.values(), *([self._idle_check] if self._idle_check else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for index in self._open.values():
            await index.close()
        self._open.clear()

    def _folder_of(self, key: IndexKey) -> Path:
        store_id, group = key
        return (
            self._folder / store_id if group == DEFAULT_GROUP else self._folder / store_id / f"group-{group}"
        )

    async def _get(self, key: IndexKey, model: str) -> IndexHandle:
        index = self._open.get(key)
        if index is None or index.model != model:
            async with self._opening:
                index = self._open.get(key)
                if index is not None and index.model != model:
                    await self._close_index(index)
                    index = None
                if index is None:
                    if key[0] in self._removed_stores:
                        raise NotFound("The store has been removed.", code="store_not_found", param="store")
                    await self._evict(MAX_OPEN_INDEXES - 1)
                    index = IndexHandle(self._database, *key, model, self._folder_of(key), self.ahead)
                    self._open[key] = index
                    self._schedule_idle_check()
        self._open[key] = self._open.pop(key)  # the most recently used stands last
        index.users += 1
        return index

    async def _replay(self, key: IndexKey, model: str) -> None:
        store_id, group = key
        wait = COALESCE_S
        try:
            while key in self._changed:
                await asyncio.sleep(wait)
                wait = min(4 * wait, MAX_COALESCE_S)
                self._changed.discard(key)
                try:
                    await self.ready(store_id, model, group=group)
                except PorticoError as error:
                    # The log keeps what is missing: the next search or change tries again and reports why.
                    logger.warning("the index of %s is behind: %s", store_id, error.message)
                except Exception:
                    logger.exception("the index of %s is behind", store_id)
        finally:
            self._replays.pop(key, None)

    async def _evict(self, keep: int, older_than: float = float("inf")) -> None:
        """Close unused indexes, the least recently used first, until ``keep`` are left."""
        for index in list(self._open.values()):
            if len(self._open) <= keep:
                return
            if index.users == 0 and index.last_used < older_than:
                await self._close_index(index)

    async def _close_index(self, index: IndexHandle) -> None:
        await index.wait_until_unused()
        self._open.pop((index.store_id, index.group), None)
        await index.close()

    def _schedule_idle_check(self) -> None:
        """Look for idle indexes now and then, as long as any is open."""
        if self._idle_timer is None and not self._closed:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_CLOSE_S / 2, self._start_idle_check)

    def _start_idle_check(self) -> None:
        self._idle_timer = None
        self._idle_check = asyncio.create_task(self._close_idle(), name="idle indexes")

    async def _close_idle(self) -> None:
        self.ahead.clear()
        async with self._opening:
            await self._evict(0, asyncio.get_running_loop().time() - IDLE_CLOSE_S)
        if self._open:
            self._schedule_idle_check()


def _is_of(key: IndexKey, store_id: str, group: str | None) -> bool:
    return key[0] == store_id and group in (None, key[1])
