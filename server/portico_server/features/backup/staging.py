"""The first half of a backup: a snapshot of the home, which is sent later."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from portico_server import home_replacement
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, NotFound, Unavailable
from portico_server.db import snapshot
from portico_server.features.backup import layout

MAX_ROUNDS: Final = 4
"""Maximum number of times that the database is copied again because a referenced file was removed after the copy."""

NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
"""Error numbers of file systems that cannot link a file; the file itself is read instead."""

BackupProgress = Callable[[str, int, int], None]
"""Progress callback: ``(stage, done, total)``."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The contents of an archive to be written. ``missing`` lists the entries that the database refers to but that do
    not exist.
    """

    entries: dict[str, Path]
    missing: tuple[str, ...]
    revision: str | None
    bytes: int


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Lock a home for a single backup. Raises `Conflict` if another backup is running."""
    handle = os.open(home / home_replacement.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                "Another backup of this home folder is running. Wait until it ends, then try again.",
                code="backup_in_progress",
            ) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def staged(home: Path, models: Path | None, report: BackupProgress) -> Iterator[Staged]:
    """Provide a snapshot until the ``with`` block ends; ``models`` is the folder of the models, if the backup includes
    them.

    The database is copied. The files that it refers to are linked, because a link keeps the content when the file is
    removed. Raises `Conflict`, `NotFound` for a home without a database, and `Unavailable`.
    """
    if not (home / layout.DATABASE).is_file():
        raise NotFound(f"{home} contains no Portico database.", code="home_not_found", param="home")
    with exclusive(home):
        staging = home / home_replacement.STAGING
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
        snapshot.copy(
            home / layout.DATABASE, database, lambda done_pages, total: report("database", done_pages, total)
        )
        before, missing = set(missing), _link_referenced(home, staging, database, entries, report)
        if not missing or set(missing) <= before:
            break  # files that are missing twice were not removed during the copy
    for folder in layout.FOLDERS:
        _link_folder(home / folder, folder, staging, entries)
    if models is not None:
        _link_folder(models, layout.MODELS, staging, entries)
    paths = {layout.DATABASE: database, **entries}
    size = sum(path.stat().st_size for path in paths.values())
    return Staged(paths, tuple(missing), snapshot.revision(database), size)


def _link_referenced(
    home: Path, staging: Path, database: Path, entries: dict[str, Path], report: BackupProgress
) -> list[str]:
    """Link the files that a copy of the database refers to, and return the missing entries. Remove entries that the
    copy no longer needs from ``entries``.
    """
    references = snapshot.references(database)
    needed_files = [layout.blob(digest) for digest in references.blobs]
    needed_files += [layout.artifact(digest) for digest in references.artifacts]
    perhaps = {name(digest) for digest in references.others for name in (layout.blob, layout.artifact)}
    wanted_files = {*needed_files, *perhaps}
    for name in entries.keys() - wanted_files:
        del entries[name]
    missing = []
    for number, name in enumerate(sorted(wanted_files - entries.keys())):
        if not _link(home / name, name, staging, entries) and name not in perhaps:
            missing.append(name)
        if number % 1_000 == 0:
            report("files", number, len(wanted_files))
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
            f"The disk of {home} is full: a backup needs space for a second copy of the database. Nothing "
            "was changed; free some space and try again.",
            code="disk_full",
        )
    return Unavailable(f"The home folder {home} cannot be read: {error}.", code="backup_failed")
