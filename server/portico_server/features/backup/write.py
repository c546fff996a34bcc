"""The second half of a backup: the snapshot is sent as an archive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from portico_server.archives.reader import MANIFEST
from portico_server.archives.stream import BLOCK_BYTES, ArchiveStream, Blocks, once
from portico_server.core.errors import InvalidRequest
from portico_server.features.backup import layout
from portico_server.features.backup.staging import BackupProgress, Staged, staged
from portico_server.settings import LoadedSettings, Settings

MAX_MISSING_NAMED: Final = 100
"""Maximum number of missing entries that a manifest names; beyond it, the manifest contains only their number."""

COMPRESSED: Final = (layout.MODELS, *layout.FOLDERS)
"""Folders whose files are not compressed, because compression does not make weights smaller."""


def check_here(settings: Settings) -> None:
    """Raise `InvalidRequest` if the data are not in the home's own database."""
    if settings.database:
        raise InvalidRequest(
            "The data are in the database that the setting 'database' names, not in the home folder. Use "
            "that database's own tools, such as pg_dump, and copy the files from their folder or bucket; "
            "docs/operations.md explains the order.",
            code="database_elsewhere",
            param="database",
        )


def noted_settings(settings: LoadedSettings) -> list[dict[str, Any]]:
    """Return the settings that differ from their defaults, with secrets masked, as information for readers of the
    backup.
    """
    return [
        {"name": row.name, "value": row.value, "origin": row.origin}
        for row in settings.describe()
        if row.origin != "default"
    ]


def _silent(stage: str, done_bytes: int, total: int) -> None: ...


@asynccontextmanager
async def backup(
    home: Path,
    *,
    version: str,
    settings: Sequence[Mapping[str, Any]] = (),
    models: Path | None = None,
    report: BackupProgress = _silent,
) -> AsyncGenerator[Backup, None]:
    """Yield a backup of a home that is ready to be sent; most errors are raised before it is yielded.

    ``settings`` is recorded in the backup for human readers. All blocking work runs in a separate thread.
    """
    executor = ThreadPoolExecutor(1, "portico-backup")
    loop = asyncio.get_running_loop()
    stack = ExitStack()
    try:
        staged_state = await loop.run_in_executor(executor, stack.enter_context, staged(home, models, report))
        yield Backup(staged_state, executor, version=version, settings=settings, report=report)
    finally:
        # Close in the same thread, because staging may still be in progress when the caller leaves.
        await asyncio.shield(loop.run_in_executor(executor, stack.close))
        executor.shutdown(wait=False)


class Backup:
    """A backup that is ready to be sent."""

    def __init__(
        self,
        staged_state: Staged,
        executor: ThreadPoolExecutor,
        *,
        version: str,
        settings: Sequence[Mapping[str, Any]],
        report: BackupProgress,
    ) -> None:
        self.held = staged_state
        self._executor = executor
        self._version = version
        self._settings = settings
        self._report = report
        self._missing = list(staged_state.missing)
        self._done_bytes = 0

    @property
    def missing(self) -> int:
        """Number of files that the database refers to and that do not exist."""
        return len(self._missing)

    async def pieces(self) -> Blocks:
        """Yield the archive from its first byte to its last."""
        archive = ArchiveStream(self._executor)
        try:
            for name, path in self.held.entries.items():
                is_stored = name.partition("/")[0] in COMPRESSED
                file = await self._open(path)
                if file is None:
                    self._missing.append(name)
                    continue
                async with aclosing(archive.entry(name, self._read(file), is_stored=is_stored)) as pieces:
                    async for piece in pieces:
                        yield piece
            manifest = orjson.dumps(self._manifest(archive.sums), option=orjson.OPT_INDENT_2)
            async for piece in archive.entry(MANIFEST, once(manifest)):
                yield piece
            yield await archive.end()
        finally:
            archive.close()

    def _manifest(self, sums: Mapping[str, str]) -> dict[str, Any]:
        return {
            "format": layout.FORMAT,
            "version": layout.VERSION,
            "portico": self._version,
            "schema": self.held.revision,
            "created_at": time.time(),
            "bytes": self._done_bytes,
            "missing": {"count": self.missing, "names": self._missing[:MAX_MISSING_NAMED]},
            "settings": list(self._settings),
            "sha256": dict(sums),
        }

    async def _open(self, path: Path) -> BinaryIO | None:
        def work() -> BinaryIO | None:
            try:
                return path.open("rb")
            except FileNotFoundError:
                return None  # only possible if files cannot be linked

        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _read(self, file: BinaryIO) -> Blocks:
        loop = asyncio.get_running_loop()
        with file:
            while block := await loop.run_in_executor(self._executor, file.read, BLOCK_BYTES):
                self._done_bytes += len(block)
                self._report("archive", self._done_bytes, self.held.bytes)
                yield block
