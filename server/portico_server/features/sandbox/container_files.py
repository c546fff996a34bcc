"""The files of containers: artifacts with a path in a container."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from portico_server.core.errors import InvalidRequest, NotFound, TooLarge
from portico_server.core.filenames import check_filename
from portico_server.core.principal import SYSTEM, Principal
from portico_server.db import containers as rows
from portico_server.db.containers import (
    ContainerBounds,
    ContainerFileRow,
    ContainerRow,
    FileSource,
    StoredContainerFile,
)
from portico_server.db.database import Database
from portico_server.features.sandbox.protocol import MB, is_path
from portico_server.runs.artifacts import ArtifactStore, Author, NewArtifact

BOUNDS: Final = ContainerBounds(containers=100, files=500, bytes=128 * MB)
MAX_FILE_BYTES: Final = 16 * MB
"""Maximum size, in bytes, of one file, and of all files that are copied to a kernel together."""


class ContainerFiles:
    """Adds files to containers and removes them, within the storage limits."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts

    async def add(self, row: ContainerRow, path: str, data: bytes) -> StoredContainerFile:
        """Add a file, replacing a file with the same path. Raise `InvalidRequest`, `TooLarge`."""
        check_filename(path)
        if not is_path(path):
            raise InvalidRequest(
                f"'{path[:80]}' is not a valid path of a file in a container: use a relative path without "
                "'..'.",
                code="invalid_path",
                param="file",
            )
        if len(data) > MAX_FILE_BYTES:
            raise TooLarge(
                f"A file of a container can have at most {MAX_FILE_BYTES // MB} MB.",
                code="file_too_large",
                param="file",
            )
        [artifact] = await self._artifacts.keep(
            [new_artifact(path, data)], Author(row.id, owner_of_container(row))
        )
        artifact_row = await self._artifacts.get(artifact.id, SYSTEM)
        if await self.put(row, [(artifact.id, path, "user")]):
            await self.discard(artifact.id)
            raise TooLarge(no_room_text(path), code="container_full", param="file")
        return StoredContainerFile(
            artifact.id, row.id, path, "user", artifact.bytes, row.id, artifact_row.created_at
        )

    async def find(self, row: ContainerRow, file_id: str) -> StoredContainerFile:
        """Return a file of the container by its id. Raise `NotFound`."""
        for file in await self._database.read(rows.files, row.id):
            if file.id == file_id:
                return file
        raise NotFound(
            f"The container '{row.id}' has no file '{file_id[:80]}'.",
            code="container_file_not_found",
            param="file_id",
        )

    async def put(
        self, row: ContainerRow, named_files: Sequence[tuple[str, str, FileSource]]
    ) -> Sequence[str]:
        """Add artifacts to a container as files. Return the paths for which the container has no space."""
        if not named_files:
            return ()
        file_rows = [ContainerFileRow(file_id, row.id, path, source) for file_id, path, source in named_files]
        outcome = await self._database.write(rows.put, file_rows, BOUNDS)
        if outcome is None:  # the container was deleted in the meantime
            for file_row in file_rows:
                await self.discard(file_row.id)
            raise container_gone_error(row.id)
        remaining_paths, container_files = outcome
        for file in container_files:
            if file.run_id == row.id:
                await self.discard(file.id)
        return remaining_paths

    async def take(self, row: ContainerRow, paths: Sequence[str]) -> None:
        """Remove the files at these paths from their container."""
        if paths:
            files = await self._database.read(rows.files, row.id)
            await self.let_go([file for file in files if file.path in paths])

    async def let_go(self, files: Sequence[StoredContainerFile]) -> None:
        """Remove files from their container. Files that a run created remain artifacts of the run."""
        await self._database.write(rows.take, [file.id for file in files])
        for file in files:
            if file.run_id == file.container_id:
                await self.discard(file.id)

    async def discard(self, artifact_id: str) -> None:
        """Delete an artifact if it still exists."""
        with suppress(NotFound):
            await self._artifacts.delete(artifact_id, SYSTEM)


def container_gone_error(container_id: str) -> NotFound:
    """Return the error for a container that does not exist, or that the caller cannot see."""
    return NotFound(
        f"The container '{container_id[:80]}' does not exist, or it has expired because it was not used. "
        "Create one with POST /v1/containers.",
        code="container_not_found",
        param="container_id",
    )


def owner_of_container(row: ContainerRow) -> Principal:
    """Return the caller in whose name the artifacts of a container are stored."""
    return Principal(row.owner, frozenset())


def new_artifact(path: str, data: bytes) -> NewArtifact:
    """Return the artifact for a file at ``path``."""
    name = path.rpartition("/")[2]
    return NewArtifact(name, mimetypes.guess_type(name)[0] or "application/octet-stream", data)


def no_room_text(path: str) -> str:
    """Return a sentence about a file for which its container has no space."""
    limit_text = f"{BOUNDS.files} files with {BOUNDS.bytes // MB} MB in total"
    return f"'{path}' is not stored in the container, whose limit is {limit_text}."
