"""The second half of a backup: what is held fast, sent as one archive."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from portico_server.archives.reader import MANIFEST
from portico_server.archives.stream import BLOCK_BYTES, ArchiveStream, Blocks, once
from portico_server.backup import layout
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from portico_server.db import snapshot
from portico_server.settings import LoadedSettings, Settings

# The first half of a backup: everything as it is at one moment, held fast so that it can be sent at leisure.


MAX_ROUNDS: Final = 4
"""Copies of the database that are made because a file went away between the copy and the look for it."""

NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
"""What a file system says that cannot link; the file itself is read then."""

BackupProgress = Callable[[str, int, int], None]
"""Hears of progress: what is done, how far, of how much."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What is going to be in an archive. ``missing``: entries that the database refers to and nobody has."""

    entries: dict[str, Path]
    missing: tuple[str, ...]
    revision: str | None
    bytes: int


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Be the only backup of a home. Raises `Conflict` if another one is under way."""
    handle = os.open(home / layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                "A backup of this home folder is under way. Wait for its end, then try again.",
                code="backup_in_progress",
            ) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def staged(home: Path, models: Path | None, report: BackupProgress) -> Iterator[Staged]:
    """Hold everything fast until the ``with`` block ends; ``models``: their folder, if they are wanted too.

    The database is copied, then what it refers to is linked: a link outlives a file that is removed meanwhile. Raises
    `Conflict`, `NotFound` for a home without a database, `Unavailable`.
    """
    if not (home / layout.DATABASE).is_file():
        raise NotFound(f"There is no Portico database in {home}.", code="home_not_found", param="home")
    with exclusive(home):
        staging = home / layout.STAGING
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir(mode=0o700)
            yield _collect(home, staging, models, report)
        except (OSError, snapshot.SnapshotError) as error:
            raise _explain(error, home) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _collect(home: Path, staging: Path, models: Path | None, report: BackupProgress) -> Staged:
    entries: dict[str, Path] = {}
    missing: list[str] = []
    for _round in range(MAX_ROUNDS):
        database = staging / layout.DATABASE
        database.unlink(missing_ok=True)
        snapshot.copy(home / layout.DATABASE, database, lambda done, total: report("database", done, total))
        before, missing = set(missing), _link_referenced(home, staging, database, entries, report)
        if not missing or set(missing) <= before:
            break  # what was missing twice has not gone just now
    for folder in layout.FOLDERS:
        _link_folder(home / folder, folder, staging, entries)
    if models is not None:
        _link_folder(models, layout.MODELS, staging, entries)
    whole = {layout.DATABASE: database, **entries}
    size = sum(path.stat().st_size for path in whole.values())
    return Staged(whole, tuple(missing), snapshot.revision(database), size)


def _link_referenced(
    home: Path, staging: Path, database: Path, entries: dict[str, Path], report: BackupProgress
) -> list[str]:
    """Link what a copy refers to; the entries that are not there. ``entries`` keeps what the copy still needs."""
    found = snapshot.references(database)
    needed = [layout.blob(digest) for digest in found.blobs]
    needed += [layout.artifact(digest) for digest in found.artifacts]
    perhaps = {name(digest) for digest in found.others for name in (layout.blob, layout.artifact)}
    wanted = {*needed, *perhaps}
    for name in entries.keys() - wanted:
        del entries[name]
    missing = []
    for number, name in enumerate(sorted(wanted - entries.keys())):
        if not _link(home / name, name, staging, entries) and name not in perhaps:
            missing.append(name)
        if number % 1_000 == 0:
            report("files", number, len(wanted))
    return missing


def _link_folder(folder: Path, name: str, staging: Path, entries: dict[str, Path]) -> None:
    for at, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(at, file)
            entry = f"{name}/{path.relative_to(folder).as_posix()}"
            if path.is_file() and layout.belongs(entry):
                _link(path, entry, staging, entries)


def _link(path: Path, name: str, staging: Path, entries: dict[str, Path]) -> bool:
    target = staging / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path.resolve(strict=True), target)
    except FileNotFoundError:
        return False
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        target = path
    entries[name] = target
    return True


def _explain(error: OSError | snapshot.SnapshotError, home: Path) -> Unavailable:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or "full" in str(error):
        return Unavailable(
            f"The disk that holds {home} is full: a backup needs room for a second copy of the database. Nothing was "
            "changed; free some space and try again.",
            code="disk_full",
        )
    return Unavailable(f"The home folder {home} cannot be read: {error}.", code="backup_failed")


MAX_MISSING_NAMED: Final = 100
"""Entries that a manifest names as missing; of more it has the number."""

COMPRESSED: Final = (layout.MODELS, *layout.FOLDERS)
"""Weights do not get smaller by it."""


def check_here(settings: Settings) -> None:
    """Raise `InvalidRequest` where the data are in another database than the home's."""
    if settings.database:
        raise InvalidRequest(
            "The data are in the database that the setting 'database' names, not in the home folder. Use that "
            "database's own tools, such as pg_dump, and copy the files, in a folder or a bucket: docs/operations.md "
            "says in which order.",
            code="database_elsewhere",
            param="database",
        )


