"""Indexing: reads, chunks and embeds files, writes the result in one transaction, and resumes after an interruption."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import field
from weakref import WeakValueDictionary

from portico.wire import JSON, Progressed, StepFinished, StepStarted
from portico_server.blobs.place import StorageUnavailable
from portico_server.core import pools, work_slots
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, PorticoError, TooLarge
from portico_server.core.histogram import Histogram
from portico_server.core.principal import SYSTEM
from portico_server.db import changes, groups
from portico_server.db import stores as rows
from portico_server.db.chunks import NewChunk
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.indexed import IndexedChunks
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.features.chunkers.chunkers import needs_model
from portico_server.features.chunkers.document import Unreadable
from portico_server.features.files.files import FileStorage
from portico_server.features.readers.formats import format_of
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.readers.workers import WorkersUnavailable
from portico_server.features.stores.embedding import embed_texts
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.ingest_target import ChunkTarget, GroupTarget, StoreTarget
from portico_server.features.stores.partial_file import ChunksDifferError, PartialFile
from portico_server.features.stores.write_queue import (
    LOOK_INTERVAL_S,
    MAX_BATCH_CHUNKS,
    MAX_TURN_S,
    MAX_WAITING_FILES,
    FileFeed,
    ReadChunks,
    WriteQueue,
)
from portico_server.runs.run import at_expense_of

logger = logging.getLogger(__name__)

DAEMON_ERROR_CODES = ("disk_full", "database_damaged", "database_error", "busy", "shutting_down")
"""Codes of errors that the daemon causes, not a file. They end the run, and its files wait for the next run."""

LONG_RUN_S = 5.0
"""Duration, in seconds, after which a run is long enough for its memory to be worth releasing."""

_PROBE = "water"
"""Text that is embedded to check whether the embedding model fails for any text or only for the text of a file."""


class _ModelFails(PorticoError):
    """The embedding model fails for every text. The cause is therefore not the file, and no file can be indexed."""


@dataclass(slots=True)
class IngestTally:
    """The progress of a run."""

    done: int = 0
    failed: int = 0
    total: int = 0
    reading: dict[str, str] = field(default_factory=dict)
    """The files being read, by file id: the file name, and for a long text the percentage that has been written."""

    def status(self) -> Progressed:
        """Return the progress of the run; the message names the file that has been read for longest."""
        message = next(iter(self.reading.values()), "")
        return Progressed("index", message, done=self.done, total=self.total, unit="files")


class Ingest:
    """Processes the ``in_progress`` files of a store, ``workers`` at a time.

    A file that cannot be read is marked ``failed`` with a message, and the others continue. If the embedding model
    fails permanently for a file, the file fails too, because a store with an embedding model must not silently lack
    vectors for some files. A store without an embedding model is indexed by words alone.

    If the model fails even for a single word, or no remote worker can be started, all waiting files and the run fail,
    and the next sync retries them.
    """

    def __init__(
        self,
        database: Database,
        files: FileStorage,
        readers: ReaderPool,
        indexes: IndexManager,
        *,
        workers: int,
    ) -> None:
        self._database = database
        self._files = files
        self._readers = readers
        self._indexes = indexes
        self._workers = max(1, workers)
        self.ended: Counter[str] = Counter()
        """Number of files processed since startup, by result: ``completed`` or ``failed``."""
        self.seconds = Histogram()
        """Time per file, in seconds."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting_counts: Counter[str] = Counter()
        """Number of runs that wait for the lock of each store."""
        self._reread: Counter[str] = Counter()
        """Number of active `rereading` contexts for each store, during which the store's owner pays for reading its
        files.
        """

    async def run(
        self, store: StoreRow, context: Context, *, has_changed: bool = False, is_mirrored: bool = False
    ) -> JSON:
        """Index until no files wait and searches find all files. Return how many files were indexed and how many
        failed.

        ``has_changed`` means that the caller has changed the store itself, so the indexes must be updated even if no
        file waits. ``is_mirrored`` indexes only mirrored files and leaves other files to another run.
        """
        began = time.perf_counter()
        tally, in_groups = IngestTally(), IngestTally()
        store_row: StoreRow | None = store
        while store_row is not None and await self._turn(
            store_row, tally, in_groups, context, is_mirrored=is_mirrored
        ):
            store_row = await self._database.read(rows.get, store.id)
        if store_row is None:
            return {}
        store = store_row
        if tally.done or has_changed:
            await self._indexes.ready(store.id, store.embedding_model, context.emit)
        if time.perf_counter() - began > LONG_RUN_S:
            await pools.release_memory()
        result: dict[str, JSON] = {"indexed": tally.done - tally.failed, "failed": tally.failed}
        if in_groups.total:
            result |= {"in_groups": in_groups.done - in_groups.failed, "failed_in_groups": in_groups.failed}
        return result

    @contextmanager
    def rereading(self, store_id: str) -> Iterator[None]:
        """While the context is active, charge the owner of the store instead of the files' uploaders, because the
        files are read again without a new upload.
        """
        self._reread[store_id] += 1
        try:
            yield
        finally:
            self._reread[store_id] -= 1
            if not self._reread[store_id]:
                del self._reread[store_id]

    def _at_expense(self, row: StoreFileRow, target: ChunkTarget, context: Context) -> Context:
        """Return a context that charges model calls for a file to the key that pays for it; see `ChunkTarget.payer`."""
        key = target.owner if row.store_id in self._reread else target.payer(row)
        return at_expense_of(context, key or SYSTEM.id)

    async def _turn(
        self,
        store: StoreRow,
        tally: IngestTally,
        in_groups: IngestTally,
        context: Context,
        *,
        is_mirrored: bool,
    ) -> bool:
        """Index while this run holds the store's lock. Return whether files remain because another run waits for the
        lock.
        """
        async with self.writing(store.id):
            until = time.monotonic() + MAX_TURN_S
            now = await self._database.read(rows.get, store.id)
            if now is None:
                return True  # the store was deleted, which the caller detects
            store = now  # read again, because another run may have changed the store's embedding model
            target = StoreTarget(store, self._database, self._indexes)
            gives_way = False

            async def find_waiting() -> Sequence[StoreFileRow]:
                return await self._database.read(rows.waiting, store.id, MAX_WAITING_FILES)

            def is_over(any_mirrored: bool) -> bool:
                nonlocal gives_way
                if is_mirrored and not any_mirrored:
                    return True
                gives_way = gives_way or (store.id in self._waiting_counts and time.monotonic() >= until)
                return gives_way

            feed = FileFeed(find_waiting, is_over)
            try:
                while fresh := await feed.begin():
                    await self._index_files(feed, fresh, target, tally, context)
            except (_ModelFails, WorkersUnavailable) as error:
                await self._fail_all(store.id, target, error)
                raise _failure(store, error) from error
            tally.total -= feed.left
            if gives_way and feed.left:
                return True
            for group in await self._database.read(groups.of_store, store.id):
                # `GroupGenerator` generates groups that need a model, in separate runs
                if not needs_model(group.chunking):
                    await self._fill_group(store, group, in_groups, context)
            await self._database.write(changes.compact, store.id)
            return False

    async def _fail_all(self, store_id: str, target: ChunkTarget, error: PorticoError) -> None:
        """Mark every waiting file as failed, so that no file stays in progress without being processed."""
        while file_rows := await self._database.read(rows.waiting, store_id, 1_000):
            for row in file_rows:
                await target.fail(row, "server_error", target.failure(row, error), keep=True)

    def write_lock(self, store_id: str) -> asyncio.Lock:
        """Return the lock for writing the chunks or vectors of a store.

        An ingest, a sync and a change of the embedding model may be requested concurrently; the lock lets only one of
        them write at a time. The lock exists only while a run uses it.
        """
        return self._locks.setdefault(store_id, asyncio.Lock())

    @asynccontextmanager
    async def writing(self, store_id: str) -> AsyncIterator[None]:
        """Hold `write_lock`, also against other daemons on the database. An ingest that has held the lock for long
        releases it for runs of this daemon that wait here.
        """
        self._waiting_counts[store_id] += 1
        try:
            lock = self.write_lock(store_id)
            await lock.acquire()
        finally:
            self._waiting_counts[store_id] -= 1
            if not self._waiting_counts[store_id]:
                del self._waiting_counts[store_id]
        try:
            async with self._database.exclusive(f"chunks of {store_id}"):
                yield
        finally:
            lock.release()

    async def _fill_group(
        self, store: StoreRow, group: GroupRow, tally: IngestTally, context: Context
    ) -> None:
        """Create the chunks of a group other than the default, for all files that the group lacks."""
        target = GroupTarget(group, store, self._database, self._indexes)
        done_count = tally.done

        async def find_waiting() -> Sequence[StoreFileRow]:
            if await self._database.read(groups.get, store.id, group.name) != group:
                return ()  # the group was removed or rebuilt, so the next run handles it
            return await self._database.read(groups.waiting_files, group, MAX_WAITING_FILES)

        feed = FileFeed(find_waiting)
        try:
            while fresh := await feed.begin():
                await self._index_files(feed, fresh, target, tally, context)
        except (_ModelFails, WorkersUnavailable) as error:
            while file_rows := await find_waiting():
                for row in file_rows:
                    await target.fail(row, "server_error", target.failure(row, error))
            raise _failure(store, error) from error
        if tally.done > done_count and await self._database.read(groups.get, store.id, group.name) == group:
            await self._indexes.ready(store.id, target.model, context.emit, group.name)

    async def _index_files(
        self,
        feed: FileFeed,
        fresh: Sequence[StoreFileRow],
        target: ChunkTarget,
        tally: IngestTally,
        context: Context,
    ) -> None:
        """Read the waiting files and new ones concurrently, and write the results in batches.

        Each uploader may use all readers, and the readers alternate between uploaders. Slow files therefore delay only
        other files of the same uploader.
        """
        gathering = WriteQueue()
        dropped_files: set[str] = set()

        async def read(row: StoreFileRow, *, is_resumed: bool) -> None:
            work_slots.KEY.set(target.owner or row.whose or "")
            tally.reading[row.file_id] = row.filename
            partial = await PartialFile.find(self._database, row, target.model) if is_resumed else None
            try:
                await self._read(row, target, gathering, dropped_files, context, partial)
            except ChunksDifferError:
                await self._read(row, target, gathering, dropped_files, context)

        async def read_all(fresh: Sequence[StoreFileRow]) -> None:
            async with asyncio.TaskGroup() as readers:
                reading: dict[asyncio.Task[None], StoreFileRow] = {}
                resumed_files: set[str] = set()
                while True:
                    if fresh:
                        resumed_files |= await target.partial_files(fresh)
                        tally.total += len(fresh)
                        await context.emit(tally.status())
                    for row in feed.take(reading.values(), self._workers):
                        task = readers.create_task(read(row, is_resumed=row.file_id in resumed_files))
                        reading[task] = row
                    if not reading:
                        break
                    tasks, _ = await asyncio.wait(
                        reading, timeout=LOOK_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in tasks:
                        del reading[task]
                    fresh = await feed.look()
            gathering.end()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read_all(fresh))
                while batch := await gathering.take():
                    batch = [item for item in batch if item.row.file_id not in dropped_files]
                    dropped_files |= await self._write(batch, target, context)
                    for file_id in dropped_files:
                        tally.reading.pop(file_id, None)
                    await self._report(batch, tally, context)
        except BaseExceptionGroup as errors:
            exception_group, other_errors = errors.split(PorticoError)
            if exception_group is None or other_errors is not None:
                raise
            raise _first(exception_group) from None

    async def _read(
        self,
        row: StoreFileRow,
        target: ChunkTarget,
        gathering: WriteQueue,
        dropped_files: Collection[str],
        context: Context,
        partial: PartialFile | None = None,
    ) -> None:
        """Read and chunk one file, and pass the chunks on to be written. An unreadable file is passed on with a
        message instead.

        For a ``partial`` file, only the chunks after the existing ones are passed on. Raises `ChunksDifferError`
        before anything is passed on.
        """
        began = time.perf_counter()
        await context.emit(StepStarted(f"index/{row.filename}"))
        first, used_bytes = partial is None, 0
        if partial is not None:
            target.resume_after(row, partial.weight)
        chunks: list[NewChunk] = []
        chunking, charged_context = target.chunking(row), self._at_expense(row, target, context)
        try:
            async with (
                self._files.open(row.sha256) as path,
                aclosing(
                    self._readers.read(path, row.filename, chunking, charged_context, is_indexed=True)
                ) as runs,
            ):
                async for parts in runs:
                    new = [NewChunk(part.text, part.place) for part in parts]
                    chunks += new if partial is None else await partial.missing(new)
                    used_bytes += sum(len(part.text.encode()) for part in parts)
                    while len(chunks) > MAX_BATCH_CHUNKS:
                        await gathering.put(
                            ReadChunks(
                                row, began, chunks[:MAX_BATCH_CHUNKS], first, last=False, used=used_bytes
                            )
                        )
                        chunks, first = chunks[MAX_BATCH_CHUNKS:], False
                    if row.file_id in dropped_files:
                        return
            if partial is not None:
                partial.end()
            await gathering.put(ReadChunks(row, began, chunks, first, used=used_bytes))
        except Unreadable as error:
            message = f"{row.filename} {error.message}"
            await gathering.put(ReadChunks(row, began, first=first, code=error.code, message=message))
        except StorageUnavailable as error:
            message = f"{row.filename} could not be read. {error.message}"
            await gathering.put(ReadChunks(row, began, first=first, code="server_error", message=message))

    async def _write(self, batch: Sequence[ReadChunks], target: ChunkTarget, context: Context) -> set[str]:
        """Embed and write the chunks of a batch, and record failures. Return the ids of the files for which no more
        chunks need to be read.
        """
        dropped_files: set[str] = set()
        await self._take_room(batch, target)
        vectors: dict[int, Sequence[bytes]] = {}
        for part in self._by_payer(batch, target):
            charged_context = self._at_expense(part[0].row, target, context)
            vectors |= await self._vectors(part, target, charged_context)
        good: list[IndexedChunks] = []
        for item in batch:
            if item.row.file_id in dropped_files:
                continue
            if item.message is None:
                data = vectors.get(id(item))
                good.append(IndexedChunks(item.row, item.chunks, data, item.first, item.last, item.used))
                continue
            logger.warning("store %s: %s", item.row.store_id, item.message)
            # No chunks of a failed file are added. Its existing chunks are removed unless the next attempt
            # can continue after them.
            good = [
                indexed_chunks for indexed_chunks in good if indexed_chunks.row.file_id != item.row.file_id
            ]
            dropped_files.add(item.row.file_id)
            await target.fail(item.row, item.code, item.message, keep=item.keep)
        if good:
            kept_files = await target.put(good)
            dropped_files |= {item.row.file_id for item in good} - kept_files
        return dropped_files

    def _by_payer(self, batch: Sequence[ReadChunks], target: ChunkTarget) -> Iterable[list[ReadChunks]]:
        """Group the readable files of a batch by the key that pays for their embeddings."""
        chunks: dict[str | None, list[ReadChunks]] = {}
        for item in batch:
            if item.message is None:
                chunks.setdefault(target.payer(item.row), []).append(item)
        return chunks.values()

    async def _take_room(self, batch: Sequence[ReadChunks], target: ChunkTarget) -> None:
        """Mark the files as failed if their chunks would exceed the storage limit of the store's owner."""
        read = [item for item in batch if item.message is None]
        size = sum(len(chunk.text.encode()) for item in read for chunk in item.chunks)
        try:
            await self._files.take_room(target.owner, size)
        except TooLarge as error:
            for item in read:
                item.code, item.message, item.keep = "server_error", target.failure(item.row, error), True

    async def _vectors(
        self, batch: Sequence[ReadChunks], target: ChunkTarget, context: Context
    ) -> Mapping[int, Sequence[bytes]]:
        """Return the vectors of each item of a batch by the ``id()`` of the item. An item that cannot be embedded gets
        a message.
        """
        if not target.model:
            return {}
        try:
            texts = [chunk.text for item in batch for chunk in item.chunks]
            flat = await embed_texts(texts, target.model, context)
        except PorticoError as error:
            if error.code in DAEMON_ERROR_CODES:
                raise  # the next file would fail too, and the failure of this file could not be stored
            await _probe(target.model, error, context)
            if len({item.row.file_id for item in batch}) > 1:
                # Only one of the files may cause the failure, so each item is embedded separately.
                return {
                    key: data
                    for item in batch
                    for key, data in (await self._vectors([item], target, context)).items()
                }
            for item in batch:
                item.code, item.message = "server_error", target.failure(item.row, error)
                item.keep = True
            return {}
        vectors_by_item: dict[int, Sequence[bytes]] = {}
        begin = 0
        for item in batch:
            vectors_by_item[id(item)] = flat[begin : begin + len(item.chunks)]
            begin += len(item.chunks)
        return vectors_by_item

    async def _report(self, batch: Sequence[ReadChunks], tally: IngestTally, context: Context) -> None:
        """Count the completed files, and report the progress of the run."""
        for item in batch:
            if item.last or item.message is not None:
                tally.reading.pop(item.row.file_id, None)
                tally.done += 1
                tally.failed += item.message is not None
                self.ended["failed" if item.message is not None else "completed"] += 1
                took = (time.perf_counter() - item.began) * 1e3
                self.seconds.observe(took / 1e3)
                await context.emit(StepFinished(f"index/{item.row.filename}", took, item.message))
            elif item.row.file_id in tally.reading:
                tally.reading[item.row.file_id] = _progress(item)
        if batch:
            await context.emit(tally.status())


