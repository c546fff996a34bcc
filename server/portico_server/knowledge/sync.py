"""Mirroring a source: what is added, changed, moved and deleted in it is so in the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, field

from portico.schemas.stores import SyncPlan
from portico.wire import JSON, Progressed
from portico_server.blobs.place import ReceivedFile
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.core.ids import new_id
from portico_server.core.name_words import searched_name
from portico_server.db import store_files, store_skips
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.files import MIRRORED_OWNER, FileRow
from portico_server.db.store_files import MirroredFile
from portico_server.db.store_skips import SkippedRows
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.ingest import Ingest
from portico_server.knowledge.parse.formats import format_of
from portico_server.knowledge.sources.fetch import source_too_large
from portico_server.knowledge.sources.source import FetchFailure, StoreSource, Unchanged
from portico_server.knowledge.walk import SourceEntry, Walk

logger = logging.getLogger(__name__)

BATCH_FILES = 128
"""Files that are taken in with one transaction …"""

MAX_BATCH_BYTES = 64 * 1024 * 1024
"""… and the bytes from which on it is full."""

MANY_FILES = 10
"""Files that are not taken out all at once because their folder is empty."""

MAX_NAMED_FILES = 100
"""Files that a result names one by one."""

COMPARED_FILES = 32
"""Files that are compared at a time before anything is done."""

WantedFile = tuple[SourceEntry, StoreFileRow | None]
"""A file to take in, and what is kept of it."""


@dataclass(slots=True)
class SyncResult:
    """What a sync has done, in files."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    missed: list[dict[str, JSON]] = field(default_factory=list)
    """Of the files that could not be taken the first `MAX_NAMED_FILES`: which, and why."""


