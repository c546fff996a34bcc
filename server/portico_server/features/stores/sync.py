"""Mirrors a source: applies its additions, changes, moves and deletions to the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace

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
from portico_server.features.files.files import FileStorage
from portico_server.features.readers.formats import format_of
from portico_server.features.sources.fetch import source_too_large
from portico_server.features.sources.rights import (
    UNKNOWN_RIGHTS,
    prefixes,
    readers,
    readers_by_name,
    source_names,
    to_groups,
)
from portico_server.features.sources.source import FetchFailure, StoreSource, Unchanged
from portico_server.features.sources.walk import SourceEntry, Walk
from portico_server.features.stores.ingest import Ingest

logger = logging.getLogger(__name__)

BATCH_FILES = 128
"""Maximum number of files in a transaction."""

MAX_BATCH_BYTES = 64 * 1024 * 1024
"""Total size of files, in bytes, at which a transaction ends."""

MANY_FILES = 10
"""Minimum number of files that are not removed when their folder is suddenly empty."""

MAX_NAMED_FILES = 100
"""Maximum number of files that a result lists individually."""

COMPARED_FILES = 32
"""Number of files that are compared with the source at a time."""

WantedFile = tuple[SourceEntry, StoreFileRow | None]
"""A file to add or update, and its stored version."""


@dataclass(slots=True)
class SyncResult:
    """The result of a sync, as numbers of files."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    missed: list[dict[str, JSON]] = field(default_factory=list)
    """The first `MAX_NAMED_FILES` files that could not be read, each with the reason."""


