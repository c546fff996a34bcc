"""Stores as files: exported as a stream, restored as a whole or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import orjson

from portico_server.archives.reader import MANIFEST
from portico_server.archives.stream import BLOCK_BYTES, ArchiveStream, Blocks, once
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, PorticoError, Unavailable
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.db import archives, chunks, groups
from portico_server.db import stores as rows
from portico_server.db.archives import ArchivedChunk
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.groups import GroupRow
from portico_server.db.names import claim_of
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.knowledge.archive.reader import (
    ARCHIVE_FORMAT,
    ARCHIVE_VERSION,
    CHUNKS_NAME,
    FILES_NAME,
    MAX_STORE_BLOBS,
    PAGE_BYTES,
    PAGE_ROWS,
    VECTORS_NAME,
    StoreArchiveReader,
    refused,
)
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.index.manager import IndexManager
from portico_server.knowledge.names import check_store_name
from portico_server.knowledge.store import StoreView, view
from portico_server.knowledge.store_claims import registry_keys

# Writing the archive of a store, as a stream: nothing of it is kept on disk or whole in memory.


class ArchiveWriter:
    """Writes one store. ``vectors``: with its vectors, so that they need not be made again elsewhere.

    Files that are put in while it is written are left out; those that are taken out are too, with their chunks.
    """

    def __init__(self, store: StoreRow, database: Database, files: FileStorage, *, vectors: bool) -> None:
        self._store = store
        self._database = database
        self._files = files
        self._vectors = vectors
        self._archive = ArchiveStream()
        self._blobs: dict[str, None] = {}
        self._written: set[str] = set()
        self._models: dict[str, str] = {}
        self._chunks: list[int] = []

    async def pieces(self) -> Blocks:
        """The archive from its first byte to its last. Raises `Unavailable` if bytes of a file are missing."""
        try:
            async with aclosing(self._whole()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._archive.close()  # also when nobody listens any more

    async def _whole(self) -> Blocks:
        more = await self._database.read(groups.of_store, self._store.id)
        model = self._store.embedding_model
        self._models = {DEFAULT_GROUP: model, **{group.name: group.model(model) for group in more}}
        states = await self._database.read(archives.group_states, self._store.id)
        entries: list[tuple[str, Blocks]] = [
            (FILES_NAME, self._file_lines()),
            (CHUNKS_NAME, self._chunk_lines()),
        ]
        if self._vectors:
            entries.append((VECTORS_NAME, self._vector_data()))
        for name, blocks in entries:
            async with aclosing(self._archive.entry(name, blocks, stored=name == VECTORS_NAME)) as pieces:
                async for piece in pieces:
                    yield piece
        for digest in self._blobs:
            async with aclosing(self._archive.entry(f"blobs/{digest}", self._bytes(digest))) as pieces:
                async for piece in pieces:
                    yield piece
        manifest = {
            "format": ARCHIVE_FORMAT,
            "version": ARCHIVE_VERSION,
            "store": _described(self._store),
            "groups": [_group(group) for group in more],
            "group_files": [list(state) for state in states if state[1] in self._written],
            "files": len(self._written),
            "chunks": len(self._chunks),
            "vectors": self._vectors,
            "sha256": self._archive.sums,
        }
        data = orjson.dumps(manifest, option=orjson.OPT_INDENT_2)
        async for piece in self._archive.entry(MANIFEST, once(data)):
            yield piece
        yield await self._archive.end()

    async def _file_lines(self) -> Blocks:
        after = ""
        while page := await self._database.read(archives.file_page, self._store.id, after, PAGE_ROWS):
            after = page[-1].file_id
            self._blobs.update((row.sha256, None) for row in page)
            self._written.update(row.file_id for row in page)
            yield b"".join(orjson.dumps(_file(row)) + b"\n" for row in page)

    async def _chunk_lines(self) -> Blocks:
        for name in self._models:
            ids = await self._database.read(chunks.ids, self._store.id, name)
            for i in range(0, len(ids), PAGE_ROWS):
                page = await self._database.read(archives.chunk_page, ids[i : i + PAGE_ROWS], {})
                page = [item for item in page if item.file_id in self._written]
                self._chunks += [item.id for item in page]
                yield b"".join(orjson.dumps(_chunk(item)) + b"\n" for item in page)

    async def _vector_data(self) -> Blocks:
        for i in range(0, len(self._chunks), PAGE_ROWS):
            wanted = self._chunks[i : i + PAGE_ROWS]
            page = await self._database.read(archives.chunk_page, wanted, self._models)
            held = {item.id: item.data or b"" for item in page}
            # A chunk that has gone since then keeps its place.
            vectors = [held.get(chunk, b"") for chunk in wanted]
            yield b"".join(len(data).to_bytes(4, "little") + data for data in vectors)

    async def _bytes(self, digest: str) -> Blocks:
        try:
            async with self._files.open(digest) as path:
                with await pools.UPLOADS.run(path.open, "rb") as file:
                    while block := await pools.UPLOADS.run(file.read, BLOCK_BYTES):
                        yield block
        except FileNotFoundError as error:
            raise Unavailable(
                "The bytes of a file of this store are missing. Sync it, or put its files in again; then export it.",
                code="file_missing",
            ) from error


def _described(store: StoreRow) -> dict[str, Any]:
    return {
        "name": store.name,
        "description": store.description,
        "app": store.app,
        "answers": store.answers,
        "embedding_model": store.embedding_model,
        "metadata": dict(store.metadata),
        "expires_after_days": store.expires_after_days,
        "vector_weight": store.vector_weight,
        "links": store.links,
        "search": dict(store.search or {}),
    }


def _group(group: GroupRow) -> dict[str, Any]:
    return {
        "name": group.name,
        "parent": group.parent,
        "chunking": dict(group.chunking),
        "embedding_model": group.embedding_model,
    }


def _file(row: StoreFileRow) -> dict[str, Any]:
    return {
        "id": row.file_id,
        "filename": row.filename,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "status": row.status,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "attributes": dict(row.attributes),
        "chunking": dict(row.chunking),
        "usage_bytes": row.usage_bytes,
    }


def _chunk(item: ArchivedChunk) -> dict[str, Any]:
    return {
        "file": item.file_id,
        "group": item.group,
        "ordinal": item.ordinal,
        "text": item.text,
        "place": item.place,
    }


# Making a store of an archive: all of it or nothing.


T = TypeVar("T")

_BLOCK_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Written:
    """What has been written of a store that nobody sees yet."""

    files: list[tuple[FileRow, StoreFileRow]] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    runs: list[tuple[str, str, int, int]] = field(default_factory=list)
    bytes: int = 0

    def note(self, chunks: Sequence[tuple[str, str, int]]) -> None:
        """Chunks as (group, file, id): those that follow each other are one run."""
        for group, file, chunk in chunks:
            if self.runs and self.runs[-1][:2] == (group, file) and self.runs[-1][3] + 1 == chunk:
                self.runs[-1] = (group, file, self.runs[-1][2], chunk)
            else:
                self.runs.append((group, file, chunk, chunk))


class ArchiveRestore:
    """Reads archives. What was cut off is swept away at the next start, see `IndexManager.sweep`."""

    def __init__(self, database: Database, files: FileStorage, indexes: IndexManager) -> None:
        self._database = database
        self._files = files
        self._indexes = indexes

    async def open(self, path: Path) -> StoreArchiveReader:
        """A checked archive. Close it. Raises `InvalidRequest`."""
        return await pools.UPLOADS.run(StoreArchiveReader, path)

    async def run(
        self,
        archive: StoreArchiveReader,
        store: StoreRow,
        known: Callable[[str], bool],
        claim: Callable[[], AbstractAsyncContextManager[None]],
    ) -> StoreRow:
        """Let ``store``, a row that is not there yet, appear with all that the archive holds.

        ``claim`` holds its names while it appears. ``known`` says whether an embedding model is here. Vectors of a
        model that is not are left out, and those of the store's own are then made of ``next_embedding_model``. Raises
        `InvalidRequest`, `Conflict`, `Unavailable`.
        """
        written = _Written()
        more = [
            replace(
                item,
                store_id=store.id,
                embedding_model=_group_model(item.embedding_model, known),
                created_at=time.time(),
            )
            for item in archive.manifest.groups
        ]
        models = {
            DEFAULT_GROUP: store.embedding_model,
            **{row.name: row.model(store.embedding_model) for row in more},
        }
        await self._indexes.reserve(store.id)
        try:
            await self._take_files(archive, store, written)
            await self._take_chunks(archive, store, models, written)
            async with claim():
                await self._finish(archive, store, more, written)
        except BaseException:
            await asyncio.shield(self._give_up(store, written))
            raise
        await self._files.forget(written.digests)
        return store

    async def _take_files(self, archive: StoreArchiveReader, store: StoreRow, written: _Written) -> None:
        now = time.time()
        async for page in _pages(archive, archive.files()):
            written.bytes += sum(item.bytes + item.usage_bytes for item in page)
            await self._files.require_room(store.owner, written.bytes)
            for item in page:
                if item.file_id in written.ids:
                    raise refused(f"it has the file '{item.filename}' twice")
                if item.sha256 not in written.digests:
                    await self._take_blob(archive, item)
                    written.digests.add(item.sha256)
                file_id = written.ids[item.file_id] = new_id("file-")
                file = FileRow(
                    file_id, store.owner, item.filename, "assistants", item.bytes, item.sha256, now
                )
                row = replace(item, store_id=store.id, file_id=file_id, created_at=now)
                written.files.append((file, row))

    async def _take_blob(self, archive: StoreArchiveReader, item: StoreFileRow) -> None:
        with await pools.UPLOADS.run(archive.blob, item.sha256) as blob:
            received = await self._files.receive(_blocks(blob, item.filename))
        if (received.sha256, received.bytes) != (item.sha256, item.bytes):
            await self._files.drop(received)
            raise refused(f"the bytes of '{item.filename}' are not what was written")
        await self._files.place_early(received)

    async def _take_chunks(
        self, archive: StoreArchiveReader, store: StoreRow, models: dict[str, str], written: _Written
    ) -> None:
        count = 0
        async for page in _pages(archive, archive.chunks()):
            for item in page:
                if item.file_id not in written.ids or item.group not in models:
                    raise refused("a chunk belongs to a file or a group that is not in it")
            batch = [replace(item, file_id=written.ids[item.file_id]) for item in page]
            written.note(await self._database.write(archives.put_chunks, store.id, batch, models))
            count += len(batch)
        if count != archive.manifest.chunks:
            raise refused(f"it holds {count:,} chunks, and its manifest says {archive.manifest.chunks:,}")

    async def _finish(
        self, archive: StoreArchiveReader, store: StoreRow, more: Sequence[GroupRow], written: _Written
    ) -> None:
        states = [
            (group, written.ids[file], error)
            for group, file, error in archive.manifest.group_files
            if file in written.ids and group in {row.name for row in more}
        ]

        def finish(connection: Any) -> bool:
            self._files.quota.require(connection, store.owner, written.bytes)
            return archives.finish(connection, store, written.files, more, states, written.runs)

        if not await self._database.write(finish):
            raise Conflict(
                f"There is a store '{store.name}' already. Import it under another name, or delete that store first.",
                code="name_taken",
                param="name",
            )

    async def _give_up(self, store: StoreRow, written: _Written) -> None:
        await self._database.write(archives.give_up, store.id)
        await self._files.release(sorted(written.digests))
        await self._files.forget(written.digests)
        await self._indexes.drop(store.id)


def _group_model(model: str | None, known: Callable[[str], bool]) -> str | None:
    return model if not model or known(model) else ""


async def _pages(archive: StoreArchiveReader, items: Iterator[T]) -> AsyncIterator[list[T]]:
    """``items`` of the archive in pages, each read off the event loop."""

    def read() -> list[T]:
        page: list[T] = []
        end = archive.read_bytes + PAGE_BYTES
        for item in items:
            page.append(item)
            if len(page) == PAGE_ROWS or archive.read_bytes >= end:
                break
        return page

    while page := await pools.UPLOADS.run(read):
        yield page


async def _blocks(blob: IO[bytes], name: str) -> AsyncIterator[bytes]:
    while True:
        try:
            block = await pools.UPLOADS.run(blob.read, _BLOCK_BYTES)
        except PorticoError:
            raise
        except Exception as error:  # zipfile raises what zlib and struct raise
            raise refused(f"the bytes of '{name}' are damaged") from error
        if not block:
            return
        yield block


class StoreHost(Protocol):
    """What the stores do for one that comes from elsewhere."""

    def embedding(self, wanted: str | None) -> str: ...

    async def serve_restored(self, row: StoreRow, model: str) -> str | None:
        """Serve a store that is there now; ``model``: the one of which vectors are to be made, "" for none."""
        ...


class StoreArchives:
    """Works on a `StoreView` that `Stores.get` has handed out for ``read``: rights were checked there."""

    def __init__(
        self,
        host: StoreHost,
        database: Database,
        registry: Registry,
        files: FileStorage,
        indexes: IndexManager,
    ) -> None:
        self._host = host
        self._database = database
        self._registry = registry
        self._files = files
        self._restore = ArchiveRestore(database, files, indexes)

    async def require_portable(self, row: StoreView) -> None:
        """Raise `InvalidRequest` for a store whose archive nobody could import."""
        count = await self._database.read(archives.count_blobs, row.id)
        if count > MAX_STORE_BLOBS:
            raise InvalidRequest(
                f"The store has {count:,} different files, and an archive holds {MAX_STORE_BLOBS:,}. Move some to "
                "another store, or copy the whole home with 'portico backup'.",
                code="store_too_large",
                param="store",
            )

    def export(self, row: StoreView, *, vectors: bool = True) -> AsyncIterator[bytes]:
        """An archive of a store, piece by piece; ``vectors``: with those that it has.

        Raises `Forbidden` unless the caller may read every file.
        """
        row.require_whole()
        return ArchiveWriter(row, self._database, self._files, vectors=vectors).pieces()

    async def open(self, path: Path) -> StoreArchiveReader:
        """An archive whose outside has been checked. Close it. Raises `InvalidRequest`."""
        return await self._restore.open(path)

    async def restore(self, path: Path, name: str, caller: Principal) -> tuple[StoreView, str | None]:
        """Make a store of an archive on disk, under its own name or under ``name``.

        Its vectors are taken over if their model is here; else those of the default one are made by the run whose id
        comes with the store. Raises `InvalidRequest` for an archive that is not sound, `Conflict` if the name is taken.
        """
        archive = await self._restore.open(path)
        try:
            row = await self._row(archive, name, caller)
            claim = partial(self._registry.claims.hold, row.owner, *registry_keys(row))
            await self._restore.run(archive, row, self._is_embedding, claim)
            model = archive.manifest.embedding_model
        finally:
            archive.close()
        if row.embedding_model or not model:
            wanted = ""
        else:
            wanted = model if self._is_embedding(model) else self._host.embedding(None)
        run = await self._host.serve_restored(row, wanted)
        arrived = await self._database.read(rows.get, row.id)
        return view(arrived or row, caller), run

    async def _row(self, archive: StoreArchiveReader, name: str, caller: Principal) -> StoreRow:
        manifest = archive.manifest
        name = check_store_name(name or manifest.name)
        caller.require(f"stores:{name}:manage")
        owner = owner_of(caller)
        async with self._registry.claims.hold(owner, f"store/{name}"):  # or it fails before all of it is read
            pass
        here = manifest.vectors and self._is_embedding(manifest.embedding_model)
        now = time.time()
        return StoreRow(
            id=new_id("vs_"),
            name=name,
            description=manifest.description,
            owner=owner,
            folder=None,
            app=manifest.app and await self._is_free(name, owner),
            answers=manifest.answers,
            embedding_model=manifest.embedding_model if here else "",
            metadata=manifest.metadata,
            expires_after_days=manifest.expires_after_days,
            last_active_at=now,
            created_at=now,
            vector_weight=manifest.vector_weight if here else None,
            claim=claim_of(owner, name),
            links=manifest.links,
            search=manifest.search,
            linked_to=0 if manifest.links else None,  # they are made again, of the chunks
        )

    async def _is_free(self, name: str, owner: str | None) -> bool:
        """Whether the store's chat app can have its name."""
        try:
            async with self._registry.claims.hold(owner, name):
                return True
        except Conflict:
            return False

    def _is_embedding(self, model: str) -> bool:
        found = self._registry.get(model) if model else None
        return found is not None and "embeddings" in found.card.capabilities
