"""Following a folder: what is added, changed and deleted in it is mirrored in a store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from portico.wire import JSON, Status
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.principal import SYSTEM
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.files import MIRRORED
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.knowledge.files import Files
from portico_server.knowledge.ingest import Ingest
from portico_server.knowledge.names import LONGEST, name_on_disk
from portico_server.knowledge.parse.formats import format_of, looks_like_text

logger = logging.getLogger(__name__)

IGNORED = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
"""Folders that are never looked into, besides hidden ones (``.git``, ``.venv`` …)."""

BLOCK = 1024 * 1024


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
        for name, row in known.items():
            if found.is_gone(name):
                await self._remove(row)
                result.removed += 1
        total = len(found.files)
        for done, seen in enumerate(found.files.values(), start=1):
            await self._mirror(store, seen, known.get(seen.name), result, found)
            await context.emit(Status("scan", seen.name, done=done, total=total, unit="files"))
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
        self, store: StoreRow, seen: Seen, old: StoreFileRow | None, result: Result, found: Walk
    ) -> None:
        if old is not None and (old.source_mtime_ns, old.source_size) == (seen.mtime_ns, seen.size):
            result.unchanged += 1
            if old.status == "failed" and old.error_code == "server_error":
                # What failed for a reason of ours (a model that was away, a full disk) deserves another try.
                again: dict[str, object] = {
                    "status": "in_progress",
                    "error_code": None,
                    "error_message": None,
                }
                await self._database.write(rows.set_file, store.id, old.file_id, again)
            return
        try:
            if old is not None and await asyncio.to_thread(_digest, seen.path) == old.sha256:
                values = {"source_mtime_ns": seen.mtime_ns, "source_size": seen.size}
                await self._database.write(rows.set_file, store.id, old.file_id, values)
                result.unchanged += 1
                return
            file = await self._files.create(
                seen.name, "assistants", _blocks(seen.path), SYSTEM, owner=f"{MIRRORED}{store.id}"
            )
        except (OSError, PorticoError) as error:
            if isinstance(error, PorticoError) and error.code != "file_too_large":
                raise
            found.skip("gone or unreadable while looking")
            return
        chunking = {"type": "auto"} if old is None else old.chunking
        attributes = {} if old is None else old.attributes
        await self._database.write(
            rows.attach, store.id, file.id, attributes, chunking, mtime_ns=seen.mtime_ns, size=seen.size
        )
        if old is None:
            result.added += 1
        else:
            await self._remove(old)
            result.changed += 1

    async def _remove(self, row: StoreFileRow) -> None:
        file = await self._files.get(row.file_id, SYSTEM)
        await self._files.remove(file)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block
