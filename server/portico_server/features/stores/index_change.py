"""Moves the vectors of a store to another index without computing them again. The old index answers meanwhile."""

from __future__ import annotations

from portico.wire import JSON, Progressed
from portico_server.core.context import Context
from portico_server.db import chunks, groups, pgvector, store_index
from portico_server.db.database import Database
from portico_server.db.pgvector import PGVECTOR
from portico_server.db.stores import StoreRow
from portico_server.features.stores.index.manager import IndexManager

MAX_BATCH_CHUNKS = 500
"""Number of chunks whose vectors are copied in one transaction. Other writes wait for it."""


class IndexChange:
    """Fills a store's ``next_index``, then makes it the store's index. An interrupted run can continue.

    While pgvector is the next index, transactions that change chunks change its tables too.
    """

    def __init__(self, database: Database, indexes: IndexManager) -> None:
        self._database = database
        self._indexes = indexes

    async def run(self, store: StoreRow, context: Context) -> JSON:
        """Return the number of chunks whose vectors were moved."""
        index = store.next_index
        if index is None:
            await self._indexes.delete_other_vectors(store.id)
            return {}
        chunk_count = 0
        for group, model in (await self._database.read(groups.models, store)).items():
            if not model:
                continue
            if index == PGVECTOR:
                chunk_count += await fill_tables(self._database, store.id, group, context)
            else:
                await self._indexes.fill(store.id, model, group, index)
                chunk_count += await self._database.read(chunks.count, store.id, group)
        is_complete = await self._database.write(store_index.finish_move, store.id, index)
        await self._indexes.delete_other_vectors(store.id)
        if not is_complete:
            return {}  # the store was deleted, or moved again, which another run handles
        return {"moved": chunk_count}


async def fill_tables(database: Database, store_id: str, group: str, context: Context) -> int:
    """Copy the vectors of a group that the tables of pgvector lack. Return the number of chunks in the group."""
    chunk_ids = await database.read(chunks.ids, store_id, group)
    for i in range(0, len(chunk_ids), MAX_BATCH_CHUNKS):
        # If the server loses these writes, it also loses the later one that completes the move.
        await database.write_soon(pgvector.put, chunk_ids[i : i + MAX_BATCH_CHUNKS])
        done = min(i + MAX_BATCH_CHUNKS, len(chunk_ids))
        await context.emit(Progressed("move", group, done=done, total=len(chunk_ids), unit="chunks"))
    return len(chunk_ids)