class SourceSync:
    """Mirrors sources. A run of a sync ends when all its files are indexed."""

    def __init__(self, database: Database, files: FileStorage, ingest: Ingest, max_files: int) -> None:
        self._database = database
        self._files = files
        self._ingest = ingest
        self._max_files = max_files
        """Maximum number of files in a store whose source lists only the latest files, or that keeps files which have
        disappeared from the source.
        """

    async def run(self, store: StoreRow, source: StoreSource, context: Context) -> JSON:
        """Mirror ``source`` in ``store``, then index the files. Return the numbers of files examined, added, changed
        and removed.

        Raises `Unavailable` if an empty folder would cause the removal of many files. A file with unchanged size and
        time is not read. A file whose time changed but whose bytes did not is not indexed again. A moved file is not
        indexed again either, and keeps its id, chunks and vectors.
        """
        await context.emit(Progressed("scan", source.address))
        walk = await self._scan(store, source)
        file_rows: Mapping[str, StoreFileRow] = await self._database.read(
            store_files.mirror, store.id, walk.only
        )
        _require_some(source, walk, file_rows)
        await self._set_readers(store, walk)
        result = SyncResult()
        moves = await _moves(source, walk, file_rows)
        renamed_ids = [
            row.file_id
            for row, source_entry in moves
            if searched_name(row.filename) != searched_name(source_entry.name)
        ]
        if moves:
            file_rows = await self._move(store, walk, moves, renamed_ids)
        result.moved = len(moves)
        removed_ids = [row.file_id for name, row in file_rows.items() if walk.is_gone(name)]
        if removed_ids:
            await self._files.remirror(store.id, (), removed_ids)
        result.removed = len(removed_ids)
        await self._mirror(store, source, walk, file_rows, result, context)
        if not walk.files and walk.only is None:
            message = f"The {source.address} contains no readable documents. Add some, and sync again."
            await context.emit(Progressed("scan", message))
        await _report_unknown_rights(store, source, walk, context)
        if walk.skipped:
            logger.info("store %s: skipped %s", store.name, walk.skipped)
        await self._remember(store, walk)
        ingest_result = await self._ingest.run(
            store, context, has_changed=bool(result.removed or renamed_ids), is_mirrored=True
        )
        assert isinstance(ingest_result, dict)
        return {
            **asdict(result),
            "skipped": sum(walk.skipped.values()),
            "skipped_because": dict(walk.skipped),
            **ingest_result,
        }

    async def plan(self, store: StoreRow, source: StoreSource) -> SyncPlan:
        """Return what `run` would change now, without changing anything."""
        walk = await self._scan(store, source)
        file_rows = await self._database.read(store_files.mirror, store.id)
        _require_some(source, walk, file_rows)
        moves = await _moves(source, walk, file_rows)
        move_names = tuple((row.filename, source_entry.name) for row, source_entry in moves)
        old_names, new_names = {old for old, _ in move_names}, {new for _, new in move_names}
        added_names, changed_names, unchanged_count = [], [], 0
        unchanged_names = await pools.FILES.run(self._untouched, walk, file_rows)
        unchanged_names |= await self._with_same_bytes(source, walk, file_rows, unchanged_names)
        for seen_source_entry in walk.files.values():
            if seen_source_entry.name not in file_rows:
                if seen_source_entry.name not in new_names:
                    added_names.append(seen_source_entry.name)
            elif seen_source_entry.name in unchanged_names:
                unchanged_count += 1
            else:
                changed_names.append(seen_source_entry.name)
        removed_names = sorted(name for name in file_rows if walk.is_gone(name) and name not in old_names)
        return SyncPlan(
            tuple(added_names),
            tuple(changed_names),
            move_names,
            tuple(removed_names),
            unchanged_count,
            dict(walk.skipped),
        )

    async def _scan(self, store: StoreRow, source: StoreSource) -> Walk:
        walk = await source.scan()
        walk.keeps_removed |= store.keep_removed
        if walk.keeps_removed and store.source is not None:
            walk.max_files = self._max_files
        groups_by_prefix, groups_by_name = prefixes(store.rights), source_names(store.rights)
        for name, source_entry in walk.files.items():
            if groups_by_prefix is not None:
                walk.files[name] = replace(source_entry, readers=readers_by_name(name, groups_by_prefix))
            elif groups_by_name is not None and source_entry.readers is not None:
                sets = [to_groups(names, groups_by_name) for names in source_entry.readers]
                walk.files[name] = replace(source_entry, readers=readers(sets))
        return walk

    async def _set_readers(self, store: StoreRow, walk: Walk) -> None:
        """Set who may read the files that the store already has. If the rights of a file are unknown, nobody may."""
        if store.rights is None:
            return
        changes: dict[str, Sequence[Sequence[str]] | None] = {}
        for file_id, name, old_readers in await self._database.read(store_files.readers, store.id):
            source_entry = walk.files.get(name)
            if source_entry is None and not walk.is_unknown(name):
                continue
            new_readers = None if source_entry is None else source_entry.readers
            if new_readers != old_readers:
                changes[file_id] = new_readers
        if changes:
            await self._database.write(store_files.set_readers, store.id, changes, store.rights)

    async def _remember(self, store: StoreRow, walk: Walk) -> None:
        """Store the list of skipped files. If only certain paths were scanned, only the entries of these paths are
        replaced.
        """
        now = SkippedRows(walk.skipped, walk.skipped_names, time.time())
        if walk.only is not None:
            before = await self._database.read(store_skips.skips_of, store.id)
            if before is None or not before.complete or not now.complete:
                return  # the existing list stays until the next full scan
            elsewhere = {
                name: reason
                for name, reason in before.names.items()
                if not any(name == folder or name.startswith(f"{folder}/") for folder in walk.only)
            }
            names = elsewhere | dict(now.names)
            now = SkippedRows(Counter(names.values()), names, now.looked_at)
        await self._database.write(store_skips.put_skips, store.id, now)

    async def _move(
        self,
        store: StoreRow,
        walk: Walk,
        moves: list[tuple[StoreFileRow, SourceEntry]],
        renamed_ids: list[str],
    ) -> Mapping[str, StoreFileRow]:
        """Rename moved files, and return the files of the store by their new names."""
        await self._database.write(
            store_files.move_files,
            store.id,
            [
                (
                    row.file_id,
                    source_entry.name,
                    {
                        "source_mtime_ns": source_entry.mtime_ns,
                        "source_size": source_entry.size,
                        "readers": source_entry.readers,
                    },
                )
                for row, source_entry in moves
            ],
            renamed_ids,
            store.rights,
        )
        return await self._database.read(store_files.mirror, store.id, walk.only)

    async def _mirror(
        self,
        store: StoreRow,
        source: StoreSource,
        walk: Walk,
        file_rows: Mapping[str, StoreFileRow],
        result: SyncResult,
        context: Context,
    ) -> None:
        """Add new and changed files, `BATCH_FILES` files per transaction."""
        untouched_names = await pools.FILES.run(self._untouched, walk, file_rows)
        files: list[WantedFile] = []
        size, total = 0, len(walk.files)
        for done_count, source_entry in enumerate(walk.files.values(), start=1):
            old = file_rows.get(source_entry.name)
            if old is not None and source_entry.name in untouched_names:
                if old.status == "failed":
                    await self._note(store, source_entry, old)
                result.unchanged += 1
                continue
            files.append((source_entry, old))
            size += source_entry.size
            if len(files) == BATCH_FILES or size >= MAX_BATCH_BYTES:
                await self._take_in(store, source, files, walk, result)
                await context.emit(
                    Progressed("scan", source_entry.name, done=done_count, total=total, unit="files")
                )
                files, size = [], 0
        await self._take_in(store, source, files, walk, result)
        await context.emit(Progressed("scan", "", done=total, total=total, unit="files"))

    def _untouched(self, walk: Walk, file_rows: Mapping[str, StoreFileRow]) -> set[str]:
        """Return the files whose time and size are unchanged and whose copies are still stored."""
        return {
            name
            for name, source_entry in walk.files.items()
            if (old := file_rows.get(name)) is not None
            and source_entry.mtime_ns is not None
            and (old.source_mtime_ns, old.source_size) == (source_entry.mtime_ns, source_entry.size)
            and self._files.holds(old.sha256, old.bytes)
        }

    async def _with_same_bytes(
        self,
        source: StoreSource,
        walk: Walk,
        file_rows: Mapping[str, StoreFileRow],
        untouched_names: set[str],
    ) -> set[str]:
        """Return the files whose time has changed but whose bytes have not, as far as this is known without fetching
        them.
        """
        touched_files = [
            (source_entry, old)
            for name, source_entry in walk.files.items()
            if name not in untouched_names
            and (old := file_rows.get(name)) is not None
            and self._files.holds(
                old.sha256, old.bytes
            )  # otherwise the stored copy is missing, and the file is read again
        ]
        same_names: set[str] = set()
        for first in range(0, len(touched_files), COMPARED_FILES):
            batch = touched_files[first : first + COMPARED_FILES]
            digests = await asyncio.gather(*(source.digest(source_entry) for source_entry, _old in batch))
            same_names |= {
                source_entry.name
                for (source_entry, old), digest in zip(batch, digests, strict=True)
                if digest == old.sha256
            }
        return same_names

    async def _note(self, store: StoreRow, source_entry: SourceEntry, old: StoreFileRow) -> None:
        """Record the new modification time of a file whose bytes are unchanged."""
        changes: dict[str, object] = {}
        if (old.source_mtime_ns, old.source_size) != (source_entry.mtime_ns, source_entry.size):
            changes = {"source_mtime_ns": source_entry.mtime_ns, "source_size": source_entry.size}
        if old.status == "failed" and old.error_code == "server_error":
            # Retry a file that failed because of the daemon, for example because a model was unavailable or
            # the disk was full.
            changes |= {"status": "in_progress", "error_code": None, "error_message": None}
        if changes:
            await self._database.write(rows.set_file, store.id, old.file_id, changes)

    async def _take_in(
        self, store: StoreRow, source: StoreSource, files: list[WantedFile], walk: Walk, result: SyncResult
    ) -> None:
        received_files: list[tuple[ReceivedFile, MirroredFile]] = []
        removed_ids: list[str] = []
        for (source_entry, old), outcome in zip(
            files, await source.take(files) if files else (), strict=True
        ):
            if isinstance(outcome, FetchFailure):
                walk.skip(source_entry.name, outcome.reason)
                if len(result.missed) < MAX_NAMED_FILES:
                    result.missed.append(
                        {"name": source_entry.name, "reason": outcome.detail or outcome.reason}
                    )
                if outcome.gone and old is not None and not store.keep_removed:
                    removed_ids.append(old.file_id)
                    result.removed += 1
            elif old is not None and (isinstance(outcome, Unchanged) or self._is_kept(outcome, old)):
                if isinstance(outcome, ReceivedFile):
                    await self._files.drop(outcome)
                await self._note(store, source_entry, old)
                result.unchanged += 1
            else:
                assert isinstance(outcome, ReceivedFile), (
                    "only a file that is already stored can be unchanged"
                )
                received_files.append((outcome, _mirrored(store, source_entry, old, outcome)))
                result.added += old is None
                result.changed += old is not None
        if received_files or removed_ids:
            await self._files.remirror(
                store.id, received_files, removed_ids, owner=store.owner, rights=store.rights
            )

    def _is_kept(self, file: ReceivedFile, old: StoreFileRow) -> bool:
        return file.sha256 == old.sha256 and self._files.holds(old.sha256, old.bytes)


