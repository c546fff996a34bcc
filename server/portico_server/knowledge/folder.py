"""Following a folder: what is added, changed and deleted in it is mirrored in a store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portico.wire import JSON, Status
from portico_server.core.context import Context
from portico_server.core.errors import TooLarge, Unavailable
from portico_server.core.ids import new_id
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.files import MIRRORED, FileRow
from portico_server.db.stores import Mirrored, StoreFileRow, StoreRow
from portico_server.knowledge.files import Files, Received
from portico_server.knowledge.ingest import Ingest
from portico_server.knowledge.names import LONGEST, name_on_disk
from portico_server.knowledge.parse.formats import format_of, looks_like_text

logger = logging.getLogger(__name__)

IGNORED = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
"""Folders that are never looked into, besides hidden ones (``.git``, ``.venv`` …)."""

BLOCK = 1024 * 1024

GROUP = 64
"""Files that are taken in with one transaction."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that a walk has found. ``name`` is its path in the folder, as the API shows it."""

    name: str
    path: Path
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Walk:
    """What a walk has found; ``skipped`` counts files that are not read here, and why by reason."""

    files: dict[str, Seen] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Files and folders that could not be looked at: whether they are still there, nobody knows."""

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def is_gone(self, name: str) -> bool:
        """Whether a file that was there is there no longer."""
        return name not in self.files and not any(
            name == other or name.startswith(f"{other}/") for other in self.unknown
        )


@dataclass(slots=True)
class Result:
    """What a sync has done, in files."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0


def walk(root: Path, *, max_bytes: int) -> Walk:
    """Every file below ``root`` that can be read here.

    Links are followed, but never out of the folder, and never twice to the same place, so that loops end. Raises
    `Unavailable` if the folder cannot be read: then nothing is known of what is missing.
    """
    found = Walk()
    try:
        top = root.resolve(strict=True)
        visited = {_identity(top.stat())}
        pending = [root]
        while pending:
            for entry in _entries(pending.pop(), root, found):
                if entry.name.startswith(".") or entry.name in IGNORED:
                    continue
                if entry.is_symlink() and not _stays(entry, top):
                    found.skip("link out of the folder or to nothing")
                elif entry.is_dir():
                    place = _identity(entry.stat())
                    if place not in visited:
                        visited.add(place)
                        pending.append(Path(entry.path))
                else:
                    _take(entry, root, max_bytes, found)
    except OSError as error:
        raise Unavailable(
            f"The folder {error.filename or root} cannot be read ({error.strerror or error}). What was indexed of it "
            "is kept; sync again when it is back.",
            code="folder_unreadable",
        ) from error
    return found


def _entries(folder: Path, root: Path, found: Walk) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda item: item.name)
    except OSError:
        if folder == root:
            raise
        found.unknown.append(name_on_disk(str(folder.relative_to(root))))
        found.skip("not permitted")
        return []


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _stays(entry: os.DirEntry[str], top: Path) -> bool:
    try:
        return Path(entry.path).resolve(strict=True).is_relative_to(top)
    except (OSError, RuntimeError):  # to nothing, or in a circle
        return False


def _take(entry: os.DirEntry[str], root: Path, max_bytes: int, found: Walk) -> None:
    path = Path(entry.path)
    name = name_on_disk(str(path.relative_to(root)))
    try:
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            found.skip("not a file")
            return
        if status.st_size > max_bytes:
            found.skip(f"larger than {max_bytes // 2**20} MB")
        elif len(name.encode()) > LONGEST or name in found.files:
            found.skip("unusable name")
        elif format_of(name) is None and not _is_text(path):
            found.skip("not a document")
        else:
            found.files[name] = Seen(name, path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        found.skip("gone while looking")
    except OSError:
        found.unknown.append(name)
        found.skip("not permitted")


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8192)
    return bool(head) and looks_like_text(head)