class SourceSync:
    """Mirrors sources. A run ends when everything that it found is indexed."""

    def __init__(self, database: Database, files: FileStorage, ingest: Ingest, max_files: int) -> None:
        self._database = database
        self._files = files
        self._ingest = ingest
        self._max_files = max_files
        """Of a source that lists the latest, or whose files stay when they are gone from it."""

    async def run(self, store: StoreRow, source: StoreSource, context: Context) -> JSON:
        """Mirror ``source`` in ``store``, then index what it mirrors; counts of what was done, of the files that were
        looked at.

        Raises `Unavailable` if many files would go because the folder is empty.

        A file that has the size and the time it had is not read; one that was touched but has the same bytes is not
        indexed, and neither is one that was moved: it keeps its id, its chunks and its vectors.
        """
        await context.emit(Progressed("scan", source.address))
        found = await self._scan(store, source)
        known: Mapping[str, StoreFileRow] = await self._database.read(
            store_files.mirror, store.id, found.only
        )
        _require_some(source, found, known)
        result = SyncResult()
        moved = await _moves(source, found, known)
        renamed = [
            row.file_id for row, seen in moved if searched_name(row.filename) != searched_name(seen.name)
        ]
        if moved:
            known = await self._move(store, found, moved, renamed)
        result.moved = len(moved)
        gone = [row.file_id for name, row in known.items() if found.is_gone(name)]
        if gone:
            await self._files.remirror(store.id, (), gone)
        result.removed = len(gone)
        await self._mirror(store, source, found, known, result, context)
        if not found.files and found.only is None:
            message = f"The {source.address} holds no documents that can be read. Add some, and sync again."
            await context.emit(Progressed("scan", message))
        if found.skipped:
            logger.info("store %s: skipped %s", store.name, found.skipped)
        await self._remember(store, found)
        indexed = await self._ingest.run(
            store, context, changed=bool(result.removed or renamed), mirrored=True
        )
        assert isinstance(indexed, dict)
        return {
            **asdict(result),
            "skipped": sum(found.skipped.values()),
            "skipped_because": dict(found.skipped),
            **indexed,
        }

    async def plan(self, store: StoreRow, source: StoreSource) -> SyncPlan:
        """What `run` would do now. Nothing is changed."""
        found = await self._scan(store, source)
        known = await self._database.read(store_files.mirror, store.id)
        _require_some(source, found, known)
        moves = await _moves(source, found, known)
        moved = tuple((row.filename, seen.name) for row, seen in moves)
        away, here = {old for old, _ in moved}, {new for _, new in moved}
        added, changed, unchanged = [], [], 0
        same = await pools.FILES.run(self._untouched, found, known)
        same |= await self._with_same_bytes(source, found, known, same)
        for seen in found.files.values():
            if seen.name not in known:
                if seen.name not in here:
                    added.append(seen.name)
            elif seen.name in same:
                unchanged += 1
            else:
                changed.append(seen.name)
        removed = sorted(name for name in known if found.is_gone(name) and name not in away)
        return SyncPlan(tuple(added), tuple(changed), moved, tuple(removed), unchanged, dict(found.skipped))

    async def _scan(self, store: StoreRow, source: StoreSource) -> Walk:
        found = await source.scan()
        found.keeps_removed |= store.keep_removed
        if found.keeps_removed and store.source is not None:
            found.max_files = self._max_files
        return found

    async def _remember(self, store: StoreRow, found: Walk) -> None:
        """Keep what was skipped. A look at some paths replaces what is known of these alone."""
        now = SkippedRows(found.skipped, found.skipped_names, time.time())
        if found.only is not None:
            before = await self._database.read(store_skips.skips_of, store.id)
            if before is None or not before.complete or not now.complete:
                return  # what is known stays until the next look at all of it
            elsewhere = {
                name: reason
                for name, reason in before.names.items()
                if not any(name == one or name.startswith(f"{one}/") for one in found.only)
            }
            names = elsewhere | dict(now.names)
            now = SkippedRows(Counter(names.values()), names, now.looked_at)
        await self._database.write(store_skips.put_skips, store.id, now)

    async def _move(
        self, store: StoreRow, found: Walk, moved: list[tuple[StoreFileRow, SourceEntry]], renamed: list[str]
    ) -> Mapping[str, StoreFileRow]:
        """Give files the names that they have now; the files of the store by their names afterwards."""
        await self._database.write(
            store_files.move_files,
            store.id,
            [(row.file_id, seen.name, seen.mtime_ns, seen.size) for row, seen in moved],
            renamed,
        )
        return await self._database.read(store_files.mirror, store.id, found.only)

    async def _mirror(
        self,
        store: StoreRow,
        source: StoreSource,
        found: Walk,
        known: Mapping[str, StoreFileRow],
        result: SyncResult,
        context: Context,
    ) -> None:
        """Take in what is new or has changed, `BATCH_FILES` files in a transaction."""
        untouched = await pools.FILES.run(self._untouched, found, known)
        wanted: list[WantedFile] = []
        size, total = 0, len(found.files)
        for done, seen in enumerate(found.files.values(), start=1):
            old = known.get(seen.name)
            if old is not None and seen.name in untouched:
                if old.status == "failed":
                    await self._note(store, seen, old)
                result.unchanged += 1
                continue
            wanted.append((seen, old))
            size += seen.size
            if len(wanted) == BATCH_FILES or size >= MAX_BATCH_BYTES:
                await self._take_in(store, source, wanted, found, result)
                await context.emit(Progressed("scan", seen.name, done=done, total=total, unit="files"))
                wanted, size = [], 0
        await self._take_in(store, source, wanted, found, result)
        await context.emit(Progressed("scan", "", done=total, total=total, unit="files"))

    def _untouched(self, found: Walk, known: Mapping[str, StoreFileRow]) -> set[str]:
        """The files whose time and size are what they were, and of which we still have our copy."""
        return {
            name
            for name, seen in found.files.items()
            if (old := known.get(name)) is not None
            and seen.mtime_ns is not None
            and (old.source_mtime_ns, old.source_size) == (seen.mtime_ns, seen.size)
            and self._files.holds(old.sha256, old.bytes)
        }

    async def _with_same_bytes(
        self, source: StoreSource, found: Walk, known: Mapping[str, StoreFileRow], untouched: set[str]
    ) -> set[str]:
        """The touched files that are what they were, as far as that can be told without taking them."""
        touched = [
            (seen, old)
            for name, seen in found.files.items()
            if name not in untouched
            and (old := known.get(name)) is not None
            and self._files.holds(old.sha256, old.bytes)  # else our copy is gone: it is taken in again
        ]
        same: set[str] = set()
        for first in range(0, len(touched), COMPARED_FILES):
            some = touched[first : first + COMPARED_FILES]
            digests = await asyncio.gather(*(source.digest(seen) for seen, _old in some))
            same |= {
                seen.name for (seen, old), digest in zip(some, digests, strict=True) if digest == old.sha256
            }
        return same

    async def _note(self, store: StoreRow, seen: SourceEntry, old: StoreFileRow) -> None:
        """Note the time that an unchanged file has now."""
        again: dict[str, object] = {}
        if (old.source_mtime_ns, old.source_size) != (seen.mtime_ns, seen.size):
            again = {"source_mtime_ns": seen.mtime_ns, "source_size": seen.size}
        if old.status == "failed" and old.error_code == "server_error":
            # What failed for a reason of ours (a model that was away, a full disk) deserves another try.
            again |= {"status": "in_progress", "error_code": None, "error_message": None}
        if again:
            await self._database.write(rows.set_file, store.id, old.file_id, again)

    async def _take_in(
        self, store: StoreRow, source: StoreSource, wanted: list[WantedFile], found: Walk, result: SyncResult
    ) -> None:
        came: list[tuple[ReceivedFile, MirroredFile]] = []
        gone: list[str] = []
        for (seen, old), taken in zip(wanted, await source.take(wanted) if wanted else (), strict=True):
            if isinstance(taken, FetchFailure):
                found.skip(seen.name, taken.reason)
                if len(result.missed) < MAX_NAMED_FILES:
                    result.missed.append({"name": seen.name, "reason": taken.detail or taken.reason})
                if taken.gone and old is not None and not store.keep_removed:
                    gone.append(old.file_id)
                    result.removed += 1
            elif old is not None and (isinstance(taken, Unchanged) or self._is_kept(taken, old)):
                if isinstance(taken, ReceivedFile):
                    await self._files.drop(taken)
                await self._note(store, seen, old)
                result.unchanged += 1
            else:
                assert isinstance(taken, ReceivedFile), "only what is kept can be the same"
                came.append((taken, _mirrored(store, seen, old, taken)))
                result.added += old is None
                result.changed += old is not None
        if came or gone:
            await self._files.remirror(store.id, came, gone, owner=store.owner)

    def _is_kept(self, taken: ReceivedFile, old: StoreFileRow) -> bool:
        return taken.sha256 == old.sha256 and self._files.holds(old.sha256, old.bytes)