def noted(loaded: LoadedSettings) -> list[dict[str, Any]]:
    """The settings that are not defaults, secrets masked: a backup notes them, for people."""
    return [
        {"name": row.name, "value": row.value, "origin": row.origin}
        for row in loaded.describe()
        if row.origin != "default"
    ]


def _silent(what: str, done: int, total: int) -> None: ...


@asynccontextmanager
async def backup(
    home: Path,
    *,
    version: str,
    settings: Sequence[Mapping[str, Any]] = (),
    models: Path | None = None,
    report: BackupProgress = _silent,
) -> AsyncGenerator[Backup, None]:
    """A backup of a home, ready to be sent: what can go wrong with it has gone wrong before.

    ``settings`` is noted in it, for people. Everything that blocks happens in one thread of its own.
    """
    executor = ThreadPoolExecutor(1, "portico-backup")
    loop = asyncio.get_running_loop()
    stack = ExitStack()
    try:
        held = await loop.run_in_executor(executor, stack.enter_context, staged(home, models, report))
        yield Backup(held, executor, version=version, settings=settings, report=report)
    finally:
        # In its own thread: it may still be staging when the caller leaves, and comes after that.
        await asyncio.shield(loop.run_in_executor(executor, stack.close))
        executor.shutdown(wait=False)


class Backup:
    """One backup."""

    def __init__(
        self,
        held: Staged,
        executor: ThreadPoolExecutor,
        *,
        version: str,
        settings: Sequence[Mapping[str, Any]],
        report: BackupProgress,
    ) -> None:
        self.held = held
        self._executor = executor
        self._version = version
        self._settings = settings
        self._report = report
        self._missing = list(held.missing)
        self._done = 0

    @property
    def missing(self) -> int:
        """How many files the database refers to and nobody has."""
        return len(self._missing)

    async def pieces(self) -> Blocks:
        """The archive from its first byte to its last."""
        archive = ArchiveStream(self._executor)
        try:
            for name, path in self.held.entries.items():
                stored = name.partition("/")[0] in COMPRESSED
                file = await self._opened(path)
                if file is None:
                    self._missing.append(name)
                    continue
                async with aclosing(archive.entry(name, self._read(file), stored=stored)) as pieces:
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
            "bytes": self._done,
            "missing": {"count": self.missing, "names": self._missing[:MAX_MISSING_NAMED]},
            "settings": list(self._settings),
            "sha256": dict(sums),
        }

    async def _opened(self, path: Path) -> BinaryIO | None:
        def work() -> BinaryIO | None:
            try:
                return path.open("rb")
            except FileNotFoundError:
                return None  # only where files cannot be linked

        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _read(self, file: BinaryIO) -> Blocks:
        loop = asyncio.get_running_loop()
        with file:
            while block := await loop.run_in_executor(self._executor, file.read, BLOCK_BYTES):
                self._done += len(block)
                self._report("archive", self._done, self.held.bytes)
                yield block
