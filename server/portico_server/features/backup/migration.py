"""A migration of all data from a home folder into a PostgreSQL database and its files' place, or back.

Every batch of rows or files is one transaction of the target with the ledger's entry for it, so that a migration
continues after an interruption at any point. At the end, the digests of all rows in source and target are compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, Unavailable
from portico_server.db import transfer
from portico_server.db.failures import DATABASE_ERRORS, is_away
from portico_server.db.migrate import MIGRATING
from portico_server.db.revision import revision
from portico_server.db.schema import HEAD
from portico_server.db.side import Side
from portico_server.db.transfer import CopyProgress, TableDigest
from portico_server.features.backup.file_place import FilePlace, copy_adapters, entry
from portico_server.features.backup.staging import BackupProgress

FILES_AT_ONCE: Final = 16

MAX_MISSING_NAMED: Final = 100
"""Maximum number of missing files that the result names."""


@dataclass(frozen=True, slots=True)
class MigratedTable:
    """The rows of a table; ``sha256`` is the sum of the digests of all rows, and empty if they were only counted."""

    name: str
    rows: int
    sha256: str = ""


@dataclass(slots=True)
class MigrationResult:
    """The outcome of a migration. ``status``: ``planned``, ``migrated``, or ``equal`` if it was complete before."""

    source: str
    target: str
    status: str
    continued: bool = False
    tables: Sequence[MigratedTable] = ()
    rows: int = 0
    files: int = 0
    missing: int = 0
    missing_names: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the result as an object; the names are those of the command's arguments."""
        fields = asdict(self)
        return {"from": fields.pop("source"), "to": fields.pop("target"), **fields}


class Migration:
    """A migration from ``source`` to ``target``, whose names identify them to the user.

    ``target`` is ``None`` if it does not exist yet, which only `plan` accepts. ``files`` and ``adapters`` are the
    places of both sides' files and adapters, or ``None`` if they share one.
    """

    def __init__(
        self,
        source: Side,
        target: Side | None,
        names: tuple[str, str],
        files: tuple[FilePlace, FilePlace] | None,
        adapters: tuple[Path, Path] | None,
        report: BackupProgress,
    ) -> None:
        self._source = source
        self._target = target
        self._names = names
        self._files = files
        self._adapters = adapters
        self._report = report
        self._rows_done = 0
        self._rows_total = 0

    async def plan(self) -> MigrationResult:
        """Return what `run` would copy, after the same checks. Changes nothing."""
        with _explaining():
            await self._check_source()
            has_begun = self._target is not None and await self._check_target(self._target)
            return await self._describe("planned", has_begun=has_begun)

    async def run(self) -> MigrationResult:
        """Copy everything that the target lacks, and compare both sides. Raises `PorticoError`."""
        assert self._target is not None
        with _explaining():
            return await self._run(self._target)

    async def _run(self, target: Side) -> MigrationResult:
        await self._check_source()
        has_begun = await self._check_target(target)
        if not has_begun and await target.run(revision) == HEAD and await self._has_rows(target):
            result = await self._describe("equal", has_begun=False)
            result.tables = await self._compare(target)
            return result
        if not has_begun:
            await target.run(transfer.begin, self._names[0])
        result = await self._describe("migrated", has_begun=has_begun)
        self._rows_total = result.rows
        for name in transfer.tables():
            await self._copy_rows(target, name)
        if self._files is not None:
            for folder in transfer.FOLDERS:
                await self._copy_files(target, folder, self._files, result)
        if self._adapters is not None:
            await pools.UPLOADS.run(copy_adapters, *self._adapters)
        result.tables = await self._compare(target)
        await target.run(transfer.finish, await self._source.run(transfer.last_ids))
        return result

    async def _check_source(self) -> None:
        number = await self._source.run(revision)
        if number == MIGRATING:
            raise Conflict(
                f"{self._names[0]} is itself the target of a migration that was interrupted. Complete that "
                "migration first.",
                code="migration_interrupted",
                param="from",
            )
        if number != HEAD:
            raise Conflict(
                f"The database of {self._names[0]} has the schema {number}, but this version needs {HEAD}. Start a "
                "daemon of this version on it once, which migrates the schema, and stop it.",
                code="database_not_migrated",
                param="from",
            )

    async def _check_target(self, target: Side) -> bool:
        """Return whether this migration has begun. Raises `Conflict` if the target contains anything else."""
        number = await target.run(revision)
        if number == MIGRATING:
            begun_from = await target.run(transfer.source_of)
            if begun_from != self._names[0]:
                raise Conflict(
                    f"A migration from {begun_from} into {self._names[1]} was interrupted. Complete it, or use an "
                    "empty target.",
                    code="migration_interrupted",
                    param="to",
                )
            return True
        if number not in (None, HEAD):
            raise Conflict(
                f"The database of {self._names[1]} has the schema {number}, but this version needs {HEAD}. Use an "
                "empty database.",
                code="target_not_empty",
                param="to",
            )
        if number == HEAD and await self._has_rows(target):
            ours, theirs = [await side.run(transfer.counts) for side in (self._source, target)]
            if ours != theirs:
                # Prefer a table that has rows in the target, because this message says that the target is not empty.
                name = min((n for n in ours if ours[n] != theirs[n]), key=lambda n: (not theirs[n], n))
                raise Conflict(
                    f"{self._names[1]} is not empty: its table '{name}' has {theirs[name]:,} rows, and that of the "
                    f"source {ours[name]:,}. Use an empty target.",
                    code="target_not_empty",
                    param="to",
                )
        return False

    async def _has_rows(self, target: Side) -> bool:
        return any((await target.run(transfer.counts)).values())

    async def _describe(self, status: str, *, has_begun: bool) -> MigrationResult:
        counts = await self._source.run(transfer.counts)
        result = MigrationResult(*self._names, status, has_begun)
        result.tables = [MigratedTable(name, counts[name]) for name in transfer.tables()]
        result.rows = sum(counts.values())
        for folder in transfer.FOLDERS if self._files is not None else ():
            result.files += await self._source.run(transfer.count_digests, folder)
        return result

    async def _copy_rows(self, target: Side, name: str) -> None:
        progress = await target.run(transfer.read_progress, name)
        limit = transfer.FIRST_BATCH_ROWS
        self._report_rows("rows", progress.count)
        while not progress.is_complete:
            rows = await self._source.run(transfer.read_rows, name, progress.last_key, limit)
            last_key = transfer.key_of(name, rows[-1]) if rows else progress.last_key
            progress = CopyProgress(last_key, progress.count + len(rows), len(rows) < limit)
            with _naming(name, rows):
                await target.run(transfer.write_rows, name, rows, progress)
            limit = transfer.next_limit(limit, rows)
            self._report_rows("rows", len(rows))

    async def _copy_files(
        self, target: Side, folder: str, places: tuple[FilePlace, FilePlace], result: MigrationResult
    ) -> None:
        progress = await target.run(transfer.read_progress, folder)
        total = await self._source.run(transfer.count_digests, folder)
        while not progress.is_complete:
            digests = await self._source.run(transfer.digests, folder, progress.last_key, FILES_AT_ONCE)
            for name in await _copy_all(digests, folder, places):
                result.missing += 1
                if len(result.missing_names) < MAX_MISSING_NAMED:
                    result.missing_names.append(name)
            last_key = (digests[-1],) if digests else progress.last_key
            progress = CopyProgress(last_key, progress.count + len(digests), len(digests) < FILES_AT_ONCE)
            await target.run(transfer.record_progress, folder, progress)
            self._report("files", progress.count, total)

    async def _compare(self, target: Side) -> list[MigratedTable]:
        """Return the digests of all tables. Raises `Conflict` if the rows of source and target differ."""
        self._rows_done, self._rows_total = 0, 2 * self._rows_total
        result = []
        for name in transfer.tables():
            ours, theirs = [await self._digest(side, name) for side in (self._source, target)]
            if ours != theirs:
                raise Conflict(
                    f"The table '{name}' has {ours.count} rows in the source and {theirs.count} in the target, or "
                    "their contents differ: one of them has changed since it was copied. Use an empty target, and "
                    "migrate again.",
                    code="migration_differs",
                )
            result.append(MigratedTable(name, ours.count, ours.text))
        return result

    async def _digest(self, side: Side, name: str) -> TableDigest:
        digest, last_key, limit = TableDigest(), None, transfer.FIRST_BATCH_ROWS
        while rows := await side.run(transfer.read_rows, name, last_key, limit):
            digest = digest.add(rows)
            self._report_rows("check", len(rows))
            if len(rows) < limit:
                break
            last_key, limit = transfer.key_of(name, rows[-1]), transfer.next_limit(limit, rows)
        return digest

    def _report_rows(self, stage: str, count: int) -> None:
        self._rows_done += count
        self._report(stage, self._rows_done, self._rows_total)


