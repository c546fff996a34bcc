"""The files in a store, added individually or in batches."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from portico.schemas.stores import FileCounts
from portico_server.core import pools
from portico_server.core.attributes import check_attributes
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooLarge, nearest
from portico_server.core.facts import FACT, RESERVED_ATTRIBUTES
from portico_server.core.ids import new_id
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Attributes
from portico_server.db import chunks, file_batches, groups
from portico_server.db import stores as rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.chunks import ChunkRow
from portico_server.db.database import Database
from portico_server.db.file_batches import FileBatchRow
from portico_server.db.files import MIRRORED_OWNER, FileRow
from portico_server.db.rows import Order, RowPage
from portico_server.db.stores import FileStatus, StoreFileRow, StoreRow, file_counts
from portico_server.features.chunkers.chunkers import check_chunking
from portico_server.features.chunkers.document import Part, Unreadable
from portico_server.features.files.files import FileStorage
from portico_server.features.readers.formats import is_picture, is_recording
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.sources.spec import followed_source
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.store import StoreView, pass_content, scope_name, scoped_card
from portico_server.runs.scheduler import Scheduler

"""Maximum number of attributes of a file, and of entries in ``metadata``."""

MAX_TEXT_CHARS = 32_000_000
"""Maximum number of characters of a file's text in one response."""

PAGE_FILES = 500
"""Minimum number of files read at a time when files that the caller may not read must be left out."""

MAX_PAGE = 1_000_000
"""Highest page number that can be rendered."""

MAX_MARKED_CHARS = 20_000
"""Maximum length of a passage to highlight on a page, in characters."""

MAX_BATCH_FILES = 2_000
"""Maximum number of files in a batch."""


@dataclass(frozen=True, slots=True)
class FileToAttach:
    """A file to add to a store: its id, its attributes, and its chunking strategy, not validated yet."""

    file_id: str
    attributes: Any = None
    chunking: Any = None


