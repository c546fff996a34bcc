"""The indexes of all stores: opened on demand, updated in the background, closed when idle."""

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
from portico_server.db import stores
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.store_index import EMBEDDED, IndexName, indexes_of
from portico_server.features.readers.pool import TermPrefetch
from portico_server.features.stores.index.embedded import FOLDERS, EmbeddedVectors
from portico_server.features.stores.index.handle import LEXICAL, IndexHandle
from portico_server.features.stores.index.offset import is_outdated

logger = logging.getLogger(__name__)

COALESCE_S = 0.1
"""Time, in seconds, for which changes are collected, because a commit needs about twenty fsyncs regardless of its
size.
"""

MAX_COALESCE_S = 2.0
"""Maximum time, in seconds, for which changes are collected while more arrive. A search does not wait for this time,
because it updates the index itself.
"""

IndexKey: TypeAlias = tuple[str, str]
"""A store's id and the name of one of its groups."""

MAX_OPEN_INDEXES = 16
"""Maximum number of open indexes."""

MAX_REMOVED_STORES = 1_000
"""Number of removed stores that are remembered, so that unfinished work cannot create their indexes again."""

IDLE_CLOSE_S = 600.0
"""Seconds without use after which an index is closed."""


class IndexManager:
    """The indexes of all groups of all stores, opened on demand. The manager owns all their tasks.

    The index of a store's default group is in ``folder``/STORE, and those of other groups are in subfolders. Creating
    a manager is cheap: it reads no files and imports no large package before the first search or change.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self.ahead = TermPrefetch()
        """A buffer in which readers of documents put terms that they have computed for the indexes."""
        self._open: dict[IndexKey, IndexHandle] = {}
        self._opening = asyncio.Lock()
        self._replays: dict[IndexKey, asyncio.Task[None]] = {}
        self._changed_keys: set[IndexKey] = set()
        self._removed_stores: deque[str] = deque(maxlen=MAX_REMOVED_STORES)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_check: asyncio.Task[None] | None = None
        self._is_closed = False
        self._watchers: list[Callable[[str], None]] = []

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher`` with the id of a store whenever its change log has grown."""
        self._watchers.append(watcher)

    @asynccontextmanager
    async def use(
        self, store_id: str, model: str, group: str = DEFAULT_GROUP, engine: IndexName | None = None
    ) -> AsyncIterator[IndexHandle]:
        """Yield the index of a group with the vectors of ``model`` ("" for none). The index stays open until the block
        ends. ``engine`` is where the vectors are, if the caller has read it.
        """
        index = await self._get((store_id, group), model, engine)
        try:
            yield index
        finally:
            index.users -= 1
            index.last_used = asyncio.get_running_loop().time()

    def note_change(self, store_id: str, model: str, group: str = DEFAULT_GROUP) -> None:
        """Report that the store's change log has grown. The index of the group is then updated in the background."""
        if self._is_closed:
            return
        for watcher in self._watchers:
            watcher(store_id)
        self._schedule_replay((store_id, group), model)

    async def rebuild_if_outdated(self, store_id: str, model: str) -> None:
        """Rebuild a store's index in the background if its version is outdated. Otherwise, the next search would wait
        for the rebuild.
        """
        key = (store_id, DEFAULT_GROUP)
        if await pools.INDEX.run(is_outdated, self._folder_of(key) / LEXICAL) and not self._is_closed:
            self._schedule_replay(key, model)

    def _schedule_replay(self, key: IndexKey, model: str) -> None:
        self._changed_keys.add(key)
        if key not in self._replays:
            task = asyncio.create_task(self._replay(key, model), name=f"index {key[0]} {key[1]}")
            self._replays[key] = task

    async def ready(
        self, store_id: str, model: str, listener: Listener | None = None, group: str = DEFAULT_GROUP
    ) -> None:
        """Wait until searches find all changes in the log. ``listener`` receives `Progressed` events of a build.

        Returns immediately if the store was removed.
        """
        if store_id in self._removed_stores:
            return
        async with self.use(store_id, model, group) as index:
            await index.catch_up(None, listener)

    async def drop(self, store_id: str, group: str | None = None) -> None:
        """Close and delete the index of a removed ``group``, or all indexes of a removed store."""
        if group is None:
            self._removed_stores.append(store_id)
        for key in [key for key in self._replays if _is_of(key, store_id, group)]:
            follower = self._replays.pop(key)
            follower.cancel()
            await asyncio.wait([follower])
        self._changed_keys = {key for key in self._changed_keys if not _is_of(key, store_id, group)}
        async with self._opening:
            for key in [key for key in self._open if _is_of(key, store_id, group)]:
                await self._open.pop(key).close()
        path = self._folder / store_id if group is None else self._folder_of((store_id, group))
        await pools.INDEX.run(shutil.rmtree, path, True)

    async def reset(self, store_id: str) -> None:
        """Close and delete the indexes of an existing store. The next search or `ready` rebuilds them from SQL."""
        async with self._opening:
            for key in [key for key in self._open if _is_of(key, store_id, None)]:
                await self._close_index(self._open[key])
            await pools.INDEX.run(shutil.rmtree, self._folder / store_id, True)

    async def fill(self, store_id: str, model: str, group: str, index: IndexName) -> None:
        """Build the vectors of a group for ``index``, which is in this daemon, while its searches use another."""
        folder = self._folder_of((store_id, group))
        vectors = EmbeddedVectors(self._database, store_id, group, model, folder, index)
        try:
            await vectors.catch_up()
            await vectors.wait_for_graph()
        finally:
            await vectors.close()

    async def delete_other_vectors(self, store_id: str) -> None:
        """Delete the vectors of a store in this daemon that belong neither to its index nor to its next index."""

        def work(folders: Collection[str]) -> None:
            for folder in folders:
                for path in (self._folder / store_id).glob(f"**/{folder}"):
                    shutil.rmtree(path, ignore_errors=True)

        async with self._opening:
            names = await self._database.read(indexes_of, store_id)
            for key, handle in list(self._open.items()):
                if key[0] == store_id and handle.engine not in names:
                    await self._close_index(handle)
            await pools.INDEX.run(work, [folder for index, folder in FOLDERS.items() if index not in names])

    async def reserve(self, store_id: str) -> None:
        """Create the index folder for a store that is about to be created. If the store is never created, the next
        `sweep` deletes the folder.
        """
        await pools.INDEX.run((self._folder / store_id).mkdir, parents=True, exist_ok=True)

    async def sweep(self, store_ids: Collection[str]) -> list[str]:
        """Delete the indexes of all stores that are not in ``store_ids``, the existing stores. Return the ids of the
        deleted ones.
        """

        def work() -> list[str]:
            paths = [path for path in self._folder.glob("vs_*") if path.name not in store_ids]
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)
            return [path.name for path in paths]

        return await pools.INDEX.run(work)

    async def close(self) -> None:
        """Stop background updates, then save and close all indexes."""
        self._is_closed = True
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

    async def _get(self, key: IndexKey, model: str, engine: IndexName | None) -> IndexHandle:
        engine = engine or await self._engine(key[0])
        index = self._open.get(key)
        if index is None or (index.model, index.engine) != (model, engine):
            async with self._opening:
                index = self._open.get(key)
                if index is not None and (index.model, index.engine) != (model, engine):
                    await self._close_index(index)
                    index = None
                if index is None:
                    if key[0] in self._removed_stores:
                        raise NotFound("The store has been deleted.", code="store_not_found", param="store")
                    await self._evict(MAX_OPEN_INDEXES - 1)
                    index = IndexHandle(self._database, *key, model, engine, self._folder_of(key), self.ahead)
                    self._open[key] = index
                    self._schedule_idle_check()
        self._open[key] = self._open.pop(key)  # the most recently used index is last
        index.users += 1
        return index

    async def _engine(self, store_id: str) -> IndexName:
        """Return where a store's vectors are. Another daemon may have moved them."""
        row = await stores.fetch(self._database, store_id)
        return EMBEDDED if row is None else row.index

    async def _replay(self, key: IndexKey, model: str) -> None:
        store_id, group = key
        wait = COALESCE_S
        try:
            while key in self._changed_keys:
                await asyncio.sleep(wait)
                wait = min(4 * wait, MAX_COALESCE_S)
                self._changed_keys.discard(key)
                try:
                    await self.ready(store_id, model, group=group)
                except PorticoError as error:
                    # The log keeps the missing changes: the next search or change retries the update and
                    # reports the reason of a failure.
                    logger.warning("the index of %s is behind: %s", store_id, error.message)
                except Exception:
                    logger.exception("the index of %s is behind", store_id)
        finally:
            self._replays.pop(key, None)

    async def _evict(self, keep: int, older_than: float = float("inf")) -> None:
        """Close unused indexes, the least recently used first, until ``keep`` indexes remain."""
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
        """Check for idle indexes at intervals while any index is open."""
        if self._idle_timer is None and not self._is_closed:
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
