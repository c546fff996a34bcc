"""Targets for the chunks of files (a store's default group or another group), and the state of interrupted ingests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from portico_server.core import pools
from portico_server.core.errors import NotFound, PorticoError
from portico_server.db import chunks, groups, indexed
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.indexed import IndexedChunks
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.features.stores.index.manager import IndexManager


class ChunkTarget(Protocol):
    """A group into which chunks are written. ``model`` computes the vectors, "" for none; ``owner`` is the owner of
    the store.
    """

    model: str
    owner: str | None

    def chunking(self, row: StoreFileRow) -> Mapping[str, Any]:
        """Return the chunking strategy of a file."""

    def payer(self, row: StoreFileRow) -> str | None:
        """Return the id of the key that pays for reading and embedding a file, or ``None`` if the operator pays."""

    def failure(self, row: StoreFileRow, error: PorticoError) -> str:
        """Return the message that explains why a file could not be indexed."""

    async def put(self, batch: Sequence[IndexedChunks]) -> set[str]:
        """Write consecutive chunks of files in one transaction. Return the ids of the files that still exist."""

    async def partial_files(self, file_rows: Sequence[StoreFileRow]) -> set[str]:
        """Return the ids of the files that an interrupted attempt has partly indexed."""

    def resume_after(self, row: StoreFileRow, weight: int) -> None:
        """Record that a file continues after existing chunks, whose vectors take ``weight`` bytes."""

    async def fail(self, row: StoreFileRow, code: str, message: str, *, keep: bool = False) -> None:
        """Record that a file could not be indexed. ``keep`` keeps its existing chunks, so that the next attempt
        continues after them.
        """


class StoreTarget:
    """The default group of a store as a target."""

    def __init__(self, store: StoreRow, database: Database, indexes: IndexManager) -> None:
        self.model, self.owner = store.embedding_model, store.owner
        self._store = store.id
        self._links = store.links
        self._database = database
        self._indexes = indexes
        self._vectors: dict[str, int] = {}
        """Size of the vectors written so far, in bytes, for files whose chunks arrive in several parts."""

    def chunking(self, row: StoreFileRow) -> Mapping[str, Any]:
        return row.chunking

    def payer(self, row: StoreFileRow) -> str | None:
        return self.owner or row.whose

    def failure(self, row: StoreFileRow, error: PorticoError) -> str:
        return f"{row.filename} could not be indexed: {error.message}"

    async def put(self, batch: Sequence[IndexedChunks]) -> set[str]:
        indexed_chunks = [replace(item, used=item.used + self._weigh(item)) for item in batch]
        if self._links:
            indexed_chunks = await pools.INDEX.run(with_links, self._store, indexed_chunks)
        try:
            kept_files = await self._database.write(
                indexed.put, self._store, indexed_chunks, self.model or None
            )
        except NotFound:
            return set()  # the store has been deleted
        if kept_files:
            self._indexes.note_change(self._store, self.model)
        return kept_files

    def _weigh(self, item: IndexedChunks) -> int:
        """Return the size, in bytes, of the vectors of a file, including the vectors of this part."""
        before = 0 if item.first else self._vectors.pop(item.row.file_id, 0)
        weight = before + sum(map(len, item.data or ()))
        if not item.finished:
            self._vectors[item.row.file_id] = weight
        return weight

    async def partial_files(self, file_rows: Sequence[StoreFileRow]) -> set[str]:
        ids = [row.file_id for row in file_rows]
        return await self._database.read(chunks.files_with_chunks, self._store, ids)

    def resume_after(self, row: StoreFileRow, weight: int) -> None:
        self._vectors[row.file_id] = weight

    async def fail(self, row: StoreFileRow, code: str, message: str, *, keep: bool = False) -> None:
        self._vectors.pop(row.file_id, None)
        await self._database.write(indexed.fail_file, row, code, message, keep=keep)


def with_links(store_id: str, batch: Sequence[IndexedChunks]) -> list[IndexedChunks]:
    """Return the batch with the terms that each chunk mentions. Call it in a worker thread."""
    from portico_server.features.stores.links.rules import LinkSource, new_links

    def linked(item: IndexedChunks) -> IndexedChunks:
        sources = (
            LinkSource(
                chunk.text,
                chunk.place.heading,
                item.row.file_id,
                item.row.filename,
                first=item.first and number == 0,
            )
            for number, chunk in enumerate(item.chunks)
        )
        return replace(
            item,
            chunks=[
                replace(chunk, links=new_links(store_id, source))
                for chunk, source in zip(item.chunks, sources, strict=True)
            ],
        )

    return [linked(item) for item in batch]


class GroupTarget:
    """A group other than the default as a target. The group records failures itself, because the status of the file
    belongs to the store.
    """

    def __init__(self, group: GroupRow, store: StoreRow, database: Database, indexes: IndexManager) -> None:
        self.model, self.owner = group.model(store.embedding_model), store.owner
        self._group = group
        self._database = database
        self._indexes = indexes

    def chunking(self, row: StoreFileRow) -> Mapping[str, Any]:
        return self._group.chunking

    def payer(self, row: StoreFileRow) -> str | None:
        return self.owner

    def failure(self, row: StoreFileRow, error: PorticoError) -> str:
        return f"{row.filename} could not be added to the group '{self._group.name}': {error.message}"

    async def put(self, batch: Sequence[IndexedChunks]) -> set[str]:
        kept_files = await self._database.write(groups.put, self._group, batch, self.model or None)
        if kept_files:
            self._indexes.note_change(self._group.store_id, self.model, self._group.name)
        return kept_files

    async def partial_files(self, file_rows: Sequence[StoreFileRow]) -> set[str]:
        return set()

    def resume_after(self, row: StoreFileRow, weight: int) -> None:
        raise NotImplementedError("groups do not support partial files")

    async def fail(self, row: StoreFileRow, code: str, message: str, *, keep: bool = False) -> None:
        await self._database.write(groups.fail_file, self._group, row, message)
