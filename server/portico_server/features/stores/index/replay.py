"""Keeps an index in sync with the change log of its store: replays the log, or builds the index from SQL."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.db import changes, chunks
from portico_server.db.changes import LogEntry, Op
from portico_server.db.database import Database
from portico_server.features.stores.index.offset import DamagedIndex, LogOffset

logger = logging.getLogger(__name__)

MAX_BATCH_CHUNKS = 500
"""Maximum number of chunks read into memory at a time."""

MAX_BATCH_CHANGES = 500
"""Maximum number of changes applied before a commit."""


class DerivedIndex(Protocol):
    """An index that can be rebuilt from SQL. Its methods block and can raise `DamagedIndex`. Only one thread changes
    the index at a time.
    """

    mark: LogOffset
    has_names: bool
    """True if the index depends on file names."""

    def put(self, rows: Sequence[Any], /) -> None: ...

    def delete(self, first: int, last: int, /) -> None: ...

    def commit(self, mark: LogOffset, /) -> None: ...

    def clear(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


D = TypeVar("D", bound=DerivedIndex)


@dataclass(slots=True)
class BuildProgress:
    """Number of chunks in an index that is being built; ``total`` is 0 if no build is running."""

    done: int = 0
    total: int = 0


class LogReplayer(Generic[D]):
    """Keeps the index of one group in sync with its store's change log.

    ``make`` opens the index in ``folder`` and can raise `DamagedIndex`. ``rows`` returns the index entries for chunk
    ids and leaves out removed chunks.
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
        """The index, or ``None`` until it is open and built."""
        self.progress = BuildProgress()

    @property
    def seq(self) -> int:
        """Number of the last change that searches can find; −1 before the index can be searched."""
        return self.index.mark.seq if self.index is not None else -1

    async def catch_up(self) -> None:
        """Apply the changes of the log that the index lacks.

        Builds the index from SQL if the index is missing, damaged or of another version. Raises `Unavailable` if the
        disk fails.
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
                f"The index of store '{self._store_id}' cannot be built in {self._folder}: {error}. The "
                "files of the store are safe; delete the folder and search again.",
                code="index_failed",
            ) from error

    async def discard(self, damaged_index: D) -> None:
        """Delete the index, also on disk, if it is still the ``damaged_index`` that the caller used."""
        async with self._lock:
            if self.index is damaged_index:
                await self._discard()

    async def _discard(self) -> None:
        index, self.index = self.index, None
        await pools.INDEX.run(_delete_index, index, self._folder)

    async def close(self) -> None:
        """Stop a running `catch_up`, and close the files."""
        self.stop()
        async with self._lock:
            index, self.index = self.index, None
            if index is not None:
                await pools.INDEX.run(index.close)

    def stop(self) -> None:
        """Make a running `catch_up` return early. Changes that are not committed are applied again later."""
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
                changes.list_after, self._store_id, index.mark.seq, MAX_BATCH_CHANGES
            )
            if not batch:
                return
            if batch[0].seq != index.mark.seq + 1:
                raise DamagedIndex(
                    "the log no longer contains the changes that follow the last change of the index"
                )
            highest = index.mark.highest
            for op, first, last in _join_runs(change for change in batch if change.group_name == self._group):
                if self._stopping.is_set():
                    return
                if op == "name" and not index.has_names:
                    continue
                highest = await self._apply(index, op, first, last, highest)
            await pools.INDEX.run(index.commit, index.mark.at(batch[-1], highest))

    async def _matches_log(self, index: D) -> bool:
        """Return whether the index belongs to this log."""
        if index.mark.seq < 0:
            return False
        change = await self._database.read(changes.at, self._store_id, index.mark.seq)
        return index.mark.matches(change)

    async def _apply(self, index: D, op: Op, first: int, last: int, highest: int) -> int:
        """Add, remove or rename the chunks ``first`` to ``last``. Return the highest chunk id that the index has read
        so far.
        """
        # The log may repeat changes whose chunks the build has already read.
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
        """Fill the index with the current contents of the store. Changes made during the build are applied later."""
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
        await pools.release_memory()

    async def _roll_back(self) -> None:
        """Discard uncommitted changes after a failure. If that fails too, the index is opened again next time."""
        if self.index is None:
            return
        try:
            await pools.INDEX.run(self.index.rollback)
        except (DamagedIndex, OSError) as error:
            logger.warning("the index of %s will be opened again: %s", self._store_id, error)
            self.index = None

    def _explain(self, error: OSError) -> PorticoError:
        if error.errno == errno.ENOSPC:
            return Unavailable(
                f"The disk with {self._folder} is full, so the index of this store cannot grow. Uploaded "
                "files are safe; free some disk space.",
                code="disk_full",
            )
        return Unavailable(
            f"The index of store '{self._store_id}' cannot be written: {error}. Check the permissions of "
            f"{self._folder}.",
            code="index_failed",
        )


def _join_runs(batch: Iterable[LogEntry]) -> Iterator[tuple[Op, int, int]]:
    """Merge changes into (op, first chunk, last chunk). Consecutive chunks with the same operation become one range."""
    joined_run: tuple[Op, int, int] | None = None
    for change in batch:
        if joined_run is not None and joined_run[0] == change.op and change.first_chunk == joined_run[2] + 1:
            joined_run = (change.op, joined_run[1], change.last_chunk)
            continue
        if joined_run is not None:
            yield joined_run
        joined_run = (change.op, change.first_chunk, change.last_chunk)
    if joined_run is not None:
        yield joined_run


def _delete_index(index: DerivedIndex | None, folder: Path) -> None:
    if index is not None:
        try:
            index.close()
        except (DamagedIndex, OSError, ValueError) as error:
            logger.debug("failed to close a damaged index: %s", error)
    shutil.rmtree(folder, ignore_errors=True)