class StoreContents:
    """Manages the files of a store. The caller must get a `StoreView` from `Stores.get` for ``read`` or ``write``,
    which checks the rights.

    Files that the view does not permit are treated as nonexistent.
    """

    def __init__(
        self,
        database: Database,
        files: FileStorage,
        scheduler: Scheduler,
        readers: ReaderPool,
        indexes: IndexManager,
        registry: Registry,
    ) -> None:
        self._database = database
        self._files = files
        self._scheduler = scheduler
        self._readers = readers
        self._indexes = indexes
        self._registry = registry
        files.require_readable = self.require_readable

    async def queue(self, store: StoreRow, key: str | None = None) -> str:
        """Queue the indexing of a store's pending files, and return the id of the run. ``key`` is the id of the key
        that caused the indexing.
        """
        return await self._scheduler.ensure("ingest", store.id, store.work_for(key))

    async def attach(
        self, store: StoreView, attachments: Sequence[FileToAttach], caller: Principal
    ) -> Sequence[StoreFileRow]:
        """Add files to a store, all or none, and queue their indexing.

        Files that are already in the store are indexed again. Raises `NotFound` for a file that the caller cannot see,
        `Forbidden` for attributes that would hide the file in the store from the caller, and `InvalidRequest` for
        attributes that only the memory of agents may set.
        """
        for item in attachments:
            check_unreserved(check_attributes(item.attributes))
        return await self.attach_facts(store, attachments, caller)

    async def attach_facts(
        self, store: StoreView, attachments: Sequence[FileToAttach], caller: Principal
    ) -> Sequence[StoreFileRow]:
        """Add files as `attach` does, with any attributes. Only the memory of agents calls this directly."""
        checked_files = await self.check(attachments, caller)
        for _, attributes, _ in checked_files:
            store.require(attributes)
        if checked_files:
            if not await self._database.write(_attach_all, store, checked_files):
                await self.check(attachments, caller)  # names a file that was deleted since the first check
                raise NotFound(
                    f"Store '{store.name or store.id}' not found.", code="store_not_found", param="store"
                )
            await self.queue(store, None if caller.admin else caller.id)
        return [await self.get(store, file_id) for file_id, _, _ in checked_files]

    async def check(
        self, attachments: Sequence[FileToAttach], caller: Principal
    ) -> Sequence[tuple[str, Attributes, Mapping[str, Any]]]:
        """Validate the files to attach, and return what `attach` would write."""
        checked_files = []
        for item in attachments:
            file = await self._files.readable(item.file_id, caller)
            if file.owner is not None and file.owner.startswith(MIRRORED_OWNER):
                raise Conflict(
                    f"'{file.filename}' belongs to the folder of another store. Upload the file to attach it "
                    "to this store.",
                    code="mirrored_file",
                    param="file_id",
                )
            checked_files.append((file.id, check_attributes(item.attributes), check_chunking(item.chunking)))
        return checked_files

    async def get(self, store: StoreView, file_id: str) -> StoreFileRow:
        return await self._database.read(_get, store, file_id)

    async def list(
        self,
        store: StoreView,
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int = 20,
        order: Order = "desc",
        status: FileStatus | None = None,
        among: Sequence[str] | None = None,
    ) -> RowPage[StoreFileRow]:
        """List files by the time they were attached. ``after`` and ``before`` are the ids of files in the store."""
        first = None if after is None else await self.get(store, after)
        last = None if before is None else await self.get(store, before)

        def page(size: int) -> Awaitable[RowPage[StoreFileRow]]:
            return self._database.read(
                rows.file_page,
                store.id,
                after=first,
                before=last,
                limit=size,
                order=order,
                status=status,
                among=among,
            )

        if store.whole:
            return await page(limit)
        backwards = last is not None and first is None
        found_file_rows: list[StoreFileRow] = []
        while True:
            part = await page(max(limit, PAGE_FILES))
            file_rows = [row for row in part.data if store.permits(row)]
            found_file_rows = [*file_rows, *found_file_rows] if backwards else [*found_file_rows, *file_rows]
            if len(found_file_rows) > limit or not part.has_more:
                return RowPage(
                    tuple(found_file_rows[-limit:] if backwards else found_file_rows[:limit]),
                    len(found_file_rows) > limit,
                )
            if backwards:
                last = part.data[0]
            else:
                first = part.data[-1]

    async def by_name(self, store: StoreView, names: Sequence[str]) -> Mapping[str, StoreFileRow]:
        """Return the newest file with each of ``names``. Names without a file in the store are left out."""
        file_rows = await self._database.read(rows.named_files, store.id, names)
        return {row.filename: row for row in file_rows if store.permits(row)}

    async def counts(self, store: StoreView) -> tuple[FileCounts, int]:
        """Return the number of files with each status, and the total size of their chunks in bytes."""
        states: Counter[str] = Counter()
        used_bytes = 0
        for row in await self._database.read(rows.states, store.id):
            if store.permits(row):
                states[row.status] += 1
                used_bytes += row.usage_bytes
        return file_counts(states), used_bytes

    async def permitted(self, store: StoreView) -> frozenset[str]:
        """Return the ids of all files of a store that the view permits."""
        file_states = await self._database.read(rows.states, store.id)
        return frozenset(row.file_id for row in file_states if store.permits(row))

    async def set_attributes(self, store: StoreView, file_id: str, attributes: Any) -> StoreFileRow:
        """Replace the attributes of a file. The file is not indexed again, because filters read attributes from the
        database.

        Raises `Forbidden` for attributes that would hide the file from the caller.
        """
        await self.get(store, file_id)
        checked_attributes = check_attributes(attributes)
        check_unreserved(checked_attributes)
        await self._database.write(_set_attributes, store, file_id, checked_attributes)
        return await self.get(store, file_id)

    async def detach(self, store: StoreView, file_id: str) -> StoreFileRow:
        """Remove a file from a store, and return its former row. The file itself is kept.

        Raises `Conflict` for a file that the store mirrors from its folder, because the next sync would restore it.
        """
        row = await self.get(store, file_id)
        if row.source_size is not None:
            raise Conflict(
                f"'{row.filename}' mirrors a file from {followed_source(store)}: delete the file at its "
                "source.",
                code="mirrored_file",
            )
        await self._database.write(rows.detach, store.id, file_id)
        self._indexes.note_change(store.id, store.embedding_model)
        return row

    async def source(self, store: StoreView, file_id: str) -> FileRow:
        """Return the uploaded file for a file of a store, to read its bytes (`FileStorage.open`).

        Everyone who may read the store may read the bytes.
        """
        row = await self.get(store, file_id)
        file = await self._files.get(row.file_id, SYSTEM)
        assert (
            file.owner is None
            or not file.owner.startswith(MIRRORED_OWNER)
            or file.owner == f"{MIRRORED_OWNER}{store.id}"
        )
        return file

    async def text(self, store: StoreView, file_id: str) -> Sequence[Part]:
        """Return the text extracted from a file, in parts, as the guards of the store let it pass.

        Raises `InvalidRequest` if the file cannot be read or a guard blocks its text, and `TooLarge` if its text has
        more than `MAX_TEXT_CHARS` characters.
        """
        parts = await self._parts(store, await self.source(store, file_id))
        texts = await pass_content(self._registry, store, [part.text for part in parts])
        return [replace(part, text=text) for part, text in zip(parts, texts, strict=True)]

    async def require_readable(self, file: FileRow, caller: Principal) -> None:
        """Raise `InvalidRequest` if a guard would mask or block the text of a file in a store that contains the file.

        The bytes of a file cannot be masked. The owner of the file and admins may always read them.
        """
        guards = self._registry.content_guard
        if guards is None or caller.admin or file.owner == caller.id:
            return
        for _file_id, store, _labels in await self._database.read(rows.holders, [file.id]):
            try:
                await guards.require_unguarded(scoped_card(store), partial(self._texts, store, file))
            except InvalidRequest as error:
                raise InvalidRequest(
                    f"'{file.filename}' cannot be read as a file. {error.message} Read the text that the guard "
                    f"lets pass: /v1/vector_stores/{scope_name(store)}/files/{file.id}/content.",
                    code=error.code,
                    param="file_id",
                ) from error

    async def _texts(self, store: StoreRow, file: FileRow) -> Sequence[str]:
        """Return the texts in a file: those that a store reads, and all characters of a plain file."""
        try:
            texts = [part.text for part in await self._parts(store, file)]
        except InvalidRequest:
            if not is_picture(file.filename) and not is_recording(file.filename):
                raise
            return []  # guards do not check images and sounds
        async with self._files.open(file.sha256) as path:
            content_bytes = await pools.FILES.run(path.read_bytes)
        try:
            return [*texts, content_bytes.decode("utf-8-sig")]
        except UnicodeDecodeError:
            return texts

    async def _parts(self, store: StoreRow, file: FileRow) -> Sequence[Part]:
        if is_picture(file.filename) or is_recording(
            file.filename
        ):  # only the chunks contain the text that a model generated for the file
            chunk_rows = await self._database.read(chunks.of_file, store.id, file.id)
            if chunk_rows:
                return [Part(row.text, row.place) for row in chunk_rows]
        parts: list[Part] = []
        length = 0
        try:
            async with (
                self._files.open(file.sha256) as path,
                aclosing(self._readers.read(path, file.filename)) as runs,
            ):
                async for run in runs:
                    parts.extend(run)
                    length += sum(len(part.text) for part in run)
                    if length > MAX_TEXT_CHARS:
                        raise TooLarge(
                            f"{file.filename} has more than {MAX_TEXT_CHARS:,} characters. Download its "
                            f"bytes from /v1/files/{file.id}/content.",
                            code="file_too_large",
                            param="file_id",
                        )
        except Unreadable as error:
            raise InvalidRequest(
                f"{file.filename} {error.message}", code=error.code, param="file_id"
            ) from error
        return parts

    async def chunks(
        self, store: StoreView, file_id: str, group: str | None, after: int, limit: int
    ) -> tuple[Sequence[ChunkRow], bool]:
        """Return the chunks of a file that follow number ``after``, in reading order, and whether more chunks follow.
        The guards of the store leave out blocked chunks.

        The chunks belong to ``group``, or are the store's own chunks if ``group`` is not given.
        """
        row = await self.get(store, file_id)
        group_name = group or DEFAULT_GROUP
        group_names = [
            DEFAULT_GROUP,
            *(group_row.name for group_row in await self._database.read(groups.of_store, store.id)),
        ]
        if group_name not in group_names:
            raise NotFound(
                f"The store has no group '{group_name[:64]}'.{nearest(group_name, group_names)} Available "
                f"groups: {', '.join(group_names)}.",
                code="group_not_found",
                param="group",
            )
        read = partial(chunks.of_file, group=group_name)
        chunk_rows = await self._database.read(read, store.id, row.file_id, after, limit + 1)
        passed_rows = await pass_content(self._registry, store, chunk_rows[:limit])
        return passed_rows, len(chunk_rows) > limit

    async def page(
        self, store: StoreView, file_id: str, caller: Principal, number: int, passage: str
    ) -> bytes:
        """Render a page of a PDF, counted from 1, as a PNG with ``passage`` highlighted.

        Raises `InvalidRequest` if the file is not a PDF, the page does not exist or is damaged, or a guard refuses the
        file (`require_readable`).
        """
        file = await self.source(store, file_id)
        await self.require_readable(file, caller)
        try:
            async with self._files.open(file.sha256) as path:
                return await self._readers.draw(path, file.filename, number, passage)
        except Unreadable as error:
            param = "page" if error.code == "page_not_found" else "file_id"
            raise InvalidRequest(f"{file.filename} {error.message}", code=error.code, param=param) from error

    async def attach_batch(
        self, store: StoreView, attachments: Sequence[FileToAttach], caller: Principal
    ) -> FileBatchRow:
        """Add files to a store as a batch whose status can be queried."""
        if not 1 <= len(attachments) <= MAX_BATCH_FILES:
            raise InvalidRequest(
                f"A batch must have 1 to {MAX_BATCH_FILES:,} files, not {len(attachments):,}.",
                param="file_ids",
            )
        await self.attach(store, attachments, caller)
        ids = tuple(dict.fromkeys(item.file_id for item in attachments))
        row = FileBatchRow(new_id("vsfb_"), store.id, ids, time.time())
        await self._database.write(file_batches.add_batch, row)
        return row

    async def batch(self, store: StoreView, batch_id: str) -> tuple[FileBatchRow, FileCounts]:
        """Return a batch, limited to files that the caller may read, and the number of its files with each status."""
        row = await self._database.read(file_batches.get_batch, batch_id)
        if row is not None and not store.whole:
            permitted_files = await self.permitted(store)
            row = replace(row, file_ids=tuple(file for file in row.file_ids if file in permitted_files))
            row = row if row.file_ids else None
        if row is None or row.store_id != store.id:
            raise NotFound(
                f"The store '{store.name or store.id}' has no file batch '{batch_id[:80]}'.",
                code="file_batch_not_found",
                param="batch_id",
            )
        return row, await self._database.read(file_batches.batch_counts, row)

    async def cancel_batch(self, store: StoreView, batch_id: str) -> tuple[FileBatchRow, FileCounts]:
        """Cancel the pending files of a batch. Files that are already indexed are kept.

        If the caller may read only some of the files, only those are canceled. An error would reveal that others
        exist.
        """
        row, _ = await self.batch(store, batch_id)
        await self._database.write(file_batches.cancel_batch, row)
        self._indexes.note_change(store.id, store.embedding_model)
        return await self.batch(store, batch_id)


