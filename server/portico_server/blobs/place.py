"""A place for bytes under their SHA-256, and the one that is a folder."""

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
"""Seconds after which what is still arriving where daemons share a place has been left there by one that ended."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """Bytes that have arrived and are on disk, but are not a file yet."""

    path: Path
    bytes: int
    sha256: str


class StorageUnavailable(Unavailable):
    """The place of the bytes does not answer, or not well."""

    code = "storage_unavailable"


class BlobPlace(Protocol):
    """Where the bytes of one kind lie. The same bytes are kept once, and removed with the last row that stands for
    them; where daemons share the place, none removes what another one is just giving a row.
    """

    @property
    def arrivals(self) -> Path:
        """The folder of this machine in which bytes are received; it may not be there yet."""

    @property
    def absence(self) -> str:
        """What follows on "The bytes of this are" where they are gone."""

    async def start(self) -> None:
        """Remove what a daemon left here that was killed."""

    async def sweep(self) -> None:
        """Remove what other daemons left that were killed, or what could not be removed before."""

    async def place(
        self, files: Sequence[ReceivedFile], write: Callable[[Any], T], *, durable: bool = True
    ) -> T:
        """Put received bytes in their place and ``write`` rows for them; if that fails nothing of them stays behind.

        ``durable``: so that the bytes survive a power cut.
        """

    async def place_early(self, file: ReceivedFile) -> None:
        """Put received bytes in their place before there is a row for them; follow with `forget`, after a `release`
        where there will be none. What never gets a row is removed by a later sweep.
        """

    async def forget(self, digests: Collection[str]) -> None:
        """Say that what was placed early has its rows, or was released."""

    async def release(self, digests: Sequence[str]) -> None:
        """Remove the bytes under ``digests`` that no row stands for any longer."""

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the bytes with this digest are here and as long as they were."""

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """A file of this machine with the bytes under a digest, as long as it is open; nothing is at that path if they
        are gone. Never to be written to. Raises `Unavailable`.
        """


class FolderBlobs:
    """A `BlobPlace` that is a folder, which daemons on one PostgreSQL may share."""

    def __init__(self, database: Database, folder: Path, kind: BlobKind) -> None:
        self._database = database
        self._folder = folder
        self._kind = kind
        self._shared = database.postgres is not None
        """Whether daemons on other machines may work on the same folder."""
        # A blob must not be removed between the moment one row finds it there and the moment that row is written.
        self._lock = asyncio.Lock()

    @property
    def arrivals(self) -> Path:
        return self._folder / "arriving"

    @property
    def absence(self) -> str:
        if self._shared:
            return (
                "not in the folder of this daemon, which shares its database with others. Give all of them one folder "
                "or bucket with the setting 'files'."
            )
        return "no longer on this machine."

    async def start(self) -> None:
        if noted_digests := await pools.UPLOADS.run(self._sweep_arrivals):
            await self._release(noted_digests)

    async def sweep(self) -> None:
        """What daemons left is found at a start."""

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
                    await asyncio.shield(pools.UPLOADS.run(self._forget, files))  # also when cancelled
        except BaseException:
            for item in files:
                item.path.unlink(missing_ok=True)
            raise

    async def place_early(self, file: ReceivedFile) -> None:
        async with self._lock:
            await self._arrive([file], _nothing, durable=True)

    async def forget(self, digests: Collection[str]) -> None:
        for digest in digests:
            await pools.UPLOADS.run(self._arrival_marker(digest).unlink, missing_ok=True)

    async def release(self, digests: Sequence[str]) -> None:
        async with self._lock:
            await self._release(digests)

    def holds(self, sha256: str, size: int) -> bool:
        try:
            # Asked for every file that is followed: without the objects of pathlib.
            return os.stat(f"{self._folder}/{self._kind.path(sha256)}").st_size == size
        except OSError:
            return False

    @asynccontextmanager
    async def open(self, sha256: str) -> AsyncIterator[Path]:
        yield self._path(sha256)

    def _path(self, sha256: str) -> Path:
        return self._folder / self._kind.path(sha256)

    def _arrival_marker(self, sha256: str) -> Path:
        """Lies there while bytes are in their place and the row is not: the next start looks whether it ever came."""
        postgres = self._database.postgres
        return self.arrivals / (sha256 if postgres is None else f"{sha256}-{postgres.origin}")

    def _forget(self, files: Sequence[ReceivedFile]) -> None:
        """Remove what arriving leaves behind."""
        for item in files:
            item.path.unlink(missing_ok=True)
            self._arrival_marker(item.sha256).unlink(missing_ok=True)

    async def _arrive(self, files: Sequence[ReceivedFile], work: Callable[[Any], T], *, durable: bool) -> T:
        """Move bytes to their place and write their rows, while nobody removes what is there already.

        In this daemon `_lock` sees to it. Where others use the folder, bytes come and go within transactions that
        write, of which PostgreSQL lets one run at a time.
        """
        if self._shared:

            def placed(connection: Any) -> T:
                self._move_all_into_place(files, durable)
                return work(connection)

            return await self._database.write(placed)
        await pools.UPLOADS.run(self._move_all_into_place, files, durable)
        return await self._database.write(work)

    async def _release(self, digests: Sequence[str]) -> None:
        unheld = await self._database.read(self._unheld, digests)
        if not unheld:
            return
        if self._shared:  # another daemon may have made a file of them since
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
        with suppress(OSError):  # not empty: other bytes begin with the same two digits
            path.parent.rmdir()

    def _move_all_into_place(self, files: Sequence[ReceivedFile], durable: bool) -> None:
        for item in files:
            self._move_into_place(item, durable=durable)

    def _move_into_place(self, file: ReceivedFile, *, durable: bool = True) -> None:
        """Move received bytes to their place; ``durable``: so that they are still there after a power cut."""
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
        """Remove what never arrived; the digests of bytes that did, but perhaps without a row."""
        noted_digests = []
        if self.arrivals.is_dir():
            left_at = time.time() - ABANDONED_S
            for path in self.arrivals.iterdir():
                with suppress(FileNotFoundError):
                    if self._shared and path.stat().st_mtime > left_at:
                        continue  # it may be on its way to another daemon
                    path.unlink()
                if len(path.name) >= 64:
                    noted_digests.append(path.name[:64])
        return noted_digests


def _nothing(_connection: Any) -> None:
    """No row comes with the bytes."""


def append_hashed(out: BinaryIO, digest: hashlib._Hash, block: bytes) -> None:
    """Write the next bytes of a file, and count them into its digest. Blocks."""
    out.write(block)
    digest.update(block)


def sync_file(out: BinaryIO) -> None:
    """Have the disk keep what was written. Blocks."""
    out.flush()
    os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_failure(error: OSError) -> Unavailable:
    """What there is to say when this machine's disk does not take bytes."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"The disk that holds {error.filename or 'the files'} is full. Nothing was kept; free some space and "
            "try again.",
            code="disk_full",
        )
    return Unavailable(f"The file could not be written: {error.strerror or error}.", code="storage_failed")
