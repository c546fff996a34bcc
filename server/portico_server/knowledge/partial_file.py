"""What an ingest that was cut off has left of a file: chunks with their vectors, which need not be made again."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.core.errors import PorticoError
from portico_server.db import chunks
from portico_server.db.chunks import ChunkRow, NewChunk
from portico_server.db.database import Database
from portico_server.db.stores import StoreFileRow

MAX_COMPARED_CHUNKS = 500
"""Chunks that are compared at a time."""


class ChunksDifferError(PorticoError):
    """The file is now cut differently: all of it is indexed again."""


class PartialFile:
    """The chunks that a file has in the group that every store has, compared with those that come."""

    def __init__(self, database: Database, row: StoreFileRow, count: int, weight: int) -> None:
        self.weight = weight
        """Bytes of their vectors."""
        self._database = database
        self._row = row
        self._count = count
        self._seen = 0
        self._page: list[ChunkRow] = []

    @classmethod
    async def find(cls, database: Database, row: StoreFileRow, model: str) -> PartialFile | None:
        """What there is of a file; ``None`` unless all of it has vectors of ``model``, if there is one."""
        unfinished = await database.read(chunks.unfinished_chunks, row.store_id, row.file_id, model)
        return cls(database, row, *unfinished) if unfinished is not None else None

    async def missing(self, come: Sequence[NewChunk]) -> list[NewChunk]:
        """Those of the next chunks that are not there yet. Raises `ChunksDifferError`."""
        for number, chunk in enumerate(come):
            if self._seen == self._count:
                return list(come[number:])
            if not self._page:
                self._page = await self._database.read(
                    chunks.of_file, self._row.store_id, self._row.file_id, self._seen - 1, MAX_COMPARED_CHUNKS
                )
            chunk_row = self._page.pop(0) if self._page else None
            if chunk_row is None or (chunk_row.ordinal, chunk_row.text, chunk_row.place) != (
                self._seen,
                chunk.text,
                chunk.place,
            ):
                raise ChunksDifferError("It is cut otherwise now.")
            self._seen += 1
        return []

    def end(self) -> None:
        """Nothing more comes. Raises `ChunksDifferError` if there is more."""
        if self._seen < self._count:
            raise ChunksDifferError("It is shorter now.")
