"""Changes the embedding model of a store: searches use the old vectors while the new vectors are computed."""

from __future__ import annotations

from portico.wire import JSON, Progressed
from portico_server.core.context import Context
from portico_server.db import chunk_vectors, chunks, groups, pgvector
from portico_server.db import stores as rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.features.stores.embedding import embed_texts
from portico_server.features.stores.ingest import Ingest

MAX_BATCH_CHUNKS = 1_000
"""Number of chunks whose vectors are computed and written together."""


class ModelChange:
    """Computes vectors with a store's ``next_embedding_model``, then makes it the store's embedding model.

    Until then, the vectors of both models are stored, so that an interrupted run can continue.
    """

    def __init__(self, database: Database, ingest: Ingest) -> None:
        self._database = database
        self._ingest = ingest

    async def run(self, store: StoreRow, context: Context) -> JSON:
        """Compute the new vectors, switch to the new model, and delete the old vectors. Return how many vectors were
        computed.
        """
        model = store.next_embedding_model
        if model is None:
            return {}
        vector_count = 0
        if model not in ("", store.embedding_model):
            vector_count = await self._fill(store, model, context)
        # Chunks indexed so far have only vectors of the old model. The lock excludes other writes until the
        # switch is complete.
        async with self._ingest.writing(store.id):
            now = await self._database.read(rows.get, store.id)
            if now is None or now.next_embedding_model != model:
                # the store was deleted or its model changed again, which another run handles
                return {"embedded": vector_count}
            if model not in ("", now.embedding_model):
                vector_count += await self._fill(now, model, context)
            values = {"embedding_model": model, "next_embedding_model": None}
            await self._database.write(rows.change, store.id, values)
            if now.embedding_model not in ("", model):
                await self._drop(now)
        return {"embedded": vector_count}

    async def _fill(self, store: StoreRow, model: str, context: Context) -> int:
        """Compute the vectors of ``model`` for every chunk that has none, and return the number of computed vectors."""
        vector_count = 0
        chunk_ids = await self._chunks(store)
        for i in range(0, len(chunk_ids), MAX_BATCH_CHUNKS):
            part = chunk_ids[i : i + MAX_BATCH_CHUNKS]
            lacking = await self._database.read(chunk_vectors.chunks_without_vector, model, part)
            fresh = await embed_texts([text for _, text in lacking], model, context)
            data = {chunk: vector for (chunk, _), vector in zip(lacking, fresh, strict=True)}
            await self._database.write(chunk_vectors.add_vectors, model, data)
            vector_count += len(data)
            await context.emit(
                Progressed(
                    "embed",
                    model,
                    done=min(i + MAX_BATCH_CHUNKS, len(chunk_ids)),
                    total=len(chunk_ids),
                    unit="chunks",
                )
            )
        return vector_count

    async def _drop(self, store: StoreRow) -> None:
        chunk_ids = await self._chunks(store)
        for i in range(0, len(chunk_ids), MAX_BATCH_CHUNKS):
            await self._database.write(
                chunk_vectors.drop_vectors, store.embedding_model, chunk_ids[i : i + MAX_BATCH_CHUNKS]
            )
        for group in await self._groups(store):
            await self._database.write(pgvector.drop, store.id, group, store.embedding_model)

    async def _groups(self, store: StoreRow) -> list[str]:
        """Return the groups that use the store's own model."""
        group_rows = await self._database.read(groups.of_store, store.id)
        return [DEFAULT_GROUP, *(row.name for row in group_rows if row.embedding_model is None)]

    async def _chunks(self, store: StoreRow) -> list[int]:
        """Return the ids of the chunks in all groups that use the store's own model."""
        chunk_ids: list[int] = []
        for name in await self._groups(store):
            chunk_ids += await self._database.read(chunks.ids, store.id, name)
        return chunk_ids
