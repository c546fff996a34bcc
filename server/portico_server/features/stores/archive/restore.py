"""Creates a store from an archive, completely or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, PorticoError
from portico_server.core.ids import new_id
from portico_server.db import archives
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.groups import GroupRow
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.features.files.files import FileStorage
from portico_server.features.stores.archive.layout import PAGE_BYTES, PAGE_ROWS
from portico_server.features.stores.archive.reader import StoreArchiveReader, refused
from portico_server.features.stores.index.manager import IndexManager

T = TypeVar("T")

_BLOCK_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Written:
    """The part of a restored store that has been written but is not visible yet."""

    files: list[tuple[FileRow, StoreFileRow]] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    runs: list[tuple[str, str, int, int]] = field(default_factory=list)
    bytes: int = 0

    def note(self, chunks: Sequence[tuple[str, str, int]]) -> None:
        """Record chunks as (group, file, id). Consecutive ids of the same group and file form one range."""
        for group, file, chunk in chunks:
            if self.runs and self.runs[-1][:2] == (group, file) and self.runs[-1][3] + 1 == chunk:
                self.runs[-1] = (group, file, self.runs[-1][2], chunk)
            else:
                self.runs.append((group, file, chunk, chunk))


class ArchiveRestore:
    """Restores archives. Interrupted restores are cleaned up at the next start, see `IndexManager.sweep`."""

    def __init__(self, database: Database, files: FileStorage, indexes: IndexManager) -> None:
        self._database = database
        self._files = files
        self._indexes = indexes

    async def open(self, path: Path) -> StoreArchiveReader:
        """Open and validate an archive. The caller must close it. Raises `InvalidRequest`."""
        return await pools.UPLOADS.run(StoreArchiveReader, path)

    async def run(
        self,
        archive: StoreArchiveReader,
        store: StoreRow,
        is_known_model: Callable[[str], bool],
        claim: Callable[[], AbstractAsyncContextManager[None]],
    ) -> StoreRow:
        """Create ``store``, a row that does not exist yet, with everything in the archive.

        ``claim`` locks the names of the store while the store is created. ``is_known_model`` returns whether an
        embedding model is available. Vectors of unavailable models are left out. Raises `InvalidRequest`, `Conflict`,
        `Unavailable`.
        """
        progress = _Written()
        group_rows = [
            replace(
                item,
                store_id=store.id,
                embedding_model=_group_model(item.embedding_model, is_known_model),
                created_at=time.time(),
            )
            for item in archive.manifest.groups
        ]
        models = {
            DEFAULT_GROUP: store.embedding_model,
            **{row.name: row.model(store.embedding_model) for row in group_rows},
        }
        await self._indexes.reserve(store.id)
        try:
            await self._take_files(archive, store, progress)
            await self._take_chunks(archive, store, models, progress)
            async with claim():
                await self._finish(archive, store, group_rows, progress)
        except BaseException:
            await asyncio.shield(self._give_up(store, progress))
            raise
        await self._files.forget(progress.digests)
        return store

    async def _take_files(self, archive: StoreArchiveReader, store: StoreRow, progress: _Written) -> None:
        now = time.time()
        async for page in _pages(archive, archive.files()):
            progress.bytes += sum(item.bytes + item.usage_bytes for item in page)
            await self._files.require_room(store.owner, progress.bytes)
            for item in page:
                if item.file_id in progress.ids:
                    raise refused(f"it contains the file '{item.filename}' twice")
                if item.sha256 not in progress.digests:
                    await self._take_blob(archive, item)
                    progress.digests.add(item.sha256)
                file_id = progress.ids[item.file_id] = new_id("file-")
                file = FileRow(
                    file_id, store.owner, item.filename, "assistants", item.bytes, item.sha256, now
                )
                row = replace(item, store_id=store.id, file_id=file_id, created_at=now)
                progress.files.append((file, row))

    async def _take_blob(self, archive: StoreArchiveReader, item: StoreFileRow) -> None:
        with await pools.UPLOADS.run(archive.blob, item.sha256) as blob:
            file = await self._files.receive(_blocks(blob, item.filename))
        if (file.sha256, file.bytes) != (item.sha256, item.bytes):
            await self._files.drop(file)
            raise refused(f"the bytes of '{item.filename}' do not match the manifest")
        await self._files.place_early(file)

    async def _take_chunks(
        self, archive: StoreArchiveReader, store: StoreRow, models: dict[str, str], progress: _Written
    ) -> None:
        count = 0
        async for page in _pages(archive, archive.chunks()):
            for item in page:
                if item.file_id not in progress.ids or item.group not in models:
                    raise refused("a chunk belongs to a file or a group that the archive does not contain")
            batch = [replace(item, file_id=progress.ids[item.file_id]) for item in page]
            progress.note(await self._database.write(archives.put_chunks, store.id, batch, models))
            count += len(batch)
        if count != archive.manifest.chunks:
            raise refused(f"it contains {count:,} chunks, but its manifest lists {archive.manifest.chunks:,}")

    async def _finish(
        self, archive: StoreArchiveReader, store: StoreRow, group_rows: Sequence[GroupRow], progress: _Written
    ) -> None:
        states = [
            (group, progress.ids[file], error)
            for group, file, error in archive.manifest.group_files
            if file in progress.ids and group in {row.name for row in group_rows}
        ]

        def finish(connection: Any) -> bool:
            self._files.quota.require(connection, store.owner, progress.bytes)
            return archives.finish(connection, store, progress.files, group_rows, states, progress.runs)

        if not await self._database.write(finish):
            raise Conflict(
                f"A store '{store.name}' already exists. Import the archive under another name, or delete "
                "that store first.",
                code="name_taken",
                param="name",
            )

    async def _give_up(self, store: StoreRow, progress: _Written) -> None:
        await self._database.write(archives.give_up, store.id)
        await self._files.release(sorted(progress.digests))
        await self._files.forget(progress.digests)
        await self._indexes.drop(store.id)


def _group_model(model: str | None, is_known_model: Callable[[str], bool]) -> str | None:
    return model if not model or is_known_model(model) else ""


async def _pages(archive: StoreArchiveReader, items: Iterator[T]) -> AsyncIterator[list[T]]:
    """Yield ``items`` from the archive in pages, each read in a worker thread."""

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
        except Exception as error:  # zipfile can raise errors of zlib and struct
            raise refused(f"the bytes of '{name}' are damaged") from error
        if not block:
            return
        yield block
