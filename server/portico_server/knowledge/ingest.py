"""Indexing: read, chunk, embed, and write in one transaction; taken up again wherever it was cut off."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from portico.wire import JSON, Status, StepFinished, StepStarted
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, NotFound, PorticoError, TooMany, Unavailable
from portico_server.core.request import Embed, Vectors
from portico_server.db import changes, groups
from portico_server.db import stores as rows
from portico_server.db.chunks import NewChunk
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.knowledge.files import Files
from portico_server.knowledge.index.follow import Indexes
from portico_server.knowledge.parse.pool import Readers
from portico_server.knowledge.part import Part, Unreadable

logger = logging.getLogger(__name__)

BATCH = 2_000
"""Chunks that are embedded and written in one transaction: about 2 MB of text and 2 MB of vectors.

A file of up to so many chunks appears in searches all at once. A longer one appears piece by piece: one transaction for
a text of 200 MB would hold 200,000 chunks in memory and keep every other writer waiting for minutes.
"""

EMBED = 256
"""Texts in one call of an embedding model."""

ATTEMPTS = 4
"""How often an embedding model that fails for the moment is asked."""

WAIT = 0.5
"""Seconds before it is asked for the second time; twice as long before each further one."""


_HOUSE = ("disk_full", "database_damaged", "database_error", "busy", "shutting_down")
"""Errors of the daemon and not of one file: the run ends with them, and its files wait for the next one."""


_One: TypeAlias = Callable[[StoreFileRow, Context], Awaitable[str | None]]
"""Indexes one file; the sentence that says why it could not, if it could not."""


@dataclass(slots=True)
class Tally:
    """How far a run is."""

    done: int = 0
    failed: int = 0
    total: int = 0


class Ingest:
    """Works off the files of a store that are ``in_progress``, ``workers`` at a time.

    A file that cannot be read is marked ``failed`` with a sentence, and the rest goes on. If the embedding model
    fails for good, its file is failed too: a store that promises search by meaning must not quietly lose it for some
    files. A store without an embedding model is indexed by words alone.
    """

    def __init__(
        self, database: Database, files: Files, readers: Readers, indexes: Indexes, *, workers: int
    ) -> None:
        self._database = database
        self._files = files
        self._readers = readers
        self._indexes = indexes
        self._workers = max(1, workers)
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self, store: StoreRow, context: Context, *, changed: bool = False) -> JSON:
        """Index until nothing waits and all of it can be found; how many files were indexed and how many failed.

        ``changed``: the caller has changed the store itself, so that the indexes have something to follow anyway.
        """
        tally, in_groups = Tally(), Tally()
        async with self.alone(store.id):
            now = await self._database.read(rows.get, store.id)
            if now is None:
                return {}
            store = now  # as it is by now: another run may have changed its embedding model
            seen: set[tuple[str, str]] = set()
            while waiting := [
                row
                for row in await self._database.read(rows.waiting, store.id, 1_000)
                if (row.file_id, str(row.chunking)) not in seen
            ]:
                seen.update((row.file_id, str(row.chunking)) for row in waiting)
                await self._several(waiting, partial(self._one, store), tally, context)
            for group in await self._database.read(groups.of_store, store.id):
                await self._fill(store, group, in_groups, context)
            await self._database.write(changes.compact, store.id)
        if tally.done or changed:
            await self._indexes.ready(store.id, store.embedding_model, context.emit)
        result: dict[str, JSON] = {"indexed": tally.done - tally.failed, "failed": tally.failed}
        if in_groups.total:
            result |= {"in_groups": in_groups.done - in_groups.failed, "failed_in_groups": in_groups.failed}
        return result

    def alone(self, store_id: str) -> asyncio.Lock:
        """Held by the run that writes chunks or vectors of a store: an ingest, a sync and a change of its
        embedding model may be asked for at once, and take turns.
        """
        return self._locks.setdefault(store_id, asyncio.Lock())

    async def _fill(self, store: StoreRow, group: GroupRow, tally: Tally, context: Context) -> None:
        """Make the chunks of a further group, of all files that it lacks."""
        model = group.model(store.embedding_model)
        begun = tally.done
        while waiting := await self._database.read(groups.waiting, group, 1_000):
            await self._several(waiting, partial(self._one_in_group, group, model), tally, context)
            if await self._database.read(groups.get, store.id, group.name) != group:
                return  # removed, or made anew: the run that follows sees to it
        if tally.done > begun:
            await self._indexes.ready(store.id, model, context.emit, group.name)

    async def _several(
        self, waiting: Sequence[StoreFileRow], one: _One, tally: Tally, context: Context
    ) -> None:
        queue = iter(waiting)
        tally.total += len(waiting)

        async def work() -> None:
            for row in queue:
                error = await one(row, context)
                tally.done += 1
                tally.failed += error is not None
                await context.emit(
                    Status("index", row.filename, done=tally.done, total=tally.total, unit="files")
                )

        await context.emit(Status("index", "", done=tally.done, total=tally.total, unit="files"))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._workers, len(waiting))):
                    group.create_task(work())
        except* PorticoError as errors:
            raise errors.exceptions[0] from None

    async def _one(self, store: StoreRow, row: StoreFileRow, context: Context) -> str | None:
        """Index one file; the sentence that says why it could not be, if it could not."""
        began = time.perf_counter()
        path = f"index/{row.filename}"
        await context.emit(StepStarted(path))
        code, message = "server_error", None
        try:
            await self._index(store, row, context)
        except Unreadable as error:
            code, message = error.code, f"{row.filename} {error.message}"
        except NotFound as error:
            if await self._database.read(rows.file, store.id, row.file_id) is not None:
                message = error.message  # the embedding model is gone, not the file
        except PorticoError as error:
            if error.code in _HOUSE:
                raise  # the next file would fare no better, and nothing could be noted about this one
            message = f"{row.filename} could not be indexed: {error.message}"
        if message is not None:
            logger.warning("store %s: %s", store.name or store.id, message)
            await self._database.write(rows.fail_file, row, code, message)
        await context.emit(StepFinished(path, (time.perf_counter() - began) * 1e3, message))
        return message

    async def _one_in_group(
        self, group: GroupRow, model: str, row: StoreFileRow, context: Context
    ) -> str | None:
        """As `_one`, for a further group of the store: its failures are noted with the group."""
        message = None
        try:
            await self._index_in_group(group, model or None, row, context)
        except Unreadable as error:
            message = f"{row.filename} {error.message}"
        except PorticoError as error:
            if error.code in _HOUSE:
                raise
            message = f"{row.filename} could not be put into the group '{group.name}': {error.message}"
        if message is not None:
            logger.warning("store %s: %s", group.store_id, message)
            await self._database.write(groups.fail_file, group, row.file_id, message)
        return message

    async def _index_in_group(
        self, group: GroupRow, model: str | None, row: StoreFileRow, context: Context
    ) -> None:
        first = True
        async with aclosing(self._batches(row, group.chunking)) as batches:
            async for chunks, last in batches:
                vectors = await self._embed(chunks, model, context) if model else None
                kept = await self._database.write(
                    groups.put_chunks, group, row.file_id, chunks, model, vectors, first=first, finished=last
                )
                if not kept:
                    return
                self._indexes.changed(group.store_id, model or "", group.name)
                first = False

    async def _index(self, store: StoreRow, row: StoreFileRow, context: Context) -> None:
        model = store.embedding_model or None
        first, used = True, 0
        async with aclosing(self._batches(row, row.chunking)) as batches:
            async for chunks, last in batches:
                vectors = await self._embed(chunks, model, context) if model else None
                used += sum(len(chunk.text.encode()) for chunk in chunks)
                used += sum(map(len, vectors or ()))
                kept = await self._database.write(
                    rows.put_chunks,
                    row,
                    chunks,
                    model,
                    vectors,
                    first=first,
                    usage_bytes=used,
                    finished=last,
                )
                if not kept:
                    return
                self._indexes.changed(store.id, store.embedding_model)
                first = False

    async def _batches(
        self, row: StoreFileRow, chunking: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[list[NewChunk], bool], None]:
        """Runs of at most `BATCH` chunks, and whether it is the last one."""
        held: list[NewChunk] = []
        source = self._readers.read(self._files.blob(row.sha256), row.filename, chunking)
        async with aclosing(source) as runs:
            async for parts in runs:
                held.extend(_chunk(part) for part in parts)
                while len(held) > BATCH:
                    yield held[:BATCH], False
                    held = held[BATCH:]
        yield held, True

    async def _embed(self, chunks: Sequence[NewChunk], model: str, context: Context) -> list[bytes]:
        return await self.embed([chunk.text for chunk in chunks], model, context)

    async def embed(self, texts: Sequence[str], model: str, context: Context) -> list[bytes]:
        """A vector for each text, little-endian float32; a model that fails for the moment is asked again."""
        vectors: list[bytes] = []
        for i in range(0, len(texts), EMBED):
            part = tuple(texts[i : i + EMBED])
            result = await self._ask(part, model, context)
            if len(result.data) != len(part):
                raise EngineFailed(
                    f"The embedding model '{model}' gave {len(result.data)} vectors for {len(part)} texts."
                )
            vectors.extend(result.data)
        return vectors

    async def _ask(self, texts: tuple[str, ...], model: str, context: Context) -> Vectors:
        wait = WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                result = await context.call(model, Embed(texts))
            except (EngineFailed, Unavailable, TooMany) as error:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(min(error.retry_after or wait, 10.0))
                wait *= 2
            else:
                if not isinstance(result, Vectors):
                    raise EngineFailed(f"'{model}' is no embedding model: it gave no vectors.")
                return result
        raise AssertionError("unreachable")


def _chunk(part: Part) -> NewChunk:
    return NewChunk(part.text, part.place)
