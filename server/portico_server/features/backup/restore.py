"""Restores an archive into a home. The archive is checked completely before the home changes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from portico_server import home_replacement
from portico_server.archives.reader import ArchiveReader, refusal
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, Unavailable
from portico_server.db import snapshot
from portico_server.features.backup import layout
from portico_server.features.backup.staging import BackupProgress
from portico_server.home import Home

MAX_RATIO: Final = 1_100
"""Maximum ratio of the unpacked size to the archive size; deflate cannot compress data further."""

refused = refusal("restored")


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents that an archive declares, checked as far as possible without reading the whole archive."""

    portico: str
    schema: str
    created_at: float
    models: bool
    bytes: int
    entries: int
    missing: int
    settings: Sequence[Mapping[str, Any]]
    sums: Mapping[str, str]


class BackupArchive:
    """A backup on disk whose structure has been checked. Close it after use. Methods block and raise
    `InvalidRequest`.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidRequest(f"The file {path} does not exist.", code="file_not_found", param="file")
        self._archive = ArchiveReader(path, layout.belongs, MAX_RATIO, refused)
        try:
            self.contents = self._contents()
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    @property
    def digest(self) -> str:
        """Return a digest that only archives with the same contents and time share."""
        identity = json.dumps([self.contents.created_at, self.contents.sums], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()

    def names(self) -> Sequence[str]:
        """Return the names of the entries."""
        return sorted(self.contents.sums)

    def size(self, name: str) -> int:
        """Return the unpacked size of an entry in bytes."""
        return self._archive.sizes[name]

    def unpack(self, folder: Path, report: BackupProgress) -> None:
        """Write all entries to the existing ``folder``, flush them to disk, and check each against its digest."""
        done_bytes = 0
        for name in self.names():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            digest = hashlib.sha256()
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                for block in self._archive.blocks(name):
                    out.write(block)
                    digest.update(block)
                    done_bytes += len(block)
                    report("archive", done_bytes, self.contents.bytes)
                out.flush()
                os.fsync(out.fileno())
            self._check_sum(name, digest.hexdigest())

    def check(self, report: BackupProgress, database: IO[bytes] | None = None) -> None:
        """Read and check all entries. Only the database is written, if ``database`` is given."""
        done_bytes = 0
        for name in self.names():
            digest = hashlib.sha256()
            for block in self._archive.blocks(name):
                digest.update(block)
                if database is not None and name == layout.DATABASE:
                    database.write(block)
                done_bytes += len(block)
                report("archive", done_bytes, self.contents.bytes)
            self._check_sum(name, digest.hexdigest())

    def _check_sum(self, name: str, actual_sum: str) -> None:
        if actual_sum != self.contents.sums[name]:
            raise refused(f"{name} differs from what was written")
        digest = "".join(name.split("/")[-2:]) if name.startswith(f"{layout.BLOBS}/") else name.split("/")[-1]
        if name.startswith((f"{layout.BLOBS}/", f"{layout.ARTIFACTS}/")) and actual_sum != digest:
            raise refused(f"{name} does not match the digest in its name")

    def _contents(self) -> Contents:
        value = self._archive.manifest(layout.FORMAT, layout.VERSION, "a backup")
        with self._archive.naming("manifest.json"):
            sums = {str(name): str(digest) for name, digest in value["sha256"].items()}
            present = self._archive.sizes.keys() - {"manifest.json"}
            if absent := sorted(sums.keys() - present):
                raise refused(f"it lacks {absent[0]}, which its manifest lists")
            if unnamed_entries := sorted(present - sums.keys()):
                raise refused(f"it contains {unnamed_entries[0]}, which its manifest does not list")
            if layout.DATABASE not in sums:
                raise refused(f"it contains no {layout.DATABASE}")
            return Contents(
                portico=str(value["portico"]),
                schema=str(value["schema"]),
                created_at=float(value["created_at"]),
                models=any(name.startswith(f"{layout.MODELS}/") for name in sums),
                bytes=sum(self._archive.sizes[name] for name in sums),
                entries=len(sums),
                missing=int(value["missing"]["count"]),
                settings=[dict(row) for row in value["settings"]],
                sums=sums,
            )


def restore(archive: BackupArchive, home: Path, *, replace: bool, report: BackupProgress) -> Path | None:
    """Replace the contents of ``home``, whose lock the caller holds, with those of the archive.

    Returns the folder of the previous contents, or ``None`` if the home was empty. Raises `Conflict` if the home is
    not empty, unless ``replace``; `InvalidRequest` if the archive is incomplete or of a newer version; `Unavailable`
    if the disk is full. If an error is raised, nothing has changed. An interrupted restore has either changed nothing,
    or the next command or daemon that uses the home completes it.
    """
    old = _old_contents(home, replace=replace)
    path = home / home_replacement.RESTORING
    try:
        _check_disk_space(archive, home)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        archive.unpack(path, report)
        check_database(path / layout.DATABASE)
        snapshot.distrust_facts(path / layout.DATABASE)
        return home_replacement.replace(home, old, archive.digest).aside
    except snapshot.SnapshotError as error:
        raise refused(f"its database is damaged ({error})") from error
    except OSError as error:
        raise _explain(error, home) from error
    finally:
        if not (home / home_replacement.PLAN).exists():
            shutil.rmtree(path, ignore_errors=True)


def check_restore(archive: BackupArchive, home: Path, *, replace: bool, report: BackupProgress) -> None:
    """Raise what `restore` would raise, without changing anything."""
    Home(home).require_unused()
    if home.exists():
        _old_contents(home, replace=replace)
    _check_disk_space(archive, next(path for path in (home, *home.parents) if path.exists()))
    with tempfile.NamedTemporaryFile(suffix=".db") as database:
        try:
            archive.check(report, database)
            database.flush()
            check_database(Path(database.name))
        except snapshot.SnapshotError as error:
            raise refused(f"its database is damaged ({error})") from error


def _old_contents(home: Path, *, replace: bool) -> Sequence[str]:
    """Return what is in the home folder. Raise `Conflict` if it is not empty, unless ``replace``."""
    old = home_replacement.holds(home)
    if old and not replace:
        raise Conflict(
            f"The home folder {home} is not empty ({', '.join(old[:3])}). Restore into another folder with "
            "--home, or add --replace, which keeps the old contents in a separate folder.",
            code="home_not_empty",
            param="home",
        )
    return old


def check_database(path: Path) -> None:
    """Raise `InvalidRequest` unless a database is intact and has a schema that this Portico can open, and
    `SnapshotError` if it cannot be read.
    """
    from portico_server.db import migrate

    if problems := snapshot.problems(path):
        raise refused(f"its database is damaged ({problems[0][:200]})")
    revision = snapshot.revision(path)
    if revision is None:
        raise refused("its database is not a Portico database")
    if migrate.is_unreleased(revision):
        raise refused(
            f"its database has the schema {revision}, from before the first release. "
            f"{migrate.TO_DO_IF_UNRELEASED}, and back up the result"
        )
    if not migrate.is_known(revision):
        raise refused(
            f"its database is from a newer version of Portico (schema {revision[:20]}), which this version "
            "cannot read: update Portico"
        )


def _check_disk_space(archive: BackupArchive, home: Path) -> None:
    free = shutil.disk_usage(home).free
    if archive.contents.bytes > free:
        raise Unavailable(
            f"The archive unpacks to {archive.contents.bytes:,} bytes, but the disk of {home} has {free:,} "
            "bytes free. Nothing was changed; free some space and try again.",
            code="disk_full",
        )


def _explain(error: OSError, home: Path) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Unavailable(
            f"The disk of {home} is full. Nothing was changed; free some space and try again.",
            code="disk_full",
        )
    return Unavailable(f"The home folder {home} cannot be written: {error}.", code="restore_failed")
