"""Files that runs create: figures, tables, results too large for an answer."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from portico.schemas.artifacts import Artifact
from portico_server.blobs.place import BlobPlace, ReceivedFile, write_failure
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.core.ids import new_id
from portico_server.core.names import has_controls
from portico_server.core.principal import SYSTEM, Principal
from portico_server.db import artifacts as rows
from portico_server.db.artifacts import ArtifactRow
from portico_server.db.blob_marks import BlobKind
from portico_server.db.database import Database
from portico_server.runs.quotas import StorageQuota

ARTIFACT_BLOBS: Final = BlobKind("artifacts", rows.is_held, whole=True)
"""The bytes of artifacts."""

_BATCH_ROWS: Final = 100
"""Number of rows that are checked together."""


_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,80}/[\w.+-]{1,80}(; ?charset=[\w-]{1,40})?", re.ASCII)

_MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A file that a run has created, still in memory. Its name and type can be untrusted text, and both become
    headers.
    """

    name: str
    media_type: str
    data: bytes

    def __post_init__(self) -> None:
        name = "".join("_" if has_controls(character) else character for character in self.name)
        object.__setattr__(self, "name", name[-_MAX_NAME_CHARS:])
        if not _MEDIA_TYPE.fullmatch(self.media_type):
            object.__setattr__(self, "media_type", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Author:
    """The owner of an artifact that is created outside a run's `Context`."""

    run: str
    caller: Principal


class ArtifactStore:
    """Stores a row for each artifact, and the artifact's bytes in ``blobs``. Callers see their own artifacts and the
    daemon's.
    """

    def __init__(self, database: Database, blobs: BlobPlace, quota: StorageQuota | None = None) -> None:
        self._database = database
        self._quota = quota or StorageQuota()
        self._blobs = blobs
        self.open = blobs.open

    async def start(self) -> None:
        """Delete bytes without a row, which a killed daemon left behind."""
        await self._blobs.start()

    async def sweep(self) -> None:
        """Delete bytes that other daemons have left behind in a shared location."""
        await self._blobs.sweep()

    async def expire(self, before: float) -> int:
        """Delete artifacts that were created before ``before`` (seconds since 1970) by runs that no longer exist.

        Return the number of deleted artifacts.
        """
        removed_count = 0
        while artifact_rows := await self._database.read(rows.orphaned, before, _BATCH_ROWS):
            for row in artifact_rows:
                await self._remove(row)
            removed_count += len(artifact_rows)
        return removed_count

    async def keep(self, artifacts: Sequence[NewArtifact], context: Context | Author) -> tuple[Artifact, ...]:
        """Store the artifacts of a run for its caller. On return, bytes and rows are on disk.

        Raise `Unavailable` if the disk is full, `TooLarge` if the caller exceeds its storage limit.
        """
        if not artifacts:
            return ()
        owner = None if context.caller.id == SYSTEM.id else context.caller.id
        size = sum(len(item.data) for item in artifacts)
        await self._database.read(self._quota.look, owner, size)
        files = await pools.FILES.run(self._receive, [item.data for item in artifacts])
        artifact_rows = [
            ArtifactRow(
                id=new_id("art_"),
                owner=owner,
                run_id=context.run,
                name=item.name,
                media_type=item.media_type,
                bytes=file.bytes,
                sha256=file.sha256,
                created_at=time.time(),
            )
            for item, file in zip(artifacts, files, strict=True)
        ]

        def add(connection: Any) -> None:
            self._quota.require(connection, owner, size)
            rows.add(connection, *artifact_rows)

        await self._blobs.place(files, add, durable=False)
        return tuple(to_artifact(row) for row in artifact_rows)

    async def get(self, artifact_id: str, caller: Principal) -> ArtifactRow:
        """Return the artifact if this caller can see it. Raise `NotFound` otherwise."""
        row = await self._database.read(rows.get, artifact_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The artifact '{artifact_id[:80]}' does not exist, or it has expired: the setting "
                "'keep_runs_days' sets how long artifacts are kept.",
                code="artifact_not_found",
                param="artifact_id",
            )
        return row

    async def list(
        self, caller: Principal, *, run_id: str | None = None, limit: int = 100
    ) -> list[ArtifactRow]:
        """Return artifacts of this caller and of the daemon, newest first."""
        owner = None if caller.admin else caller.id
        return await self._database.read(rows.newest, owner, run_id=run_id, limit=limit)

    async def read(self, artifact_id: str, caller: Principal) -> bytes:
        """Return the bytes of an artifact. Raise `NotFound`."""
        row = await self.get(artifact_id, caller)
        try:
            async with self.open(row.sha256) as path:
                return await pools.FILES.run(path.read_bytes)
        except FileNotFoundError as error:
            raise self.missing(row) from error

    async def delete(self, artifact_id: str, caller: Principal) -> ArtifactRow:
        """Delete an artifact and return its former row. Raise `NotFound`, and `Forbidden` for an artifact of the
        daemon.
        """
        row = await self.get(artifact_id, caller)
        if row.owner is None:
            caller.require("admin")
        await self._remove(row)
        return row

    def missing(self, row: ArtifactRow) -> NotFound:
        """Return the error for a row whose bytes are missing."""
        return NotFound(
            f"The bytes of '{row.name}' are {self._blobs.absence} Run it again.",
            code="artifact_content_missing",
            param="artifact_id",
        )

    async def _remove(self, row: ArtifactRow) -> None:
        digest = await self._database.write(rows.remove, row.id)
        if digest is not None:
            await self._blobs.release([digest])

    def _receive(self, contents: Sequence[bytes]) -> Sequence[ReceivedFile]:
        files: list[ReceivedFile] = []
        try:
            self._blobs.arrivals.mkdir(parents=True, exist_ok=True)
            for data in contents:
                handle, name = tempfile.mkstemp(dir=self._blobs.arrivals)
                files.append(ReceivedFile(Path(name), len(data), hashlib.sha256(data).hexdigest()))
                with os.fdopen(handle, "wb") as out:
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
        except BaseException as error:
            for item in files:
                item.path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise write_failure(error) from error
            raise
        return files


def link_of(artifact_id: str) -> str:
    """Return the path of an artifact's bytes, below the daemon's address."""
    return f"/api/artifacts/{artifact_id}/content"


def to_artifact(row: ArtifactRow) -> Artifact:
    """Convert a row to the form used in results."""
    return Artifact(row.id, row.name, row.media_type, row.bytes, link_of(row.id))
