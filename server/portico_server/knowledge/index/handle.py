"""The open index of one store: one index for words and one for vectors, both updated by a single task.

The index replays the store's change log, or is built from SQL.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Listener
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.db import changes, chunk_vectors, chunks
from portico_server.db.changes import LogEntry, Op
from portico_server.db.database import Database
from portico_server.knowledge.index.offset import DamagedIndex, LogOffset
from portico_server.knowledge.parse.pool import TermPrefetch

if TYPE_CHECKING:
    from portico_server.knowledge.index.lexical import LexicalIndex
    from portico_server.knowledge.index.vector import VectorIndex
from portico_server.knowledge.index.opening import open_lexical, open_vectors

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


logger = logging.getLogger(__name__)

LAG_WAIT_S = 2.0
"""Maximum time in seconds that a search waits for recent commits before it runs without them."""

BUILD_WAIT_S = 30.0
"""Maximum time in seconds that a search waits for an index build before it asks the client to retry."""

LEXICAL = "lexical"
"""Folder of the lexical index, within the folder of the index."""

_REPORT_INTERVAL_S = 0.5
"""Interval between progress events in seconds."""

Ranking = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class FoundSides:
    """Candidates found by words and by vectors. ``between`` is the `time.perf_counter` time after the search by
    words.
    """

    lexical: Ranking
    dense: Ranking
    between: float


class IndexHandle:
    """The index of one group, as `IndexManager.use` yields it. ``model`` is the model whose vectors are searched, ""
    for none.
    """

    def __init__(
        self, database: Database, store_id: str, group: str, model: str, folder: Path, ahead: TermPrefetch
    ) -> None:
        self.store_id = store_id
        self.group = group
        self.model = model
        self.last_used = asyncio.get_running_loop().time()
        self._users = 0
        self._free = asyncio.Event()
        self._free.set()
        self._database = database
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._graph: asyncio.Task[None] | None = None

        async def texts(chunk_ids: Sequence[int]) -> Sequence[Any]:
            return await database.read(chunks.indexed_texts, chunk_ids)

        async def embeddings(chunk_ids: Sequence[int]) -> Sequence[Any]:
            return await database.read(chunk_vectors.read_vectors, model, chunk_ids)

        self._lexical = LogReplayer(
            database, store_id, group, folder / LEXICAL, partial(open_lexical, ahead=ahead), texts
        )
        self._vectors = (
            LogReplayer(
                database, store_id, group, folder / "vector" / _model_folder(model), open_vectors, embeddings
            )
            if model
            else None
        )

    @property
    def users(self) -> int:
        """Number of searches that use this index."""
        return self._users

    @users.setter
    def users(self, count: int) -> None:
        self._users = count
        if count:
            self._free.clear()
        else:
            self._free.set()

    async def wait_until_unused(self) -> None:
        """Wait until no search uses this index."""
        while self._users:
            await self._free.wait()

    @property
    def has_vectors(self) -> bool:
        """Return whether the index has vectors to search."""
        return self._vectors is not None and self._vectors.index is not None and len(self._vectors.index) > 0

    async def catch_up(
        self, limit: float | None, listener: Listener | None = None, last_change: int | None = None
    ) -> int:
        """Wait at most ``limit`` seconds until all commits can be found, and return the number of missing changes.

        If ``limit`` is set and the index is being opened or built, wait up to `BUILD_WAIT_S` instead. After that,
        searches use only words if the lexical index is ready; otherwise, raise `Unavailable` with a request to retry.
        ``listener`` receives `Progressed` events of a build. ``last_change`` is the store's newest change, if the
        caller has read it.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        if last_change is not None and last_change <= self._behind():
            return 0
        while lag := await self._lag():
            if self._stopping:
                raise Unavailable("The daemon is shutting down.", code="shutting_down")
            task = self._advancing_task()
            end = None if limit is None else begin + (limit if self._behind() >= 0 else BUILD_WAIT_S)
            wait = _REPORT_INTERVAL_S if end is None else max(0.0, min(_REPORT_INTERVAL_S, end - loop.time()))
            await asyncio.wait({task}, timeout=wait)
            if task.done():
                task.result()
                continue
            if listener is not None:
                await self._report(listener)
            if end is not None and loop.time() >= end:
                if self._lexical.seq >= 0:
                    return lag
                raise self._still_building()
        return 0

    async def search_words(self, text: str, limit: int, files: Sequence[str] | None) -> Ranking:
        """Return the best chunks by words; see `LexicalIndex.search`. Rebuilds a damaged index first."""
        for _ in range(2):
            index = self._lexical.index
            if index is None:
                await self.catch_up(LAG_WAIT_S)
                index = self._lexical.index
            if index is None:
                raise self._still_building()
            try:
                return await pools.SEARCH.run(index.search, text, limit, files)
            except DamagedIndex:
                await self._lexical.discard(index)
        raise self._still_building()

    def postings(
        self, tokens: Sequence[tuple[str, str]], limit: int, files: Sequence[str] | None
    ) -> Sequence[frozenset[int] | None]:
        """Return the chunks of each term; see `LexicalIndex.postings`. Blocks.

        A missing or damaged index has no chunks. The next search rebuilds it.
        """
        index = self._lexical.index
        if index is not None:
            with suppress(DamagedIndex):
                return index.postings(tokens, limit, files)
        return [frozenset()] * len(tokens)

    async def search(
        self,
        text: str,
        vector: bytes,
        limit: int,
        files: Sequence[str] | None,
        permitted_ranges: Sequence[tuple[int, int]] | None,
    ) -> FoundSides:
        """Run `search_words` and `search_vectors` one after another in one thread.

        Running them in parallel would save less time than a second thread switch costs.
        """

        def search_both(lexical: LexicalIndex, vectors: VectorIndex) -> FoundSides:
            words = lexical.search(text, limit, files)
            between = perf_counter()
            return FoundSides(words, vectors.search(vector, limit, permitted_ranges), between)

        lexical = self._lexical.index
        vectors = self._vectors.index if self._vectors is not None else None
        if lexical is not None and vectors is not None:
            try:
                return await pools.SEARCH.run(search_both, lexical, vectors)
            except DamagedIndex:
                await self._lexical.discard(lexical)
        words = await self.search_words(text, limit, files)
        return FoundSides(words, await self.search_vectors(vector, limit, permitted_ranges), perf_counter())

    async def search_vectors(
        self, vector: bytes, limit: int, permitted_ranges: Sequence[tuple[int, int]] | None
    ) -> Ranking:
        """Return the chunks with the nearest vectors; see `VectorIndex.search`."""
        index = self._vectors.index if self._vectors is not None else None
        if index is None:
            return []
        return await pools.SEARCH.run(index.search, vector, limit, permitted_ranges)

    async def close(self) -> None:
        """Stop running work, save the index, and close the files."""
        self._stopping = True
        self._lexical.stop()
        if self._vectors is not None:
            self._vectors.stop()
            if self._vectors.index is not None:
                self._vectors.index.stop()
        under_way = {task for task in (self._task, self._graph) if task is not None}
        if under_way:
            await asyncio.wait(under_way)
        await self._lexical.close()
        if self._vectors is not None:
            await self._vectors.close()

    async def _lag(self) -> int:
        """Return the number of changes that at least one of the two indexes lacks; at least 1 if an index does not
        exist yet.
        """
        last = await self._database.read(changes.last, self.store_id)
        return max(0, last - self._behind())

    def _behind(self) -> int:
        """Return the number of the last change that both indexes contain; -1 if an index does not exist yet."""
        return min([self._lexical.seq, *([self._vectors.seq] if self._vectors else [])])

    def _advancing_task(self) -> asyncio.Task[None]:
        """Return the task that updates both indexes; start it if it is not running."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._advance(), name=f"catch up {self.store_id}")
            self._task.add_done_callback(_log_failure)
        return self._task

    async def _advance(self) -> None:
        followers: list[LogReplayer[Any]] = [self._lexical, *([self._vectors] if self._vectors else [])]
        results = await asyncio.gather(
            *(follower.catch_up() for follower in followers), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        chunks = self._vectors.index if self._vectors is not None else None
        building = self._graph is not None and not self._graph.done()
        if chunks is not None and chunks.wants_graph and not building and not self._stopping:
            self._graph = asyncio.create_task(_build_graph(chunks), name=f"graph {self.store_id}")
            self._graph.add_done_callback(_log_failure)

    async def _report(self, listener: Listener) -> None:
        """Report the progress of a build, measured by the lexical index: reading vectors takes much less time than
        indexing words.
        """
        progress = self._lexical.progress
        if progress.total:
            await listener(Progressed("index", "building the index", progress.done, progress.total, "chunks"))

    def _still_building(self) -> Unavailable:
        progress = self._lexical.progress
        share = f" ({100 * progress.done // progress.total} % done)" if progress.total else ""
        return Unavailable(
            f"The index of this store is being built{share}. Retry the search in a few seconds.",
            code="index_building",
            retry_after=5,
        )


async def _build_graph(vectors: VectorIndex) -> None:
    await pools.INDEX.run(vectors.build)
    await pools.release_memory()


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log the error that ended a task, because nobody may be waiting for the task anymore."""
    if not task.cancelled() and (error := task.exception()) is not None:
        is_known = isinstance(error, PorticoError)
        logger.warning("%s: %s", task.get_name(), error, exc_info=None if is_known else error)


def _model_folder(model: str) -> str:
    """Return a separate folder name for each model, so that the vectors of one model are never read as those of
    another.
    """
    return hashlib.sha256(model.encode()).hexdigest()[:16]
