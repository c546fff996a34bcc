"""The files of containers: artifacts that have a path in one."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from portico_server.core.errors import InvalidRequest, NotFound, TooLarge
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
from portico_server.runs.artifacts import ArtifactStore, Author, NewArtifact
from portico_server.tools.sandbox.protocol import MB, is_path

BOUNDS: Final = ContainerBounds(containers=100, files=500, bytes=128 * MB)
MAX_FILE_BYTES: Final = 16 * MB
"""Bytes of one file, and of all that are laid into a kernel at once."""


class ContainerFiles:
    """Puts files into containers and takes them out, as far as there is room."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts

    async def add(self, row: ContainerRow, path: str, data: bytes) -> StoredContainerFile:
        """Put a file there, in place of one with the same path. Raises `InvalidRequest`, `TooLarge`."""
        if not is_path(path):
            raise InvalidRequest(
                f"'{path[:80]}' is not the path of a file in a container: relative, without '..'.",
                code="invalid_path",
                param="file",
            )
        if len(data) > MAX_FILE_BYTES:
            raise TooLarge(
                f"A file of a container may have {MAX_FILE_BYTES // MB} MB.",
                code="file_too_large",
                param="file",
            )
        [artifact] = await self._artifacts.keep(
            [new_artifact(path, data)], Author(row.id, owner_of_container(row))
        )
        if await self.put(row, [(artifact.id, path, "user")]):
            await self.discard(artifact.id)
            raise TooLarge(no_room_text(path), code="container_full", param="file")
        return await self.find(row, artifact.id)

    async def find(self, row: ContainerRow, file_id: str) -> StoredContainerFile:
        """One of its files by its id. Raises `NotFound`."""
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
        """Let artifacts be its files; the paths of those that found no room."""
        if not named_files:
            return ()
        file_rows = [ContainerFileRow(file_id, row.id, path, source) for file_id, path, source in named_files]
        outcome = await self._database.write(rows.put, file_rows, BOUNDS)
        if outcome is None:  # it was deleted meanwhile
            for file_row in file_rows:
                await self.discard(file_row.id)
            raise container_gone_error(row.id)
        remaining_paths, container_files = outcome
        for file in container_files:
            if file.run_id == row.id:
                await self.discard(file.id)
        return remaining_paths

    async def take(self, row: ContainerRow, paths: Sequence[str]) -> None:
        """Take the files at these paths out of their container."""
        if paths:
            files = await self._database.read(rows.files, row.id)
            await self.let_go([file for file in files if file.path in paths])

    async def let_go(self, files: Sequence[StoredContainerFile]) -> None:
        """Take files out of their container. What a run made stays its artifact."""
        await self._database.write(rows.take, [file.id for file in files])
        for file in files:
            if file.run_id == file.container_id:
                await self.discard(file.id)

    async def discard(self, artifact_id: str) -> None:
        """Delete an artifact, if it is still there."""
        with suppress(NotFound):
            await self._artifacts.delete(artifact_id, SYSTEM)


def container_gone_error(container_id: str) -> NotFound:
    """The container is not there, or not for the caller."""
    return NotFound(
        f"There is no container '{container_id[:80]}', or it was not used for longer than it is kept. Make one with "
        "POST /v1/containers.",
        code="container_not_found",
        param="container_id",
    )


def owner_of_container(row: ContainerRow) -> Principal:
    """In whose name the artifacts of a container are kept."""
    return Principal(row.owner, frozenset())


def new_artifact(path: str, data: bytes) -> NewArtifact:
    """What is kept of a file at ``path``."""
    name = path.rpartition("/")[2]
    return NewArtifact(name, mimetypes.guess_type(name)[0] or "application/octet-stream", data)


def no_room_text(path: str) -> str:
    """The sentence about a file for which its container has no room."""
    limit_text = f"{BOUNDS.files} files of {BOUNDS.bytes // MB} MB together"
    return f"'{path}' is not kept in the container: it may have {limit_text}."
