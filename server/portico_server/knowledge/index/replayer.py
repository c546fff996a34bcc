"""Replays a store's change log into one derived index, or builds that index from SQL."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from portico_server.core import pools
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.db import changes, chunks
from portico_server.db.changes import LogEntry, Op
from portico_server.db.database import Database
from portico_server.knowledge.index.offset import DamagedIndex, LogOffset

logger = logging.getLogger(__name__)

MAX_BATCH_CHUNKS = 500
"""Chunks in memory at a time."""

MAX_BATCH_CHANGES = 500
"""Changes applied before what they brought is committed."""


class DerivedIndex(Protocol):
    """What can be built from SQL. Its methods block; one thread changes it at a time. May raise `DamagedIndex`."""

    mark: LogOffset
    has_names: bool
    """Whether it depends on how files are called."""

    def put(self, rows: Sequence[Any], /) -> None: ...

    def delete(self, first: int, last: int, /) -> None: ...

    def commit(self, mark: LogOffset, /) -> None: ...

    def clear(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


D = TypeVar("D", bound=DerivedIndex)


@dataclass(slots=True)
class BuildProgress:
    """Chunks put into an index that is being built; ``total`` is 0 when none is."""

    done: int = 0
    total: int = 0


class LogReplayer(Generic[D]):
    """Keeps the index of one group in step with its store's log.

    ``make`` opens the index in ``folder`` and may raise `DamagedIndex`; ``rows`` reads what is to be put in
    for some chunk ids, without those that are gone.
    """

    def __init__(
        self,
        database: Database,
        store_id: str,
        group: str,
        folder: Path,
        make: Callable[[Path], D],
        rows: Callable[[Sequence[int]], Awaitable[Sequence[Any]]],
    ) -> None:
        self._database = database
        self._store_id = store_id
        self._group = group
        self._folder = folder
        self._make = make
        self._rows = rows
        self._stopping = asyncio.Event()
        self._lock = asyncio.Lock()
        self.index: D | None = None
        """The index, once it has been opened and does not have to be built first."""
        self.progress = BuildProgress()

    @property
    def seq(self) -> int:
        """The number of the last change that can be found; −1 before there is anything to search in."""
        return self.index.mark.seq if self.index is not None else -1

    async def catch_up(self) -> None:
        """Apply what the log has and the index lacks.

        Builds the index from SQL if it is missing, damaged or of another time. Raises `Unavailable` if the
        disk does not let us.
        """
        async with self._lock:
            await self._catch_up()

    async def _catch_up(self) -> None:
        try:
            try:
                await self._advance()
            except DamagedIndex as error:
                logger.warning("the %s index of %s is rebuilt: %s", self._folder.name, self._store_id, error)
                await self._discard()
                await self._advance()
        except OSError as error:
            await self._roll_back()
            raise self._explain(error) from error
        except DamagedIndex as error:
            await self._roll_back()
            raise Unavailable(
                f"The index of store '{self._store_id}' cannot be built in {self._folder}: {error}. "
                "The files of the store are safe; delete that folder and search again.",
                code="index_failed",
            ) from error

    async def discard(self, found: D) -> None:
        """Throw the index away, on disk too, if it is still ``found``, the one in which damage was met."""
        async with self._lock:
            if self.index is found:
                await self._discard()

    async def _discard(self) -> None:
        index, self.index = self.index, None
        await pools.INDEX.run(_delete_index, index, self._folder)

    async def close(self) -> None:
        """End a `catch_up` that is under way, and close the files."""
        self.stop()
        async with self._lock:
            index, self.index = self.index, None
            if index is not None:
                await pools.INDEX.run(index.close)

    def stop(self) -> None:
        """Let a `catch_up` that is under way end early; what it has not committed is done again later."""
        self._stopping.set()

    async def _advance(self) -> None:
        index = self.index
        if index is None:
            index = await pools.INDEX.run(self._make, self._folder)
            if not await self._matches_log(index):
                await self._build(index)
            self.index = index
        while not self._stopping.is_set():
            batch = await self._database.read(
                changes.after, self._store_id, index.mark.seq, MAX_BATCH_CHANGES
            )
            if not batch:
                return
            if batch[0].seq != index.mark.seq + 1:
                raise DamagedIndex("the log does not reach back to it any more")
            highest = index.mark.highest
            for op, first, last in _join_runs(change for change in batch if change.group_name == self._group):
                if self._stopping.is_set():
                    return
                if op == "name" and not index.has_names:
                    continue
                highest = await self._apply(index, op, first, last, highest)
            await pools.INDEX.run(index.commit, index.mark.at(batch[-1], highest))

    async def _matches_log(self, index: D) -> bool:
        """Whether the index was made from this log."""
        if index.mark.seq < 0:
            return False
        change = await self._database.read(changes.at, self._store_id, index.mark.seq)
        return index.mark.matches(change)

    async def _apply(self, index: D, op: Op, first: int, last: int, highest: int) -> int:
        """Let the chunks ``first`` to ``last`` come or go, or come again under another name of their file; the largest
        chunk id that the index has seen.
        """
        # What a build has read may come again in the log that it did not know yet.
        if op == "delete" or first <= highest:
            await pools.INDEX.run(index.delete, first, last)
        if op == "delete":
            return highest
        for i in range(first, last + 1, MAX_BATCH_CHUNKS):
            if self._stopping.is_set():
                break
            rows = await self._rows(range(i, min(i + MAX_BATCH_CHUNKS, last + 1)))
            await pools.INDEX.run(index.put, rows)
        return max(highest, last)

    async def _build(self, index: D) -> None:
        """Fill the index with all that the store has now; changes that come meanwhile are applied later."""
        await pools.INDEX.run(index.clear)
        newest = await self._database.read(changes.newest, self._store_id)
        ids = await self._database.read(chunks.ids, self._store_id, self._group)
        self.progress = BuildProgress(0, len(ids))
        try:
            for i in range(0, len(ids), MAX_BATCH_CHUNKS):
                if self._stopping.is_set():
                    return
                part = ids[i : i + MAX_BATCH_CHUNKS]
                await pools.INDEX.run(index.put, await self._rows(part))
                self.progress.done += len(part)
            highest = ids[-1] if ids else 0
            await pools.INDEX.run(index.commit, index.mark.at(newest, highest))
        finally:
            self.progress = BuildProgress()

    async def _roll_back(self) -> None:
        """After a failure: forget what was not committed; failing that, open the index again next time."""
        if self.index is None:
            return
        try:
            await pools.INDEX.run(self.index.rollback)
        except (DamagedIndex, OSError) as error:
            logger.warning("the index of %s is opened again: %s", self._store_id, error)
            self.index = None

    def _explain(self, error: OSError) -> PorticoError:
        if error.errno == errno.ENOSPC:
            return Unavailable(
                f"The disk that holds {self._folder} is full: the index of this store cannot grow. "
                "What was uploaded is safe; free some space.",
                code="disk_full",
            )
        return Unavailable(
            f"The index of store '{self._store_id}' cannot be written: {error}. Check the permissions of "
            f"{self._folder}.",
            code="index_failed",
        )


def _join_runs(batch: Iterable[LogEntry]) -> Iterator[tuple[Op, int, int]]:
    """Changes as (op, first chunk, last chunk): those of one kind whose chunks follow each other count as one."""
    held: tuple[Op, int, int] | None = None
    for change in batch:
        if held is not None and held[0] == change.op and change.first_chunk == held[2] + 1:
            held = (change.op, held[1], change.last_chunk)
            continue
        if held is not None:
            yield held
        held = (change.op, change.first_chunk, change.last_chunk)
    if held is not None:
        yield held


def _delete_index(index: DerivedIndex | None, folder: Path) -> None:
    if index is not None:
        try:
            index.close()
        except (DamagedIndex, OSError, ValueError) as error:
            logger.debug("a damaged index did not close: %s", error)
    shutil.rmtree(folder, ignore_errors=True)
