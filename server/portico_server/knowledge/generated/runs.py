"""The runs that make the chunk groups for which a model is asked."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from portico.wire import JSON, Place, Status
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.db import groups
from portico_server.db import stores as rows
from portico_server.db.chunks import NewChunk
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.indexed import IndexedChunks
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.knowledge.chunk.chunkers import is_late, needs_model
from portico_server.knowledge.document import Part, Unreadable
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.generated.chunks import ChunkWriter, chunk_prompt, late_vectors, semantic_chunks
from portico_server.knowledge.index.manager import IndexManager
from portico_server.knowledge.ingest import DAEMON_ERROR_CODES, Ingest
from portico_server.knowledge.model_calls import embed_texts
from portico_server.knowledge.parse.pool import ReaderPool
from portico_server.runs.scheduler import Scheduler

logger = logging.getLogger(__name__)

GENERATE_RUN_KIND = "write"
"""The kind of these runs."""

MAX_PIECES = 20_000
"""Pieces of one file that a model is asked about, at most: each is a call."""

MAX_SENTENCES = 200_000
"""Sentences of one file that are embedded to find where its meaning turns, at most."""


class GroupGenerator:
    """Makes groups of files that are in their stores already, one file after another, each store in one run.

    Chunks are kept as they are made. A file that was cut off, by a model that failed or by the end of the daemon,
    continues behind its last chunk.
    """

    def __init__(
        self,
        database: Database,
        files: FileStorage,
        readers: ReaderPool,
        indexes: IndexManager,
        ingest: Ingest,
        scheduler: Scheduler,
    ) -> None:
        self._database = database
        self._files = files
        self._readers = readers
        self._indexes = indexes
        self._ingest = ingest
        self._scheduler = scheduler
        scheduler.handle(GENERATE_RUN_KIND, self._run, concurrency=2)

    async def queue(self, store: StoreRow) -> str:
        """Queue the making of what a store's groups lack; the id of the run."""
        return await self._scheduler.ensure(GENERATE_RUN_KIND, store.id, store.work)

    async def resume(self, store: StoreRow) -> None:
        """`queue`, if a group lacks files."""
        for group in await self._database.read(groups.of_store, store.id):
            if not needs_model(group.chunking):
                continue
            lacking = await self._database.read(groups.waiting, group, 1)
            if lacking:
                await self.queue(store)
                return

    async def _run(self, payload: Mapping[str, Any], context: Context) -> JSON:
        store_id = str(payload["store"])
        done = failed = 0
        for group in await self._database.read(groups.of_store, store_id):
            if not needs_model(group.chunking):
                continue
            while waiting := await self._database.read(groups.waiting, group, 100):
                for row in waiting:
                    error = await self._try_file(group, row, context)
                    done += 1
                    failed += error is not None
                if await self._database.read(groups.get, store_id, group.name) != group:
                    break  # removed or rebuilt: the next run handles it
        return {"in_groups": done - failed, "failed_in_groups": failed}

    async def _try_file(self, group: GroupRow, row: StoreFileRow, context: Context) -> str | None:
        """Make a group of one file; the sentence that says why it could not be, if it could not."""
        try:
            await self._generate_file(group, row, context)
        except Unreadable as error:
            message = f"{row.filename} {error.message}"
        except PorticoError as error:
            if error.code in DAEMON_ERROR_CODES:
                raise
            message = f"{row.filename} could not be put into the group '{group.name}': {error.message}"
        else:
            return None
        logger.warning("store %s: %s", group.store_id, message)
        await self._database.write(groups.give_up_file, group, row, message)
        return message

    async def _generate_file(self, group: GroupRow, row: StoreFileRow, context: Context) -> None:
        bit_by_bit = chunk_prompt(group.chunking) is not None or is_late(group.chunking)
        after = await self._database.read(groups.last_place, group, row.file_id) if bit_by_bit else None
        pieces = await self._pieces(row, group.chunking, context)
        start = 0 if after is None else first_behind(pieces, after)
        kept = after is not None
        source = self._generate(group, pieces, row, start, context)
        async with aclosing(source) as runs:
            async for done, chunks, vectors in runs:
                finished = done == len(pieces)
                if not chunks and not finished:
                    continue
                if finished and not kept and not chunks:
                    raise Unreadable("gave nothing: the model wrote nothing that could be used.")
                if not await self._write_chunks(
                    group, row, chunks, context, first=not kept, finished=finished, vectors=vectors
                ):
                    return
                kept = True
                await context.emit(
                    Status(f"write {group.name}", row.filename, done=done, total=len(pieces), unit="pieces")
                )
        if start == len(pieces):  # cut off between its last chunk and the note that it is whole
            await self._write_chunks(group, row, (), context, first=False, finished=True)

    async def _generate(
        self, group: GroupRow, pieces: Sequence[Part], row: StoreFileRow, start: int, context: Context
    ) -> AsyncGenerator[tuple[int, list[Part], list[bytes] | None], None]:
        """Chunks, how many pieces are done with them, and their vectors where the strategy makes those itself."""
        chunking, form = group.chunking, chunk_prompt(group.chunking)
        if form is not None:
            writing = ChunkWriter(pieces, row.filename, form, chunking["model"])
            async with aclosing(writing.chunks(context, start)) as runs:
                async for done, chunks in runs:
                    yield done, chunks, None
            return
        if is_late(chunking):
            if not group.embedding_model:  # it came in an archive, without its model
                raise InvalidRequest(
                    "the group has no embedding model; make it again with one.", param="embedding_model"
                )
            late = late_vectors(pieces, group.embedding_model, context, start)
            async with aclosing(late) as stretches:
                async for stretch in stretches:
                    yield stretch
            return
        store = await self._database.read(rows.get, group.store_id)
        model = chunking["model"] or (group.model(store.embedding_model) if store else "")
        if not model:
            raise InvalidRequest(
                "there are no vectors here; name an embedding model in the chunking strategy.",
                param="chunking_strategy.model",
            )
        found = await semantic_chunks(pieces, chunking["size"], chunking["percentile"], model, context)
        yield len(pieces), found, None

    async def _pieces(self, row: StoreFileRow, chunking: Mapping[str, Any], context: Context) -> list[Part]:
        """All pieces of a file: the process that reads it is free before a model is asked."""
        most = MAX_PIECES if chunk_prompt(chunking) or is_late(chunking) else MAX_SENTENCES
        pieces: list[Part] = []
        source = self._readers.read(self._files.blob(row.sha256), row.filename, chunking, context)
        async with aclosing(source) as runs:
            async for run in runs:
                pieces.extend(run)
                if len(pieces) > most:
                    raise Unreadable(
                        f"has more than {most:,} pieces for the model. Split it, or take a larger size."
                    )
        return pieces

    async def _write_chunks(
        self,
        group: GroupRow,
        row: StoreFileRow,
        chunks: Sequence[Part],
        context: Context,
        *,
        first: bool,
        finished: bool,
        vectors: Sequence[bytes] | None = None,
    ) -> bool:
        """Embed chunks, unless they have ``vectors``, and write them. False if the group or the file has gone.

        It takes its turn with a change of the store's embedding model, which must find all of them.
        """
        async with self._ingest.write_lock(group.store_id):
            store: StoreRow | None = await self._database.read(rows.get, group.store_id)
            if store is None:
                return False
            model = group.model(store.embedding_model)
            if vectors is None and model:
                vectors = await embed_texts([part.text for part in chunks], model, context)
            new = [NewChunk(part.text, part.place) for part in chunks]
            written = IndexedChunks(row, new, vectors, first=first, finished=finished, used=0)
            kept = await self._database.write(groups.put, group, [written], model or None)
        if kept:
            self._indexes.changed(group.store_id, model, group.name)
        return bool(kept)


def first_behind(pieces: Sequence[Part], last: Place) -> int:
    """The number of the first piece behind the place ``last``, of pieces in the order of their places."""
    ends = [(piece.place.start, piece.place.end) for piece in pieces]
    return bisect_right(ends, (last.start, last.end))