async def _copy_all(digests: Sequence[str], folder: str, places: tuple[FilePlace, FilePlace]) -> list[str]:
    """Copy files, and return the names of the files that the source lacks."""
    source, target = places
    missing = []

    async def copy(digest: str) -> None:
        name = entry(folder, digest)
        path = await source.fetch(name, digest, target.scratch(name))
        if path is None:
            missing.append(name)
        else:
            await target.store(path, name, digest)

    try:
        async with asyncio.TaskGroup() as tasks:
            for digest in digests:
                tasks.create_task(copy(digest))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return sorted(missing)


@contextmanager
def _explaining() -> Iterator[None]:
    """Translate errors of both databases, such as a lost connection."""
    try:
        yield
    except (*DATABASE_ERRORS, OSError) as error:
        raise Unavailable(
            f"The migration was interrupted: {_reason(error)}. Run the same command again, which continues it.",
            code="migration_interrupted",
        ) from error


@contextmanager
def _naming(name: str, rows: Sequence[transfer.Row]) -> Iterator[None]:
    """Name the table and the row that the target cannot store, such as a text with U+0000 in PostgreSQL."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if not rows or is_away(error):
            raise
        keys = [transfer.key_of(name, row) for row in rows]
        culprits = [key for key, row in zip(keys, rows, strict=True) if "\\x00" in repr(row)]
        place = f"row {culprits[0]}" if culprits else f"rows from {keys[0]} to {keys[-1]}"
        raise InvalidRequest(
            f"The target cannot store the {place} of the table '{name}': {_reason(error)}. Change or remove the object "
            "in the source, then run the same command again with an empty target.",
            code="row_not_storable",
        ) from error


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "orig", error)).splitlines()
    return lines[0].rpartition(">: ")[2] if lines else type(error).__name__