def _progress(item: ReadChunks) -> str:
    """Return the name of a partly written file, for a text file with the percentage of bytes written."""
    form = format_of(item.row.filename)
    if not item.row.bytes or (form is not None and not form.media_type.startswith("text/")):
        return item.row.filename
    return f"{item.row.filename} {min(99, 100 * item.used // item.row.bytes)} %"


async def _probe(model: str, error: PorticoError, context: Context) -> None:
    """Raise `_ModelFails` if ``model``, which has failed with ``error``, fails even for a single word."""
    try:
        await embed_texts([_PROBE], model, context)
    except PorticoError as probe_error:
        if probe_error.code in DAEMON_ERROR_CODES:
            raise
        raise _ModelFails(error.message, code=error.code) from probe_error


def _failure(store: StoreRow, error: PorticoError) -> EngineFailed:
    """Return the error with which the run fails if no file can be indexed."""
    reason = (
        "its embedding model failed"
        if isinstance(error, _ModelFails)
        else "no worker could be started to read files"
    )
    return EngineFailed(
        f"Nothing could be indexed in '{store.name or store.id}' because {reason}: {error.message}",
        code=error.code,
    )


def _first(errors: BaseExceptionGroup[PorticoError]) -> PorticoError:
    """Return the first error in nested groups."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
