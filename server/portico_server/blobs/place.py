"""The interface for storing bytes under their SHA-256, and its implementation in a folder."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.db.blob_marks import BlobKind
from portico_server.db.database import Database

T = TypeVar("T")

ABANDONED_S: Final = 86_400.0
"""Seconds after which an incoming file in shared storage is considered abandoned."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """Bytes that have been received on disk but are not a file yet."""

    path: Path
    bytes: int
    sha256: str


class StorageUnavailable(Unavailable):
    """The byte storage does not answer, or answers with an error."""

    code = "storage_unavailable"


class BlobPlace(Protocol):
    """Storage for one kind of bytes. Identical bytes are stored once and removed with the last row that refers to
    them.

    If daemons share the storage, no daemon removes bytes while another daemon is writing a row for them.
    """

    @property
    def arrivals(self) -> Path:
        """The local folder that receives new bytes; the folder may not exist yet."""

    @property
    def absence(self) -> str:
        """The end of a message about missing bytes, which begins with "The bytes of this are …"."""

    async def start(self) -> None:
        """Remove what a killed daemon left on this machine."""

    async def sweep(self) -> None:
        """Remove what other killed daemons left, and what could not be removed before."""

    async def place(
        self, files: Sequence[ReceivedFile], write: Callable[[Any], T], *, durable: bool = True
    ) -> T:
        """Store received bytes and ``write`` their rows; if writing fails, remove the bytes.

        With ``durable``, the bytes survive a power failure.
        """

    async def place_early(self, file: ReceivedFile) -> None:
        """Store received bytes before their row exists.

        After the row is written, call `forget`. If no row will be written, call `release` and then `forget`. A later
        sweep removes bytes without a row.
        """

    async def forget(self, digests: Collection[str]) -> None:
        """Remove the marks of bytes that were stored early, after their rows are written or the bytes are released."""

    async def release(self, digests: Sequence[str]) -> None:
        """Remove those of the bytes with ``digests`` to which no row refers."""

    def holds(self, sha256: str, size: int) -> bool:
        """Return whether the bytes with this digest exist and have their original size."""

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """Return a context manager for a local file that contains the bytes with a digest. If the bytes are missing,
        the path does not exist.

        Callers must not write to the file. Raises `Unavailable`.
        """


class FolderBlobs:
    """A `BlobPlace` in a folder, which daemons on one PostgreSQL can share."""

    def __init__(self, database: Database, folder: Path, kind: BlobKind) -> None:
        self._database = database
        self._folder = folder
        self._kind = kind
        self._is_shared = database.postgres is not None
        """True if daemons on other machines can work on the same folder."""
        # No blob may be removed between finding it for a new row and writing the row.
        self._lock = asyncio.Lock()

    @property
    def arrivals(self) -> Path:
        return self._folder / "arriving"

    @property
    def absence(self) -> str:
        if self._is_shared:
            return (
                "not in the folder of this daemon, which shares its database with other daemons. Set the "
                "setting 'files' of all of them to the same folder or bucket."
            )
        return "no longer on this machine."

    async def start(self) -> None:
        if noted_digests := await pools.UPLOADS.run(self._sweep_arrivals):
            await self._release(noted_digests)

    async def sweep(self) -> None:
        """Do nothing: the next start removes what killed daemons left."""

    async def place(
        self, files: Sequence[ReceivedFile], write: Callable[[Any], T], *, durable: bool = True
    ) -> T:
        try:
            async with self._lock:
                try:
                    return await self._arrive(files, write, durable=durable)
                except BaseException:
                    await asyncio.shield(self._release([item.sha256 for item in files]))
                    raise
                finally:
                    await asyncio.shield(pools.UPLOADS.run(self._forget, files))  # also if cancelled
        except BaseException:
            for item in files:
                item.path.unlink(missing_ok=True)
            raise

    async def place_early(self, file: ReceivedFile) -> None:
        async with self._lock:
            await self._arrive([file], _write_nothing, durable=True)

    async def forget(self, digests: Collection[str]) -> None:
        for digest in digests:
            await pools.UPLOADS.run(self._arrival_marker(digest).unlink, missing_ok=True)

    async def release(self, digests: Sequence[str]) -> None:
        async with self._lock:
            await self._release(digests)

    def holds(self, sha256: str, size: int) -> bool:
        try:
            # Called for every file of a followed source, so it avoids pathlib objects.
            return os.stat(f"{self._folder}/{self._kind.path(sha256)}").st_size == size
        except OSError:
            return False

    @asynccontextmanager
    async def open(self, sha256: str) -> AsyncIterator[Path]:
        yield self._path(sha256)

    def _path(self, sha256: str) -> Path:
        return self._folder / self._kind.path(sha256)

    def _arrival_marker(self, sha256: str) -> Path:
        """Return the path of the marker that exists between storing bytes and writing their row. The next start checks
        whether the row exists.
        """
        postgres = self._database.postgres
        return self.arrivals / (sha256 if postgres is None else f"{sha256}-{postgres.origin}")

    def _forget(self, files: Sequence[ReceivedFile]) -> None:
        """Remove the markers and partial files of received bytes."""
        for item in files:
            item.path.unlink(missing_ok=True)
            self._arrival_marker(item.sha256).unlink(missing_ok=True)

    async def _arrive(self, files: Sequence[ReceivedFile], work: Callable[[Any], T], *, durable: bool) -> T:
        """Store bytes and write their rows. Meanwhile, no stored bytes are removed.

        Within this daemon, `_lock` ensures this. In a shared folder, bytes are added and removed inside write
        transactions, which PostgreSQL runs one at a time.
        """
        if self._is_shared:

            def place_row(connection: Any) -> T:
                self._move_all_into_place(files, durable)
                return work(connection)

            return await self._database.write(place_row)
        await pools.UPLOADS.run(self._move_all_into_place, files, durable)
        return await self._database.write(work)

    async def _release(self, digests: Sequence[str]) -> None:
        # On SQLite, a write that has started commits even if its caller was cancelled: check after that write.
        transact = self._database.read if self._is_shared else self._database.write
        unheld = await transact(self._unheld, digests)
        if not unheld:
            return
        if self._is_shared:  # another daemon may have written a row for the bytes since
            await pools.UPLOADS.run(self._unmark_all, unheld)
            await self._database.write(self._unlink_unheld, unheld)
        else:
            await pools.UPLOADS.run(self._unlink_all, unheld)

    def _unheld(self, connection: Any, digests: Sequence[str]) -> list[str]:
        return [digest for digest in digests if not self._kind.is_held(connection, digest)]

    def _unmark_all(self, digests: Sequence[str]) -> None:
        for digest in digests:
            self._arrival_marker(digest).unlink(missing_ok=True)

    def _unlink_unheld(self, connection: Any, digests: Sequence[str]) -> None:
        for digest in self._unheld(connection, digests):
            if not any(self.arrivals.glob(f"{digest}*")):
                self._unlink(digest)

    def _unlink_all(self, digests: Sequence[str]) -> None:
        for digest in digests:
            self._unlink(digest)

    def _unlink(self, sha256: str) -> None:
        path = self._path(sha256)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: the folder contains other digests with the same first two digits
            path.parent.rmdir()

    def _move_all_into_place(self, files: Sequence[ReceivedFile], durable: bool) -> None:
        for item in files:
            self._move_into_place(item, durable=durable)

    def _move_into_place(self, file: ReceivedFile, *, durable: bool = True) -> None:
        """Move received bytes to their final path; with ``durable``, they survive a power failure."""
        place = self._path(file.sha256)
        try:
            self._arrival_marker(file.sha256).touch()
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists() and place.stat().st_size == file.bytes:
                file.path.unlink()
                return
            file.path.replace(place)
            for folder in (place.parent, self._folder) if durable else ():
                _sync_folder(folder)
        except OSError as error:
            raise write_failure(error) from error

    def _sweep_arrivals(self) -> Sequence[str]:
        """Remove incomplete bytes; return the digests of complete bytes that may have no row."""
        noted_digests = []
        if self.arrivals.is_dir():
            left_at = time.time() - ABANDONED_S
            for path in self.arrivals.iterdir():
                with suppress(FileNotFoundError):
                    if self._is_shared and path.stat().st_mtime > left_at:
                        continue  # another daemon may still be receiving the file
                    path.unlink()
                if len(path.name) >= 64:
                    noted_digests.append(path.name[:64])
        return noted_digests


def _write_nothing(_connection: Any) -> None:
    """Do nothing, because the row is written later."""


def append_hashed(out: BinaryIO, digest: hashlib._Hash, block: bytes) -> None:
    """Write the next bytes of a file, and update its digest. Blocks."""
    out.write(block)
    digest.update(block)


def sync_file(out: BinaryIO) -> None:
    """Sync the written bytes to disk. Blocks."""
    out.flush()
    os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_failure(error: OSError) -> Unavailable:
    """Return the error for a failed write to the local disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"The disk of {error.filename or 'the files'} is full. Nothing was stored; free some space and "
            "try again.",
            code="disk_full",
        )
    return Unavailable(f"The file could not be written: {error.strerror or error}.", code="storage_failed")