def _mirrored(
    store: StoreRow, seen: SourceEntry, old: StoreFileRow | None, received: ReceivedFile
) -> MirroredFile:
    file = FileRow(
        id=new_id("file-"),
        owner=f"{MIRRORED_OWNER}{store.id}",
        filename=seen.name,
        purpose="assistants",
        bytes=received.bytes,
        sha256=received.sha256,
        created_at=time.time(),
    )
    return MirroredFile(
        file,
        {} if old is None else old.attributes,
        {"type": "auto"} if old is None else old.chunking,
        seen.mtime_ns,
        seen.size,
        None if old is None else old.file_id,
    )


def _require_some(source: StoreSource, found: Walk, known: Mapping[str, StoreFileRow]) -> None:
    if found.max_files is not None and len(known.keys() | found.files.keys()) > found.max_files:
        raise source_too_large(
            f"The {source.address} has new documents beside {len(known):,} earlier ones, and a source has at most "
            f"{found.max_files:,} files. Raise the setting source_max_files, or begin another store.",
        )
    if found.bare and len(known) >= MANY_FILES:
        raise Unavailable(
            f"The {source.address} is empty, and {len(known)} files of it are indexed. They are kept, because a disk "
            "that is not mounted looks so. If it is meant, put any file into the folder and sync again, or remove the "
            "store.",
            code="folder_empty",
        )


async def _moves(
    source: StoreSource, found: Walk, known: Mapping[str, StoreFileRow]
) -> list[tuple[StoreFileRow, SourceEntry]]:
    """Files that went and came again under another name with the same bytes, read in the same way."""
    gone: dict[tuple[int, str], list[StoreFileRow]] = {}
    for name, row in known.items():
        if found.is_gone(name):
            gone.setdefault((row.bytes, row.sha256), []).append(row)
    sizes = {size for size, _ in gone}
    moves = []
    for seen in found.files.values():
        if seen.name in known or seen.mtime_ns is None or seen.size not in sizes:
            continue
        same = gone.get((seen.size, await source.digest(seen) or ""), [])
        alike = [row for row in same if format_of(row.filename) == format_of(seen.name)]
        if alike:
            same.remove(alike[0])
            moves.append((alike[0], seen))
    return moves
