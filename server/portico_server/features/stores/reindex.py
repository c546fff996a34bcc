"""Rebuilds the indexes of a store from SQL. It can first read the store's files again."""

from __future__ import annotations

from portico.wire import JSON
from portico_server.core.context import Context
from portico_server.db import groups
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.pgvector import PGVECTOR
from portico_server.db.stores import StoreRow
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.index_change import fill_tables
from portico_server.features.stores.ingest import Ingest


class Reindex:
    """Rebuilds indexes without loss, because they can be derived from SQL. Searches wait during the rebuild, or get an
    error that asks the client to retry.
    """

    def __init__(self, database: Database, indexes: IndexManager, ingest: Ingest) -> None:
        self._database = database
        self._indexes = indexes
        self._ingest = ingest

    async def run(self, store: StoreRow, context: Context, *, files: bool) -> JSON:
        """Rebuild the indexes of all groups, and return the number of groups.

        With ``files``, all files are read first. Files that had failed, and files whose chunks have changed, get new
        chunks in the store's default group.
        """
        result: dict[str, JSON] = {}
        await self._indexes.reset(store.id)
        if files:
            with self._ingest.rereading(store.id):
                await self._database.write(rows.wait_again, store.id)
                read = await self._ingest.run(store, context)
            assert isinstance(read, dict)
            result |= read
        models = await self._database.read(groups.models, store)
        for name, model in models.items():
            if store.index == PGVECTOR:
                await fill_tables(self._database, store.id, name, context)
            await self._indexes.ready(store.id, model, context.emit, name)
        return {**result, "groups": len(models)}
