"""Following a folder: what is added, changed, moved and deleted in it is mirrored in a store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portico.wire import JSON, Status
from portico_server.core.context import Context
from portico_server.core.errors import TooLarge
from portico_server.core.ids import new_id
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.files import MIRRORED, FileRow
from portico_server.db.stores import Mirrored, StoreFileRow, StoreRow
from portico_server.knowledge.files import Files, Received
from portico_server.knowledge.ingest import Ingest
from portico_server.knowledge.parse.formats import format_of
from portico_server.knowledge.walk import Seen, Walk, walk

logger = logging.getLogger(__name__)

BLOCK = 1024 * 1024

GROUP = 64
"""Files that are taken in with one transaction."""


@dataclass(slots=True)
class Result:
    """What a sync has done, in files."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0


@dataclass(slots=True)
class Plan:
    """What a sync would do, in names of files; ``moved`` as (from, to)."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


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
        indexed, and neither is one that was moved: it keeps its id, its chunks and its vectors.
        """
        if store.folder is None:
            return {}
        root = Path(store.folder)
        await context.emit(Status("scan", str(root)))
        found = await asyncio.to_thread(walk, root, max_bytes=self._max_bytes)
        known: Mapping[str, StoreFileRow] = await self._database.read(rows.mirror, store.id)
        result = Result()
        moved = await _moves(found, known)
        if moved:
            known = await self._move(store, known, moved)
        result.moved = len(moved)
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
            "moved": result.moved,
            "removed": result.removed,
            "unchanged": result.unchanged,
            "skipped": sum(found.skipped.values()),
            "skipped_because": dict(found.skipped),
            **indexed,
        }

    async def plan(self, store: StoreRow) -> Plan:
        """What `run` would do now. Nothing is changed."""
        if store.folder is None:
            return Plan()
        found = await asyncio.to_thread(walk, Path(store.folder), max_bytes=self._max_bytes)
        known = await self._database.read(rows.mirror, store.id)
        moves = await _moves(found, known)
        plan = Plan(moved=[(row.filename, seen.name) for row, seen in moves], skipped=dict(found.skipped))
        away, here = {old for old, _ in plan.moved}, {new for _, new in plan.moved}
        plan.removed = sorted(name for name in known if found.is_gone(name) and name not in away)
        for seen in found.files.values():
            old = known.get(seen.name)
            if old is None:
                if seen.name not in here:
                    plan.added.append(seen.name)
            elif await self._has_same_bytes(seen, old):
                plan.unchanged += 1
            else:
                plan.changed.append(seen.name)
        return plan

    async def _move(
        self, store: StoreRow, known: Mapping[str, StoreFileRow], moved: list[tuple[StoreFileRow, Seen]]
    ) -> Mapping[str, StoreFileRow]:
        """Give files the names that they have now; the files of the store by their names afterwards."""
        await self._database.write(
            rows.move_files,
            store.id,
            [(row.file_id, seen.name, seen.mtime_ns, seen.size) for row, seen in moved],
        )
        return await self._database.read(rows.mirror, store.id)

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
        """Whether a file is what it was, by its time and size, else by its bytes; its new time is noted."""
        if not await self._has_same_bytes(seen, old):
            return False
        again: dict[str, object] = {}
        if (old.source_mtime_ns, old.source_size) != (seen.mtime_ns, seen.size):
            again = {"source_mtime_ns": seen.mtime_ns, "source_size": seen.size}
        if old.status == "failed" and old.error_code == "server_error":
            # What failed for a reason of ours (a model that was away, a full disk) deserves another try.
            again |= {"status": "in_progress", "error_code": None, "error_message": None}
        if again:
            await self._database.write(rows.set_file, store.id, old.file_id, again)
        return True

    async def _has_same_bytes(self, seen: Seen, old: StoreFileRow) -> bool:
        try:
            if (self._files.blob(old.sha256)).stat().st_size != old.bytes:
                return False
        except OSError:
            return False  # our copy is gone: it is taken in again
        if (old.source_mtime_ns, old.source_size) == (seen.mtime_ns, seen.size):
            return True
        try:
            return await asyncio.to_thread(_digest, seen.path) == old.sha256
        except OSError:
            return True  # gone or unreadable since the walk: the next sync will see

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


async def _moves(found: Walk, known: Mapping[str, StoreFileRow]) -> list[tuple[StoreFileRow, Seen]]:
    """Files that went and came again under another name with the same bytes, read in the same way."""
    gone: dict[tuple[int, str], list[StoreFileRow]] = {}
    for name, row in known.items():
        if found.is_gone(name):
            gone.setdefault((row.bytes, row.sha256), []).append(row)
    sizes = {size for size, _ in gone}
    moves = []
    for seen in found.files.values():
        if seen.name in known or seen.size not in sizes:
            continue
        try:
            same = gone.get((seen.size, await asyncio.to_thread(_digest, seen.path)), [])
        except OSError:
            continue  # gone or unreadable since the walk
        alike = [row for row in same if format_of(row.filename) == format_of(seen.name)]
        if alike:
            same.remove(alike[0])
            moves.append((alike[0], seen))
    return moves


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
