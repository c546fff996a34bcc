"""Where the chunks of files go (a store's own group or a further one), and what an interrupted ingest has left
there."""

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
from portico_server.knowledge.index.manager import IndexManager


class ChunkTarget(Protocol):
    """``model`` is that of the vectors, "" for none; ``owner`` that of the store."""

    model: str
    owner: str | None

    def chunking(self, row: StoreFileRow) -> Mapping[str, Any]:
        """How a file is cut."""

    def payer(self, row: StoreFileRow) -> str | None:
        """The key at whose expense a file is read and embedded; ``None``: the operator's."""

    def failure(self, row: StoreFileRow, error: PorticoError) -> str:
        """The sentence that says why a file could not be indexed."""

    async def put(self, batch: Sequence[IndexedChunks]) -> set[str]:
        """Write runs of files in one transaction; the files that are still wanted."""

    async def partial_files(self, file_rows: Sequence[StoreFileRow]) -> set[str]:
        """The files of which an interrupted attempt has left something to continue from."""

    def resume_after(self, row: StoreFileRow, weight: int) -> None:
        """A file continues behind chunks whose vectors take ``weight`` bytes."""

    async def fail(self, row: StoreFileRow, code: str, message: str, *, keep: bool = False) -> None:
        """Note that a file could not be indexed. ``keep`` what there is of it, to continue from there."""


class StoreTarget:
    """The group that every store has."""

    def __init__(self, store: StoreRow, database: Database, indexes: IndexManager) -> None:
        self.model, self.owner = store.embedding_model, store.owner
        self._store = store.id
        self._links = store.links
        self._database = database
        self._indexes = indexes
        self._vectors: dict[str, int] = {}
        """Bytes of the vectors of files that come in several runs."""

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
            self._indexes.changed(self._store, self.model)
        return kept_files

    def _weigh(self, item: IndexedChunks) -> int:
        """Bytes of the vectors of a file up to the end of this run."""
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
    """Runs of chunks with what each chunk names. For a worker thread."""
    from portico_server.knowledge.links.rules import LinkSource, new_links

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
    """A further group. Its failures are noted with it: the file itself is in the store."""

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
        return f"{row.filename} could not be put into the group '{self._group.name}': {error.message}"

    async def put(self, batch: Sequence[IndexedChunks]) -> set[str]:
        kept_files = await self._database.write(groups.put, self._group, batch, self.model or None)
        if kept_files:
            self._indexes.changed(self._group.store_id, self.model, self._group.name)
        return kept_files

    async def partial_files(self, file_rows: Sequence[StoreFileRow]) -> set[str]:
        return set()

    def resume_after(self, row: StoreFileRow, weight: int) -> None:
        raise NotImplementedError("groups have no partial files")

    async def fail(self, row: StoreFileRow, code: str, message: str, *, keep: bool = False) -> None:
        await self._database.write(groups.fail_file, self._group, row, message)
