"""The vector engine pgvector: tables of the daemon's own PostgreSQL, written with the chunks."""

from __future__ import annotations

import sys

from portico_server.db import pgvector
from portico_server.db.database import Database
from portico_server.features.stores.index.vector_engine import Ranges, Ranking


class PgVectors:
    """A `VectorEngine` whose searches are queries. It never lags, because transactions change chunks and vectors
    together.
    """

    seq = sys.maxsize
    index = None

    def __init__(self, database: Database, store_id: str, group: str, model: str) -> None:
        self._database = database
        self._key = (store_id, group, model)
        self.has_vectors = False

    async def catch_up(self) -> None:
        self.has_vectors = await self._database.read(pgvector.has_table, *self._key)

    async def search(self, vector: bytes, limit: int, ranges: Ranges | None) -> Ranking:
        return await self._database.read(pgvector.search, *self._key, vector, limit, ranges)

    def stop(self) -> None:
        """Do nothing, because `catch_up` is short."""

    async def close(self) -> None:
        """Do nothing, because the database owns the connections."""
