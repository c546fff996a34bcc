"""Making a home of an archive: checked whole before anything of the home is touched."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from portico_server.archives.reader import ArchiveReader, refusal
from portico_server.backup import layout, swap
from portico_server.backup.staging import BackupProgress
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, Unavailable
from portico_server.db import snapshot

MAX_RATIO: Final = 1_100
"""How many times its size an archive may unpack to: deflate cannot do more."""

refused = refusal("restored")


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive says of itself, checked as far as that goes without reading all of it."""

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
    """An archive on disk whose outside has been checked. Close it. Methods block and raise `InvalidRequest`."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidRequest(f"There is no file {path}.", code="file_not_found", param="file")
        self._archive = ArchiveReader(path, layout.belongs, MAX_RATIO, refused)
        try:
            self.contents = self._contents()
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    def names(self) -> Sequence[str]:
        """The entries."""
        return sorted(self.contents.sums)

    def size(self, name: str) -> int:
        """Bytes of an entry, unpacked."""
        return self._archive.sizes[name]

    def unpack(self, folder: Path, report: BackupProgress) -> None:
        """Write all entries below ``folder``, which exists, and flush them; each must be what was written."""
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

    def check(self, report: BackupProgress) -> None:
        """Read all entries, and write none."""
        done_bytes = 0
        for name in self.names():
            digest = hashlib.sha256()
            for block in self._archive.blocks(name):
                digest.update(block)
                done_bytes += len(block)
                report("archive", done_bytes, self.contents.bytes)
            self._check_sum(name, digest.hexdigest())

    def _check_sum(self, name: str, actual_sum: str) -> None:
        if actual_sum != self.contents.sums[name]:
            raise refused(f"{name} is not what was written")
        digest = "".join(name.split("/")[-2:]) if name.startswith(f"{layout.BLOBS}/") else name.split("/")[-1]
        if name.startswith((f"{layout.BLOBS}/", f"{layout.ARTIFACTS}/")) and actual_sum != digest:
            raise refused(f"{name} does not hold what it is named after")

    def _contents(self) -> Contents:
        value = self._archive.manifest(layout.FORMAT, layout.VERSION, "a backup")
        with self._archive.named("manifest.json"):
            sums = {str(name): str(digest) for name, digest in value["sha256"].items()}
            present = self._archive.sizes.keys() - {"manifest.json"}
            if absent := sorted(sums.keys() - present):
                raise refused(f"it lacks {absent[0]}, which its manifest names")
            if unnamed_entries := sorted(present - sums.keys()):
                raise refused(f"it holds {unnamed_entries[0]}, which its manifest does not name")
            if layout.DATABASE not in sums:
                raise refused(f"it holds no {layout.DATABASE}")
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
    """Let ``home``, whose lock the caller holds, become what the archive holds.

    Returns where what it held before lies now, if it held anything. Raises `Conflict` for a home that is not empty,
    unless ``replace``; `InvalidRequest` for an archive that is not whole or of a newer version, `Unavailable` for a
    full disk: nothing is changed then. Ended at any moment, it has done nothing, or is finished by the next command or
    daemon that takes the home.
    """
    old = swap.holds(home)
    if old and not replace:
        raise Conflict(
            f"The home folder {home} is not empty ({', '.join(old[:3])}). Restore into another one with --home, or "
            "give --replace, which keeps what is there aside.",
            code="home_not_empty",
            param="home",
        )
    path = home / layout.RESTORING
    try:
        _check_disk_space(archive, home)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        archive.unpack(path, report)
        check_database(path / layout.DATABASE)
        return swap.replace(home, old)
    except OSError as error:
        raise _explain(error, home) from error
    finally:
        if not (home / layout.PLAN).exists():
            shutil.rmtree(path, ignore_errors=True)


def check_database(path: Path) -> None:
    """Raise `InvalidRequest` unless a database is sound and of a schema that this Portico opens."""
    from portico_server.db import migrate

    if problems := snapshot.problems(path):
        raise refused(f"its database is damaged ({problems[0][:200]})")
    try:
        revision = snapshot.revision(path)
    except snapshot.SnapshotError as error:
        raise refused(f"its database is damaged ({error})") from error
    if revision is None:
        raise refused("its database is not one of Portico")
    if migrate.is_unreleased(revision):
        raise refused(
            f"its database has the schema {revision}, from before the first release. {migrate.TO_DO_IF_UNRELEASED}, "
            "and back that up"
        )
    if not migrate.is_known(revision):
        raise refused(
            f"its database is of a newer version of Portico (schema {revision[:20]}), which an older one cannot read: "
            "update Portico"
        )


def _check_disk_space(archive: BackupArchive, home: Path) -> None:
    free = shutil.disk_usage(home).free
    if archive.contents.bytes > free:
        raise Unavailable(
            f"The archive unpacks to {archive.contents.bytes:,} bytes, and the disk that holds {home} has {free:,} "
            "bytes left. Nothing was changed; free some space and try again.",
            code="disk_full",
        )


def _explain(error: OSError, home: Path) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Unavailable(
            f"The disk that holds {home} is full. Nothing was changed; free some space and try again.",
            code="disk_full",
        )
    return Unavailable(f"The home folder {home} cannot be written: {error}.", code="restore_failed")