def _mirrored(
    store: StoreRow, source_entry: SourceEntry, old: StoreFileRow | None, received_file: ReceivedFile
) -> MirroredFile:
    file = FileRow(
        id=new_id("file-"),
        owner=f"{MIRRORED_OWNER}{store.id}",
        filename=source_entry.name,
        purpose="assistants",
        bytes=received_file.bytes,
        sha256=received_file.sha256,
        created_at=time.time(),
    )
    return MirroredFile(
        file,
        {} if old is None else old.attributes,
        {"type": "auto"} if old is None else old.chunking,
        source_entry.mtime_ns,
        source_entry.size,
        None if old is None else old.file_id,
        source_entry.readers,
    )


async def _report_unknown_rights(store: StoreRow, source: StoreSource, walk: Walk, context: Context) -> None:
    """Report files whose rights the source does not state."""
    count = sum(source_entry.readers is None for source_entry in walk.files.values())
    if store.rights is None or not count:
        return
    message = (
        f"The {source.address} does not state who may read {count:,} of {len(walk.files):,} files. "
        f"{UNKNOWN_RIGHTS}"
    )
    logger.warning("store %s: %s", store.name, message)
    await context.emit(Progressed("scan", message))


def _require_some(source: StoreSource, walk: Walk, file_rows: Mapping[str, StoreFileRow]) -> None:
    if walk.max_files is not None and len(file_rows.keys() | walk.files.keys()) > walk.max_files:
        raise source_too_large(
            f"The {source.address} has new documents in addition to {len(file_rows):,} earlier ones, but a "
            f"source can have at most {walk.max_files:,} files. Raise the setting source_max_files, or "
            "create another store.",
        )
    if walk.bare and len(file_rows) >= MANY_FILES:
        raise Unavailable(
            f"The {source.address} is empty, but {len(file_rows)} of its files are indexed. They are kept, "
            "because the disk may not be mounted. If the folder is meant to be empty, put any file into it "
            "and sync again, or delete the store.",
            code="folder_empty",
        )


async def _moves(
    source: StoreSource, walk: Walk, file_rows: Mapping[str, StoreFileRow]
) -> list[tuple[StoreFileRow, SourceEntry]]:
    """Return files that disappeared from the source and reappeared under another name with the same bytes and
    format.
    """
    removed_rows: dict[tuple[int, str], list[StoreFileRow]] = {}
    for name, row in file_rows.items():
        if walk.is_gone(name):
            removed_rows.setdefault((row.bytes, row.sha256), []).append(row)
    sizes = {size for size, _ in removed_rows}
    moves = []
    for source_entry in walk.files.values():
        if source_entry.name in file_rows or source_entry.mtime_ns is None or source_entry.size not in sizes:
            continue
        same_rows = removed_rows.get((source_entry.size, await source.digest(source_entry) or ""), [])
        alike = [row for row in same_rows if format_of(row.filename) == format_of(source_entry.name)]
        if alike:
            same_rows.remove(alike[0])
            moves.append((alike[0], source_entry))
    return moves
