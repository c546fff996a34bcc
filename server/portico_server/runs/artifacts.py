"""Files that runs make: figures, tables, results too large for an answer."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import NotFound, Unavailable
from portico_server.core.ids import new_id
from portico_server.core.names import has_controls
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.request import Artifact
from portico_server.db import artifacts as rows
from portico_server.db.artifacts import ArtifactRow
from portico_server.db.database import Database
from portico_server.runs.quotas import StorageQuota

ABANDONED_S: Final = 86_400.0
"""Seconds after which bytes without a row, in a folder that daemons share, are not on their way any more."""

_BATCH_ROWS: Final = 100
"""Rows that are looked at together."""


_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,80}/[\w.+-]{1,80}(; ?charset=[\w-]{1,40})?", re.ASCII)

_MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A file that a run has made, still in memory. Name and type may be anybody's words: both become headers."""

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
    """Whose run made something, where there is no `Context` of it."""

    run: str
    caller: Principal


class ArtifactStore:
    """Content-addressed bytes in ``folder`` and a row for each artifact. Callers see their own and the daemon's."""

    def __init__(self, database: Database, folder: Path, quota: StorageQuota | None = None) -> None:
        self._database = database
        self._quota = quota or StorageQuota()
        self._folder = folder
        self._shared = database.postgres is not None
        """Whether daemons on other machines may work on the same folder."""
        # Bytes must not be removed between the moment one row finds them there and the moment that row is written.
        self._lock = asyncio.Lock()

    async def sweep(self) -> None:
        """Remove bytes that no row stands for: what a daemon left that was killed while it kept something."""
        for folder in await pools.FILES.run(_folders, self._folder):
            async with self._lock:
                for path in await pools.FILES.run(_inside, folder, ABANDONED_S if self._shared else 0.0):
                    if not await self._database.read(rows.is_held, path.name):
                        await self._discard(path)

    async def expire(self, before: float) -> int:
        """Remove what was made before a moment, in seconds since 1970, by runs that are forgotten; how many."""
        gone = 0
        while found := await self._database.read(rows.orphaned, before, _BATCH_ROWS):
            for row in found:
                await self._remove(row)
            gone += len(found)
        return gone

    async def keep(self, made: Sequence[NewArtifact], context: Context | Author) -> tuple[Artifact, ...]:
        """Keep what a run made, for whoever called it; bytes and rows are on disk when this returns.

        Raises `Unavailable` if the disk is full, `TooLarge` if the caller keeps too much on it.
        """
        if not made:
            return ()
        owner = None if context.caller.id == SYSTEM.id else context.caller.id
        size = sum(len(item.data) for item in made)
        await self._database.read(self._quota.look, owner, size)
        async with self._lock:
            kept = []
            for item in made:
                digest = await pools.FILES.run(self._write, item.data)
                kept.append(
                    ArtifactRow(
                        id=new_id("art_"),
                        owner=owner,
                        run_id=context.run,
                        name=item.name,
                        media_type=item.media_type,
                        bytes=len(item.data),
                        sha256=digest,
                        created_at=time.time(),
                    )
                )

            def add(connection: Any) -> None:
                self._quota.require(connection, owner, size)
                if self._shared:
                    for item in made:  # another daemon may have removed the bytes since: nobody does now
                        self._write(item.data)
                rows.add(connection, *kept)

            try:
                await self._database.write(add)
            except BaseException:
                await asyncio.shield(self._let_go(kept))
                raise
        return tuple(shown(row) for row in kept)

    async def get(self, artifact_id: str, caller: Principal) -> ArtifactRow:
        """The artifact, if it is there for this caller; otherwise `NotFound`."""
        row = await self._database.read(rows.get, artifact_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"There is no artifact '{artifact_id[:80]}', or it was made too long ago: the setting 'keep_runs_days' "
                "says how long they are kept.",
                code="artifact_not_found",
                param="artifact_id",
            )
        return row

    async def list(
        self, caller: Principal, *, run_id: str | None = None, limit: int = 100
    ) -> list[ArtifactRow]:
        """Artifacts of this caller and of the daemon, newest first."""
        owner = None if caller.admin else caller.id
        return await self._database.read(rows.newest, owner, run_id=run_id, limit=limit)

    async def read(self, artifact_id: str, caller: Principal) -> bytes:
        """The bytes of an artifact. Raises `NotFound`."""
        row = await self.get(artifact_id, caller)
        try:
            return await pools.FILES.run(self.path(row).read_bytes)
        except FileNotFoundError as error:
            raise missing(row) from error

    async def delete(self, artifact_id: str, caller: Principal) -> ArtifactRow:
        """Remove one; the row that was. Raises `NotFound`, and `Forbidden` for the daemon's own."""
        row = await self.get(artifact_id, caller)
        if row.owner is None:
            caller.require("admin")
        await self._remove(row)
        return row

    def path(self, row: ArtifactRow) -> Path:
        """Where its bytes lie."""
        return self._folder / row.sha256[:2] / row.sha256

    async def _remove(self, row: ArtifactRow) -> None:
        async with self._lock:
            if await self._database.write(rows.remove, row.id) is not None:
                await self._discard(self.path(row))

    async def _let_go(self, kept: Sequence[ArtifactRow]) -> None:
        """Remove bytes that were to have rows, and have none."""
        for row in kept:
            if not await self._database.read(rows.is_held, row.sha256):
                await self._discard(self.path(row))

    async def _discard(self, path: Path) -> None:
        """Remove bytes that no row stood for; of which another daemon may have made an artifact since."""

        def unlink(connection: Any) -> None:
            if not rows.is_held(connection, path.name):
                path.unlink(missing_ok=True)

        if self._shared:
            await self._database.write(unlink)
        else:
            await pools.FILES.run(path.unlink, missing_ok=True)

    def _write(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        target = self._folder / digest[:2] / digest
        if target.is_file():
            return digest
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(draft, target)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable(
                    f"The disk that holds {self._folder} is full; the file was not kept.", code="disk_full"
                ) from error
            raise
        return digest


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _inside(folder: Path, young_s: float) -> list[Path]:
    """What lies in a folder for longer than some seconds."""
    if not young_s:
        return list(folder.iterdir())
    before, found = time.time() - young_s, []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                found.append(path)
    return found


def shown(row: ArtifactRow) -> Artifact:
    """A row as results carry it."""
    return Artifact(row.id, row.name, row.media_type, row.bytes)


def missing(row: ArtifactRow) -> NotFound:
    """The error for a row whose bytes are gone."""
    return NotFound(
        f"The bytes of '{row.name}' are no longer on this machine. Run it again.",
        code="artifact_content_missing",
        param="artifact_id",
    )