def _get(connection: Any, store: StoreView, file_id: str) -> StoreFileRow:
    """Return a file of a store. Raise `NotFound` if the view does not permit it."""
    row = rows.file(connection, store.id, file_id)
    if row is None or not store.permits(row):
        raise NotFound(
            f"The store '{store.name or store.id}' contains no file '{file_id[:80]}'.",
            code="file_not_found",
            param="file_id",
        )
    return row


def _set_attributes(connection: Any, store: StoreView, file_id: str, attributes: Attributes) -> None:
    """Set the attributes of a file. Raise `NotFound` or `Forbidden`, see `StoreContents.set_attributes`."""
    # checked in the transaction, because another caller can reclassify the file meanwhile
    row = _get(connection, store, file_id)
    _require_document(row)
    store.require(attributes, row.readers)
    rows.set_file(connection, store.id, file_id, {"attributes": attributes})


def _attach_all(
    connection: Any,
    store: StoreView,
    checked_files: Sequence[tuple[str, Attributes, Mapping[str, Any]]],
) -> bool:
    """Add files to a store; return ``False`` if the store or a file was deleted. Raise `Forbidden` if the store
    contains one of the files but hides it from the caller.
    """
    for file_id, _, _ in () if store.whole and store.facts_of is None else checked_files:
        row = rows.file(connection, store.id, file_id)
        if row is not None:
            store.require(row.attributes, row.readers)
            _require_document(row)
    return rows.attach_all(connection, store.id, checked_files)


def check_unreserved(attributes: Mapping[Any, Any]) -> None:
    """Raise `InvalidRequest` if attributes contain a name that only the memory of agents may set."""
    name = next((name for name in RESERVED_ATTRIBUTES if name in attributes), None)
    if name is not None:
        raise InvalidRequest(
            f"The attribute '{name}' is reserved for facts that agents remember. Use another name; reserved are "
            f"{', '.join(RESERVED_ATTRIBUTES)}.",
            code="reserved_attribute",
            param=f"attributes.{name}",
        )


def _require_document(row: StoreFileRow) -> None:
    """Raise `Conflict` if the file is a fact, whose attributes only the memory of agents may set."""
    if row.attributes.get(FACT) is True:
        raise Conflict(
            f"'{row.filename}' is a fact that an agent remembers. Change or delete it with /api/facts.",
            code="file_is_fact",
            param="file_id",
        )
