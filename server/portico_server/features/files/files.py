"""Files: bytes stored under their SHA-256, and database rows that refer to them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from portico_server.blobs.place import BlobPlace, ReceivedFile, append_hashed, sync_file, write_failure
from portico_server.core import filter as filters
from portico_server.core import pools
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from portico_server.core.filenames import check_filename
from portico_server.core.ids import new_id
from portico_server.core.principal import SYSTEM, Principal
from portico_server.db import files as rows
from portico_server.db import store_files
from portico_server.db import stores as store_rows
from portico_server.db.blob_marks import BlobKind
from portico_server.db.database import Database
from portico_server.db.files import MIRRORED_OWNER, FileRow
from portico_server.db.rows import Order, RowPage
from portico_server.db.store_files import MirroredFile
from portico_server.features.files.file_copy import copy_file
from portico_server.runs.quotas import StorageQuota
from portico_server.settings import MB_BYTES

T = TypeVar("T")


FILE_BLOBS = BlobKind("blobs", rows.is_held, whole=False)
"""The kind of blobs that contain the bytes of files and of upload parts."""

MAX_IDS_PER_STATEMENT = 1_000
"""Maximum number of ids in one SQL statement."""

PURPOSES = (
    "assistants",
    "assistants_output",
    "batch",
    "batch_output",
    "evals",
    "fine-tune",
    "fine-tune-results",
    "user_data",
    "vision",
)
"""Purposes of an uploaded file, as named by OpenAI."""


def check_purpose(purpose: str) -> None:
    """Raise `InvalidRequest` unless the purpose is valid."""
    if purpose not in PURPOSES:
        raise InvalidRequest(
            f"'{purpose[:80]}' is not a valid purpose. Choose one of {', '.join(PURPOSES)}.",
            code="invalid_purpose",
            param="purpose",
        )


class FileStorage:
    """Content-addressed files. ``blobs`` stores the bytes; ``max_bytes`` is the maximum size of a file.

    When `create` returns, the bytes and the row of the file are stored durably. Identical bytes are stored once, and
    removed with the last row that refers to them. Callers see their own and shared files, unless a filter of their key
    hides the file in a store; all other files raise `NotFound`.
    """

    def __init__(
        self, database: Database, blobs: BlobPlace, *, max_bytes: int, quota: StorageQuota | None = None
    ) -> None:
        self.quota = quota or StorageQuota()
        self._database = database
        self._blobs = blobs
        self._max_bytes = max_bytes
        self.place_early = blobs.place_early
        self.forget = blobs.forget
        self.release = blobs.release
        self.holds = blobs.holds
        self.open = blobs.open
        self.require_readable: Callable[[FileRow, Principal], Awaitable[None]] | None = None
        """Raises `InvalidRequest` for a file whose bytes a guard hides from a caller; set by the stores."""

    async def start(self) -> None:
        """Remove the remains of interrupted uploads."""
        await self._blobs.start()

    async def expire(self, *, dry_run: bool = False) -> int:
        """Remove expired files and unreferenced bytes, and return the number of expired files. ``dry_run`` only counts
        them.
        """
        file_rows = await self._database.read(rows.expired_files)
        for row in () if dry_run else file_rows:
            await self.remove(row)
        if not dry_run:
            await self._blobs.sweep()
        return len(file_rows)

    async def create(
        self,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        caller: Principal,
        *,
        expires_at: float | None = None,
        owner: str | None = None,
    ) -> FileRow:
        """Store a file. ``owner`` defaults to the caller.

        Raises `InvalidRequest` for an invalid name or purpose, `TooLarge` as soon as the size exceeds the limit, and
        `Unavailable` if the disk is full. After an error, nothing of the file remains.
        """
        check_filename(filename)
        file = await self.receive(chunks)
        return await self.keep(file, filename, purpose, caller, expires_at=expires_at, owner=owner)

    async def receive(
        self, chunks: AsyncIterator[bytes], *, durable: bool = True, is_limited: bool = True
    ) -> ReceivedFile:
        """Write incoming bytes to disk. The caller must then call `keep` or `drop`.

        ``durable`` ensures that the bytes survive a power cut, which takes some milliseconds. ``is_limited`` applies
        the maximum size of files from users.
        """
        handle, name = await pools.UPLOADS.run(self._open)
        path = Path(name)
        digest, size = hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as out:
                async for chunk in chunks:
                    size += len(chunk)
                    if is_limited and size > self._max_bytes:
                        raise TooLarge(
                            f"The file is larger than the limit of {self._max_bytes // MB_BYTES} MB. Split "
                            "it, or raise the setting max_file_mb.",
                            code="file_too_large",
                            param="file",
                        )
                    await pools.UPLOADS.run(append_hashed, out, digest, chunk)
                if durable:
                    await pools.UPLOADS.run(sync_file, out)
        except BaseException as error:
            path.unlink(missing_ok=True)  # noqa: ASYNC240  # also when this task is being cancelled
            if isinstance(error, OSError):
                raise write_failure(error) from error
            raise
        return ReceivedFile(path, size, digest.hexdigest())

    async def drop(self, file: ReceivedFile) -> None:
        """Discard received bytes that were not kept."""
        await pools.UPLOADS.run(file.path.unlink, missing_ok=True)

    async def keep(
        self,
        file: ReceivedFile,
        filename: str,
        purpose: str,
        caller: Principal,
        *,
        expires_at: float | None = None,
        owner: str | None = None,
        add: Callable[[Any, FileRow], None] | None = None,
    ) -> FileRow:
        """Create a file from received bytes. ``add`` writes the file's row, and can make other changes in the same
        transaction.

        Without ``add``, raises `TooLarge` if the owner's files exceed the owner's storage limit, unless the daemon
        itself is the caller.
        """
        if add is None:
            add = rows.add if caller.id == SYSTEM.id else self._add
        row = FileRow(
            id=new_id("file-"),
            owner=owner or (None if caller.id == SYSTEM.id else caller.id),
            filename=filename,
            purpose=purpose,
            bytes=file.bytes,
            sha256=file.sha256,
            created_at=time.time(),
            expires_at=expires_at,
        )
        try:
            check_filename(filename)
            check_purpose(purpose)
        except BaseException:
            file.path.unlink(missing_ok=True)
            raise
        await self.hold(file, lambda connection: add(connection, row))
        return row

    async def require_room(self, owner: str | None, size: int) -> None:
        """Raise `TooLarge` if ``size`` more bytes would exceed the storage limit of a key."""
        await self._database.read(self.quota.look, owner, size)

    async def take_room(self, owner: str | None, size: int) -> None:
        """Check the limit as `require_room` does, and count the bytes as used before they are written."""
        await self._database.read(self.quota.require, owner, size)

    def _add(self, connection: Any, row: FileRow) -> None:
        self.quota.require(connection, row.owner, row.bytes)
        rows.add(connection, row)

    async def hold(self, file: ReceivedFile, write: Callable[[Any], None]) -> None:
        """Store received bytes and call ``write`` to add a row for them. If this fails, nothing is stored."""
        await self._blobs.place([file], write)

    async def remirror(
        self,
        store_id: str,
        came: Sequence[tuple[ReceivedFile, MirroredFile]],
        removed_ids: Sequence[str] = (),
        *,
        owner: str | None = None,
        rights: Any = None,
    ) -> None:
        """Add received files to a store of ``owner`` that mirrors a folder, and remove other files, in one
        transaction. If the store no longer has ``rights``, nobody may read the added files.

        Raises `TooLarge` if the owner's files would exceed the owner's storage limit. The bytes are not forced to
        disk: the folder still contains them, and each sync checks that Portico still stores them.
        """
        files = [file for file, _item in came]
        items = [item for _file, item in came]

        def work(connection: Any) -> Sequence[str]:
            self.quota.require(connection, owner, sum(file.bytes for file in files))
            return store_files.remirror(connection, store_id, items, removed_ids, rights)

        unneeded_digests = await self._blobs.place(files, work, durable=False)
        if unneeded_digests:
            await self._blobs.release(unneeded_digests)

    async def copy(self, paths: Sequence[Path]) -> Sequence[ReceivedFile | str]:
        """Receive files of this machine without forcing them to disk. For a file that fails, the result is the reason.

        Raises `Unavailable` if Portico cannot write to its own disk; then no file is received.
        """
        stop = threading.Event()
        work = pools.UPLOADS.begin(self._copy_all, paths, stop)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([work])
            if not work.exception():
                for received_file in work.result():
                    if isinstance(received_file, ReceivedFile):
                        await self.drop(received_file)
            raise

    async def get(self, file_id: str, caller: Principal) -> FileRow:
        """Return a file that the caller can see; otherwise raise `NotFound`."""
        row = await self._database.read(rows.get, file_id)
        has_expired = row is not None and row.expires_at is not None and row.expires_at <= time.time()
        if row is None or has_expired or not caller.sees(row.owner) or await self._withheld([row], caller):
            raise NotFound(f"File '{file_id[:80]}' not found.", code="file_not_found", param="file_id")
        return row

    async def readable(self, file_id: str, caller: Principal) -> FileRow:
        """Return a file of which the caller may read the bytes. Raises the errors of `get`, and `InvalidRequest` if a
        guard of a store with the file hides its text from the caller.
        """
        row = await self.get(file_id, caller)
        if self.require_readable is not None:
            await self.require_readable(row, caller)
        return row

    async def list(
        self,
        caller: Principal,
        *,
        after: str | None = None,
        limit: int = 10_000,
        order: Order = "desc",
        purpose: str | None = None,
    ) -> RowPage[FileRow]:
        """List the caller's own and shared files, newest first unless ``order`` is ``asc``.

        A file that a store mirrors from a folder appears only in the list of the store's files.
        """
        cursor = None if after is None else await self.get(after, caller)
        owner = None if caller.admin else caller.id
        file_rows: list[FileRow] = []
        while True:
            page = await self._database.read(
                rows.page, owner, after=cursor, limit=limit, order=order, purpose=purpose
            )
            withheld = await self._withheld(page.data, caller)
            file_rows += [row for row in page.data if row.id not in withheld]
            if not withheld or not page.has_more or len(file_rows) > limit:
                return RowPage(tuple(file_rows[:limit]), page.has_more or len(file_rows) > limit)
            cursor = page.data[-1]

    async def _withheld(self, file_rows: Sequence[FileRow], caller: Principal) -> frozenset[str]:
        """Return the ids of files that belong to a store in which the caller may not read them."""
        foreign = [] if caller.admin else [row.id for row in file_rows if row.owner != caller.id]
        holders: list[Any] = []
        for i in range(0, len(foreign), MAX_IDS_PER_STATEMENT):
            holders += await self._database.read(store_rows.holders, foreign[i : i + MAX_IDS_PER_STATEMENT])
        return frozenset(
            file_id
            for file_id, store, labels in holders
            if (condition := store.condition_for(caller)) is not None
            and not filters.permits(condition, labels)
        )

    async def delete(self, file_id: str, caller: Principal) -> FileRow:
        """Delete a file, also from every store, and return its former row."""
        row = await self.get(file_id, caller)
        if row.owner is None:
            caller.require("admin")
        elif row.owner.startswith(MIRRORED_OWNER):
            raise Conflict(
                f"'{row.filename}' mirrors a file from the source of a store: delete it at the source, and "
                "sync the store.",
                code="mirrored_file",
                param="file_id",
            )
        await self.remove(row)
        return row

    async def remove(self, row: FileRow) -> None:
        """Remove a file without checking rights."""
        if await self._database.write(rows.delete, row.id):
            await self._blobs.release([row.sha256])

    def missing(self, row: FileRow, param: str = "file_id") -> NotFound:
        """Return the error for a file whose bytes are missing."""
        return NotFound(
            f"The bytes of '{row.filename}' are {self._blobs.absence} Upload it again.",
            code="file_content_missing",
            param=param,
        )

    def _open(self) -> tuple[int, str]:
        try:
            self._blobs.arrivals.mkdir(parents=True, exist_ok=True)
            return tempfile.mkstemp(dir=self._blobs.arrivals)
        except OSError as error:
            raise write_failure(error) from error

    def _copy_all(self, paths: Sequence[Path], stop: threading.Event) -> Sequence[ReceivedFile | str]:
        copies: dict[Path, ReceivedFile | str] = {}
        try:
            for path in paths:
                handle, name = self._open()
                copies[path] = copy_file(path, handle, Path(name), self._max_bytes, stop)
        except BaseException as error:
            for item in copies.values():
                if isinstance(item, ReceivedFile):
                    item.path.unlink(missing_ok=True)
            if isinstance(error, OSError) and not isinstance(error, InterruptedError):
                raise write_failure(error) from error
            raise
        return [copies[path] for path in paths]