class FolderSync:
    """Mirrors folders. A run ends when everything that it found is indexed."""

    def __init__(self, database: Database, files: Files, ingest: Ingest, *, max_bytes: int) -> None:
        self._database = database
        self._files = files
        self._ingest = ingest
        self._max_bytes = max_bytes

    async def run(self, store: StoreRow, context: Context) -> JSON:
        """Mirror the folder of ``store``, then index; counts of what was done.

        A file that has the size and the time it had is not read; one that was touched but has the same bytes is not
        indexed. A file that is renamed is one that went and one that came.
        """
        if store.folder is None:
            return {}
        root = Path(store.folder)
        await context.emit(Status("scan", str(root)))
        found = await asyncio.to_thread(walk, root, max_bytes=self._max_bytes)
        known = await self._database.read(rows.mirror, store.id)
        result = Result()
        gone = [row.file_id for name, row in known.items() if found.is_gone(name)]
        if gone:
            await self._files.remirror(store.id, (), gone)
        result.removed = len(gone)
        await self._mirror(store, found, known, result, context)
        if not found.files:
            await context.emit(
                Status(
                    "scan",
                    f"The folder {root} holds no documents that can be read. Add some, and sync again.",
                )
            )
        if found.skipped:
            logger.info("store %s: skipped %s", store.name, found.skipped)
        indexed = await self._ingest.run(store, context, changed=bool(result.removed))
        assert isinstance(indexed, dict)
        return {
            "added": result.added,
            "changed": result.changed,
            "removed": result.removed,
            "unchanged": result.unchanged,
            "skipped": sum(found.skipped.values()),
            "skipped_because": dict(found.skipped),
            **indexed,
        }

    async def _mirror(
        self,
        store: StoreRow,
        found: Walk,
        known: Mapping[str, StoreFileRow],
        result: Result,
        context: Context,
    ) -> None:
        """Take in what is new or has changed, `GROUP` files in a transaction."""
        arrived: list[tuple[Received, Mirrored]] = []
        total = len(found.files)
        try:
            for done, seen in enumerate(found.files.values(), start=1):
                old = known.get(seen.name)
                if old is not None and await self._is_same(store, seen, old):
                    result.unchanged += 1
                elif (came := await self._take_in(store, seen, old, found)) is not None:
                    arrived.append(came)
                    result.added += old is None
                    result.changed += old is not None
                if arrived and (len(arrived) == GROUP or done == total):
                    ready, arrived = arrived, []
                    await self._files.remirror(store.id, ready)
                await context.emit(Status("scan", seen.name, done=done, total=total, unit="files"))
        finally:
            for received, _item in arrived:
                await self._files.drop(received)

    async def _is_same(self, store: StoreRow, seen: Seen, old: StoreFileRow) -> bool:
        """Whether a file is what it was: by its time and size, else by its bytes."""
        try:
            if (self._files.blob(old.sha256)).stat().st_size != old.bytes:
                return False
        except OSError:
            return False  # our copy is gone: it is taken in again
        again: dict[str, object] = {}
        if (old.source_mtime_ns, old.source_size) != (seen.mtime_ns, seen.size):
            try:
                if await asyncio.to_thread(_digest, seen.path) != old.sha256:
                    return False
            except OSError:
                return True  # gone or unreadable since the walk: the next sync will see
            again = {"source_mtime_ns": seen.mtime_ns, "source_size": seen.size}
        if old.status == "failed" and old.error_code == "server_error":
            # What failed for a reason of ours (a model that was away, a full disk) deserves another try.
            again |= {"status": "in_progress", "error_code": None, "error_message": None}
        if again:
            await self._database.write(rows.set_file, store.id, old.file_id, again)
        return True

    async def _take_in(
        self, store: StoreRow, seen: Seen, old: StoreFileRow | None, found: Walk
    ) -> tuple[Received, Mirrored] | None:
        try:
            received = await self._files.receive(_blocks(seen.path), durable=False)
        except TooLarge:
            found.skip("grew too large while looking")
            return None
        except _UnreadError:
            found.skip("gone or unreadable while looking")
            return None
        file = FileRow(
            id=new_id("file-"),
            owner=f"{MIRRORED}{store.id}",
            filename=seen.name,
            purpose="assistants",
            bytes=received.bytes,
            sha256=received.sha256,
            created_at=time.time(),
        )
        return received, Mirrored(
            file,
            {} if old is None else old.attributes,
            {"type": "auto"} if old is None else old.chunking,
            seen.mtime_ns,
            seen.size,
            None if old is None else old.file_id,
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _UnreadError(Exception):
    """A followed file could not be read: not to be taken for a disk of ours that could not be written."""


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise _UnreadError from error
    with file:
        while True:
            try:
                block = await asyncio.to_thread(file.read, BLOCK)
            except OSError as error:
                raise _UnreadError from error
            if not block:
                return
            yield block
