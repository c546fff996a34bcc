"""Writes the archive of a store as a stream. The archive is never complete on disk or in memory."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import orjson

from portico_server.archives.reader import MANIFEST
from portico_server.archives.stream import BLOCK_BYTES, ArchiveStream, Blocks, once
from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.core.facts import FACT
from portico_server.db import archives, chunks, groups
from portico_server.db.archives import ArchivedChunk
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.groups import GroupRow
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.features.files.files import FileStorage
from portico_server.features.stores.archive.layout import (
    ARCHIVE_FORMAT,
    ARCHIVE_VERSION,
    CHUNKS_NAME,
    FILES_NAME,
    PAGE_ROWS,
    VECTORS_NAME,
)


class ArchiveWriter:
    """Writes the archive of one store. With ``vectors``, the archive contains the store's vectors, so that an import
    need not compute them again.

    Files added during the export may be left out; files removed during the export are left out with their chunks. Facts
    that agents remember are left out, because they belong to keys and not to the store.
    """

    def __init__(self, store: StoreRow, database: Database, files: FileStorage, *, vectors: bool) -> None:
        self._store = store
        self._database = database
        self._files = files
        self._vectors = vectors
        self._archive = ArchiveStream()
        self._blobs: dict[str, None] = {}
        self._written_files: set[str] = set()
        self._models: dict[str, str] = {}
        self._chunks: list[int] = []

    async def pieces(self) -> Blocks:
        """Yield the whole archive in pieces. Raises `Unavailable` if bytes of a file are missing."""
        try:
            async with aclosing(self._write_all()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._archive.close()  # also if the client has disconnected

    async def _write_all(self) -> Blocks:
        group_rows = await self._database.read(groups.of_store, self._store.id)
        model = self._store.embedding_model
        self._models = {DEFAULT_GROUP: model, **{group.name: group.model(model) for group in group_rows}}
        states = await self._database.read(archives.group_states, self._store.id)
        entries: list[tuple[str, Blocks]] = [
            (FILES_NAME, self._file_lines()),
            (CHUNKS_NAME, self._chunk_lines()),
        ]
        if self._vectors:
            entries.append((VECTORS_NAME, self._vector_data()))
        for name, blocks in entries:
            async with aclosing(self._archive.entry(name, blocks, is_stored=name == VECTORS_NAME)) as pieces:
                async for piece in pieces:
                    yield piece
        for digest in self._blobs:
            async with aclosing(self._archive.entry(f"blobs/{digest}", self._bytes(digest))) as pieces:
                async for piece in pieces:
                    yield piece
        manifest = {
            "format": ARCHIVE_FORMAT,
            "version": ARCHIVE_VERSION,
            "store": _describe(self._store),
            "groups": [_group(group) for group in group_rows],
            "group_files": [list(state) for state in states if state[1] in self._written_files],
            "files": len(self._written_files),
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
            page = [row for row in page if row.attributes.get(FACT) is not True]
            self._blobs.update((row.sha256, None) for row in page)
            self._written_files.update(row.file_id for row in page)
            yield b"".join(orjson.dumps(_file(row)) + b"\n" for row in page)

    async def _chunk_lines(self) -> Blocks:
        for name in self._models:
            ids = await self._database.read(chunks.ids, self._store.id, name)
            for i in range(0, len(ids), PAGE_ROWS):
                page = await self._database.read(archives.chunk_page, ids[i : i + PAGE_ROWS], {})
                page = [item for item in page if item.file_id in self._written_files]
                self._chunks += [item.id for item in page]
                yield b"".join(orjson.dumps(_chunk(item)) + b"\n" for item in page)

    async def _vector_data(self) -> Blocks:
        for i in range(0, len(self._chunks), PAGE_ROWS):
            chunk_ids = self._chunks[i : i + PAGE_ROWS]
            page = await self._database.read(archives.chunk_page, chunk_ids, self._models)
            vector_data = {item.id: item.data or b"" for item in page}
            # A chunk that was removed during the export keeps its place, without a vector.
            vectors = [vector_data.get(chunk, b"") for chunk in chunk_ids]
            yield b"".join(len(data).to_bytes(4, "little") + data for data in vectors)

    async def _bytes(self, digest: str) -> Blocks:
        try:
            async with self._files.open(digest) as path:
                with await pools.UPLOADS.run(path.open, "rb") as file:
                    while block := await pools.UPLOADS.run(file.read, BLOCK_BYTES):
                        yield block
        except FileNotFoundError as error:
            raise Unavailable(
                "The bytes of a file of this store are missing. Sync the store, or upload its files again, "
                "and retry the export.",
                code="file_missing",
            ) from error


def _describe(store: StoreRow) -> dict[str, Any]:
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
