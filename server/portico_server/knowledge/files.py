"""Files: bytes under their SHA-256, rows that name them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from portico_server.blobs.place import BlobPlace, ReceivedFile, append_hashed, sync_file, write_failure
from portico_server.core import pools
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
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
from portico_server.knowledge.file_copy import copy_file
from portico_server.knowledge.names import check_filename
from portico_server.knowledge.store import view
from portico_server.runs.quotas import StorageQuota
from portico_server.settings import MB_BYTES

T = TypeVar("T")


FILE_BLOBS = BlobKind("blobs", rows.is_held, whole=False)
"""The bytes of files and of parts of uploads."""

MAX_IDS_PER_STATEMENT = 1_000
"""Ids in one statement."""

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
"""What an uploaded file may be for, as OpenAI names it."""


def check_purpose(purpose: str) -> None:
    """Raise `InvalidRequest` unless a file can be for this."""
    if purpose not in PURPOSES:
        raise InvalidRequest(
            f"'{purpose[:80]}' is not a purpose. Purposes are: {', '.join(PURPOSES)}.",
            code="invalid_purpose",
            param="purpose",
        )


class FileStorage:
    """Content-addressed files. ``blobs`` has the bytes; ``max_bytes`` is the largest file.

    What `create` returned is kept, bytes and row. The same bytes are kept once, and removed with the last row that
    stands for them. Callers see their own files and shared ones, save those that a store holds and a filter of their
    key withholds there; everything else is `NotFound`.
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

    async def start(self) -> None:
        """Remove what an interrupted upload left."""
        await self._blobs.start()

    async def expire(self, *, dry_run: bool = False) -> int:
        """Remove the files whose time has run out, and bytes that have none; how many files. ``dry_run`` only counts
        them.
        """
        file_rows = await self._database.read(rows.expired)
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
        """Keep a file. ``owner`` is the caller unless it is given.

        Raises `InvalidRequest` for a bad name or purpose, `TooLarge` as soon as it is known, `Unavailable` when the
        disk is full; nothing of the file stays behind then.
        """
        check_filename(filename)
        file = await self.receive(chunks)
        return await self.keep(file, filename, purpose, caller, expires_at=expires_at, owner=owner)

    async def receive(
        self, chunks: AsyncIterator[bytes], *, durable: bool = True, is_limited: bool = True
    ) -> ReceivedFile:
        """Write bytes to disk as they come. Follow with `keep` or `drop`.

        ``durable``: so that they survive a power cut, which costs some milliseconds; ``is_limited``: to the
        largest file that is taken of others.
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
                            f"The file is larger than {self._max_bytes // MB_BYTES} MB, the most that is taken here. "
                            "Split it, or raise the setting max_file_mb.",
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
        """Forget bytes that no row came for."""
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
        """Make a file of received bytes. ``add`` writes its row, and what else belongs into that transaction.

        Without it `TooLarge` is raised if the owner keeps too much on the disk, unless it is the daemon's own work.
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
        """Raise `TooLarge` if a key may not keep so many bytes more."""
        await self._database.read(self.quota.look, owner, size)

    async def take_room(self, owner: str | None, size: int) -> None:
        """As `require_room`, and count them: they are about to be written."""
        await self._database.read(self.quota.require, owner, size)

    def _add(self, connection: Any, row: FileRow) -> None:
        self.quota.require(connection, row.owner, row.bytes)
        rows.add(connection, row)

    async def hold(self, file: ReceivedFile, write: Callable[[Any], None]) -> None:
        """Put received bytes in their place and ``write`` a row for them; if that fails nothing stays behind."""
        await self._blobs.place([file], write)

    async def remirror(
        self,
        store_id: str,
        came: Sequence[tuple[ReceivedFile, MirroredFile]],
        removed_ids: Sequence[str] = (),
        *,
        owner: str | None = None,
    ) -> None:
        """Let received files come into a store of ``owner`` that mirrors a folder, and others go, in one transaction.
        Raises `TooLarge` if the owner would keep too much on the disk.

        Their bytes are not forced to disk: the folder has them, and a sync looks whether they are still here.
        """
        files = [file for file, _item in came]
        items = [item for _file, item in came]

        def work(connection: Any) -> Sequence[str]:
            self.quota.require(connection, owner, sum(file.bytes for file in files))
            return store_files.remirror(connection, store_id=store_id, came=items, removed_ids=removed_ids)

        unneeded_digests = await self._blobs.place(files, work, durable=False)
        if unneeded_digests:
            await self._blobs.release(unneeded_digests)

    async def copy(self, paths: Sequence[Path]) -> Sequence[ReceivedFile | str]:
        """Receive files of this machine, without forcing them to disk; in place of one that cannot be: why.

        Raises `Unavailable` if our own disk is to blame; nothing of any of them stays behind then.
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
        """The file, if it is there for this caller; otherwise `NotFound`."""
        row = await self._database.read(rows.get, file_id)
        has_expired = row is not None and row.expires_at is not None and row.expires_at <= time.time()
        if row is None or has_expired or not caller.sees(row.owner) or await self._withheld([row], caller):
            raise NotFound(f"There is no file '{file_id[:80]}'.", code="file_not_found", param="file_id")
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
        """Uploaded files of this caller and shared ones, newest first unless ``order`` is ``asc``.

        Files that a store mirrors from a folder are listed with that store alone.
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
        """The ids of those files that a filter of the caller withholds in a store that holds them."""
        foreign = [row.id for row in file_rows if row.owner != caller.id] if caller.filters else []
        holders: list[Any] = []
        for i in range(0, len(foreign), MAX_IDS_PER_STATEMENT):
            holders += await self._database.read(store_rows.holders, foreign[i : i + MAX_IDS_PER_STATEMENT])
        return frozenset(
            file_id for file_id, store, attributes in holders if not view(store, caller).permits(attributes)
        )

    async def delete(self, file_id: str, caller: Principal) -> FileRow:
        """Remove a file, from every store too; the row that was."""
        row = await self.get(file_id, caller)
        if row.owner is None:
            caller.require("admin")
        elif row.owner.startswith(MIRRORED_OWNER):
            raise Conflict(
                f"'{row.filename}' mirrors a file in what a store follows: delete it there, and sync.",
                code="mirrored_file",
                param="file_id",
            )
        await self.remove(row)
        return row

    async def remove(self, row: FileRow) -> None:
        """Remove a file, whoever asks."""
        if await self._database.write(rows.delete, row.id):
            await self._blobs.release([row.sha256])

    def missing(self, row: FileRow, param: str = "file_id") -> NotFound:
        """The error for a file whose bytes are not here."""
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
