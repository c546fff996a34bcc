"""The files of a source or a target of a migration: in a folder or in a bucket, each named after its SHA-256."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Final, Protocol

from portico_server import home_replacement
from portico_server.blobs.bucket import Bucket
from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.features.backup import layout

ARRIVING: Final = "arriving"
"""Folder of incomplete files. A daemon that starts removes its contents."""


class FilePlace(Protocol):
    """Where one side of a migration stores files. ``name`` is as in an archive, such as ``blobs/12/3456…``."""

    async def fetch(self, name: str, sha256: str, scratch: Path | None) -> Path | None:
        """Return a local file with the bytes, perhaps the new file ``scratch``; ``None`` if the bytes are missing or
        have another digest.
        """

    def scratch(self, name: str) -> Path | None:
        """Return the path of an incomplete file, from which `store` can move it; ``None`` for a bucket, which has no
        local files.
        """

    async def store(self, path: Path, name: str, sha256: str) -> None:
        """Store the bytes of a local file, so that they survive a power failure."""


class FilesFolder:
    """A `FilePlace` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def fetch(self, name: str, sha256: str, scratch: Path | None) -> Path | None:
        path = self.folder / name
        return path if await pools.UPLOADS.run(_digest, path) == sha256 else None

    def scratch(self, name: str) -> Path:
        return self.folder / name.partition("/")[0] / ARRIVING / "".join(name.split("/")[-2:])

    async def store(self, path: Path, name: str, sha256: str) -> None:
        await pools.UPLOADS.run(put_file, path, self.scratch(name), self.folder / name)


class FilesBucket:
    """A `FilePlace` in a bucket, which checks the digest of what it receives."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def close(self) -> None:
        """Close the connections."""
        await self._bucket.close()

    async def fetch(self, name: str, sha256: str, scratch: Path | None) -> Path | None:
        assert scratch is not None, "the target of a bucket is a folder"
        try:
            await self._bucket.download(name, sha256, scratch)
        except FileNotFoundError:
            return None
        except Unavailable as error:
            if error.code != "file_content_damaged":
                raise
            return None
        return scratch

    def scratch(self, name: str) -> Path | None:
        return None

    async def store(self, path: Path, name: str, sha256: str) -> None:
        size = (await pools.UPLOADS.run(path.stat)).st_size
        await self._bucket.put(path, name, sha256, size)


def put_file(path: Path, scratch: Path, target: Path) -> None:
    """Store a copy of a file as ``target``, completely or not at all; move ``scratch`` instead if it is the file."""
    try:
        for folder in (scratch.parent, target.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path != scratch:
            shutil.copyfile(path, scratch)
            scratch.chmod(0o600)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(target)
        for folder in (target.parent, target.parent.parent):
            home_replacement.flush(folder)
    except OSError as error:
        raise explain(error, target) from error


def copy_adapters(source: Path, target: Path) -> None:
    """Copy the files of adapters that the target lacks. An adapter's folder is named after its content."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_file() and not (copy.is_file() and copy.stat().st_size == path.stat().st_size):
            put_file(path, copy.with_name(f".{copy.name}.new"), copy)


def explain(error: OSError, path: Path) -> Unavailable:
    """Return the error for a failed write of a file."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Unavailable(
        f"Cannot write {path}: {error.strerror}. Everything copied so far is safe: "
        f"{'free some space' if is_full else 'give this user write access'}, then run the same command again.",
        code="disk_full" if is_full else "storage_failed",
    )


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string, or "" if the file does not exist."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def entry(folder: str, sha256: str) -> str:
    """Return the name of a file in one of the folders of `portico_server.db.transfer.FOLDERS`."""
    return layout.artifact(sha256) if folder == f"{layout.ARTIFACTS}/" else layout.blob(sha256)
