"""The chunks that an interrupted ingest has written for a file. They and their vectors need not be computed again."""

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
    """The chunks of the file have changed since the interruption, so the whole file is indexed again."""


class PartialFile:
    """The existing chunks of a file in the store's default group, for comparison with new chunks."""

    def __init__(self, database: Database, row: StoreFileRow, count: int, weight: int) -> None:
        self.weight = weight
        """Size, in bytes, of the vectors of the existing chunks."""
        self._database = database
        self._row = row
        self._count = count
        self._next_chunk = 0
        self._page: list[ChunkRow] = []

    @classmethod
    async def find(cls, database: Database, row: StoreFileRow, model: str) -> PartialFile | None:
        """Return the existing chunks of a file. Return ``None`` if it has none, or if ``model`` is set and a chunk has
        no vector of it.
        """
        unfinished = await database.read(chunks.unfinished_chunks, row.store_id, row.file_id, model)
        return cls(database, row, *unfinished) if unfinished is not None else None

    async def missing(self, come: Sequence[NewChunk]) -> list[NewChunk]:
        """Compare the next new chunks with the existing chunks. Return those that do not exist yet. Raises
        `ChunksDifferError`.
        """
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
        """Check that no existing chunk follows the last new chunk. Raises `ChunksDifferError`."""
        if self._next_chunk < self._count:
            raise ChunksDifferError("It is shorter now.")
