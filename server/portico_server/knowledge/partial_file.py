"""The remains of an interrupted ingest of a file: chunks with their vectors, which need not be computed again."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.core.errors import PorticoError
from portico_server.db import chunks
from portico_server.db.chunks import ChunkRow, NewChunk
from portico_server.db.database import Database
from portico_server.db.stores import StoreFileRow

MAX_COMPARED_CHUNKS = 500
"""Number of chunks compared at a time."""


class ChunksDifferError(PorticoError):
    """The file now has different chunks, so the whole file is indexed again."""


class PartialFile:
    """The existing chunks of a file in the store's default group, compared with new chunks."""

    def __init__(self, database: Database, row: StoreFileRow, count: int, weight: int) -> None:
        self.weight = weight
        """Size of the vectors of these chunks, in bytes."""
        self._database = database
        self._row = row
        self._count = count
        self._next_chunk = 0
        self._page: list[ChunkRow] = []

    @classmethod
    async def find(cls, database: Database, row: StoreFileRow, model: str) -> PartialFile | None:
        """Return the existing chunks of a file, or ``None`` unless all of them have vectors of ``model``, if it is
        set.
        """
        unfinished = await database.read(chunks.unfinished_chunks, row.store_id, row.file_id, model)
        return cls(database, row, *unfinished) if unfinished is not None else None

    async def missing(self, come: Sequence[NewChunk]) -> list[NewChunk]:
        """Return those of the next chunks that do not exist yet. Raises `ChunksDifferError`."""
        for number, chunk in enumerate(come):
            if self._next_chunk == self._count:
                return list(come[number:])
            if not self._page:
                self._page = await self._database.read(
                    chunks.of_file,
                    self._row.store_id,
                    self._row.file_id,
                    self._next_chunk - 1,
                    MAX_COMPARED_CHUNKS,
                )
            chunk_row = self._page.pop(0) if self._page else None
            if chunk_row is None or (chunk_row.ordinal, chunk_row.text, chunk_row.place) != (
                self._next_chunk,
                chunk.text,
                chunk.place,
            ):
                raise ChunksDifferError("Its chunks differ now.")
            self._next_chunk += 1
        return []

    def end(self) -> None:
        """Check that no existing chunks remain after the last new one. Raises `ChunksDifferError`."""
        if self._next_chunk < self._count:
            raise ChunksDifferError("It is shorter now.")
