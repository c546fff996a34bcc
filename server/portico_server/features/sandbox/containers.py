"""Containers: sandbox sessions with a name and an owner, whose files are kept as long as the container is used.

The files of a session are in the memory of its kernel. The files of a container are also artifacts. After each call,
new files are stored as artifacts. Before the next call, files that the kernel lacks are copied to it, even if the
kernel is new or on another machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson

from portico.schemas.artifacts import Artifact
from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.ids import is_id, new_id
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.skills import SkillText
from portico_server.db import containers as rows
from portico_server.db.artifacts import ArtifactRow
from portico_server.db.containers import (
    MINUTE_S,
    ContainerRow,
    FileSource,
    StoredContainerFile,
)
from portico_server.db.database import Database
from portico_server.db.rows import Order, RowPage, database_time
from portico_server.features.sandbox.container_files import (
    BOUNDS,
    MAX_FILE_BYTES,
    ContainerFiles,
    container_gone_error,
    new_artifact,
    no_room_text,
    owner_of_container,
)
from portico_server.features.sandbox.notebooks import Notebooks, RunCell
from portico_server.features.sandbox.protocol import Cell, CellOutcome, Product
from portico_server.features.skills.library import SkillLibrary
from portico_server.runs.artifacts import ArtifactStore, Author
from portico_server.runs.quotas import StorageQuota

DEFAULT_MINUTES: Final = 20
MAX_MINUTES: Final = 30 * 24 * 60
MEMORY_MB: Final[Mapping[str, int]] = {"1g": 1_024, "4g": 4_096, "16g": 16_384, "64g": 65_536}

_BATCH_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class NewContainer:
    """The properties of a new container. ``skills`` have the same form as in calls of tools that run code."""

    name: str
    minutes: int = DEFAULT_MINUTES
    memory_limit: str | None = None
    skills: Sequence[str | Mapping[str, Any]] = ()
    automatic: bool = False


class ContainerService:
    """All sessions of the sandbox, including containers. ``memory_mb`` is the memory limit of each session."""

    def __init__(
        self,
        database: Database,
        notebooks: Notebooks,
        artifacts: ArtifactStore,
        skills: SkillLibrary,
        quota: StorageQuota,
        memory_mb: int,
    ) -> None:
        self._database = database
        self._notebooks = notebooks
        self._artifacts = artifacts
        self._skills = skills
        self._quota = quota
        self._memory_mb = memory_mb
        self._files = ContainerFiles(database, artifacts)

    async def missing(self) -> str | None:
        """Return a sentence that says why this machine cannot run code, or ``None`` if it can."""
        return await self._notebooks.missing()

    async def revoke(self, owner: str) -> None:
        """Stop all code that runs for a revoked key."""
        await self._notebooks.revoke(owner)

    async def run(
        self, session: str | None, cell: Cell, context: Context, *, source: FileSource = "user"
    ) -> tuple[CellOutcome, tuple[Artifact, ...]]:
        """Run a cell: in a container by its id, in a session by its name, or without a session in a new kernel.

        Files that the cell creates are stored for the caller. ``source`` is the origin of the files that are put into
        the container before the cell runs. Raise `NotFound` for a missing container, `Unavailable`, `TooMany`,
        `TooLarge`.
        """

        async def report(message: str) -> None:
            await context.emit(Progressed("install", message))

        caller = context.caller
        if session is None or not is_id(session, "cntr_"):
            outcome = await self._notebooks.run(caller.id, session, cell, report, is_whole=caller.admin)
            return outcome, await self._keep(outcome.products, cell, context)
        row = await self._use(session, caller)
        cell = replace(cell, skills={**await self._skills.folders(row.skills, caller), **cell.skills})
        artifacts: tuple[Artifact, ...] = ()

        async def around(run: RunCell, laid: dict[str, str]) -> CellOutcome:
            nonlocal artifacts
            missing = await self._lay(row, run, laid)
            outcome = await run(cell)
            outcome = replace(outcome, notes=(*missing, *outcome.notes))
            artifacts = await self._keep(outcome.products, cell, context)
            if cell.fetch:
                return outcome
            files = [(path, data, source) for path, data in cell.files.items()]
            author = Author(row.id, owner_of_container(row)) if source == "user" else context
            brought = await self._artifacts.keep(
                [new_artifact(path, data) for path, data, _ in files], author
            )
            named_files = [
                *(
                    (artifact.id, path, source)
                    for artifact, (path, _data, source) in zip(brought, files, strict=True)
                ),
                *(
                    (artifact.id, _path(product), "assistant")
                    for artifact, product in zip(artifacts, outcome.products, strict=True)
                ),
            ]
            remaining_paths = await self._files.put(row, named_files)
            for entry, (path, _data, _source) in zip(brought, files, strict=True):
                if path in remaining_paths:
                    await self._files.discard(entry.id)
            laid.update(
                {path: file_id for file_id, path, _source in named_files if path not in remaining_paths}
            )
            await self._files.take(row, [path for path in outcome.gone if path in laid])
            for path in outcome.gone:
                laid.pop(path, None)
            return replace(outcome, notes=(*outcome.notes, *map(no_room_text, remaining_paths)))

        outcome = await self._notebooks.run(
            row.owner, row.id, cell, report, is_whole=caller.admin, around=around
        )
        return outcome, artifacts

    async def _keep(self, products: Sequence[Product], cell: Cell, context: Context) -> tuple[Artifact, ...]:
        if cell.fetch:
            return ()
        return await self._artifacts.keep(
            [new_artifact(product.name, product.data) for product in products], context
        )

    async def _lay(self, row: ContainerRow, run: RunCell, laid: dict[str, str]) -> Sequence[str]:
        """Make the files of the kernel equal to those of its container. Return sentences about files that could not be
        copied.
        """
        missing: list[str] = []
        files = {file.path: file for file in await self._database.read(rows.files, row.id)}
        for path in [path for path in laid if path not in files]:
            await run(Cell("", remove=path))
            del laid[path]
        portion: dict[str, bytes] = {}
        size = 0
        for path, file in files.items():
            if laid.get(path) == file.id:
                continue
            if portion and size + file.bytes > MAX_FILE_BYTES:
                missing += await self._lay_portion(portion, run, laid)
                portion, size = {}, 0
            with suppress(NotFound):  # deleted a moment ago
                portion[path] = await self._artifacts.read(file.id, SYSTEM)
                size += file.bytes
                laid[path] = file.id
        if portion:
            missing += await self._lay_portion(portion, run, laid)
        return missing

    @staticmethod
    async def _lay_portion(files: Mapping[str, bytes], run: RunCell, laid: dict[str, str]) -> Sequence[str]:
        """Copy a portion of the files to the kernel. If one of them cannot be written, the next call copies all of
        them again.
        """
        error = (await run(Cell("", files))).error
        if error is None:
            return ()
        for path in files:
            laid.pop(path)
        return (error,)

    async def automatic(self, caller: Principal) -> str:
        """See `ContainerPlaces`."""
        return (await self.create(NewContainer("auto", automatic=True), caller)).id

    async def skills(self, container_id: str, caller: Principal) -> tuple[SkillText, ...]:
        """See `ContainerPlaces`."""
        row = await self.get(container_id, caller)
        return tuple([await self._about(skill, caller) for skill in row.skills])

    async def _about(self, skill: str | Mapping[str, Any], caller: Principal) -> SkillText:
        if isinstance(skill, str):
            return await self._skills.about(skill, caller)
        if "archive" in skill:
            return await self._skills.read_archive(skill["archive"])
        return await self._skills.about(skill["skill"], caller, skill["version"])

    async def create(
        self,
        container: NewContainer,
        caller: Principal,
        files: AsyncIterable[tuple[str, bytes]] | None = None,
    ) -> ContainerRow:
        """Create a container with ``files``: pairs of path and content. Only one file at a time is in memory.

        Raise `InvalidRequest`, `NotFound`, `TooLarge`, `Conflict`.
        """
        for number, skill in enumerate(container.skills):
            try:
                await self._about(skill, caller)
            except (NotFound, InvalidRequest) as error:
                error.param = f"skills[{number}]"
                raise
        sent_skills = [
            skill for skill in container.skills if not isinstance(skill, str) and "archive" in skill
        ]
        moment = await self._database.read(database_time)
        row = ContainerRow(
            id=new_id("cntr_"),
            owner=caller.id,
            name=container.name,
            automatic=container.automatic,
            minutes=container.minutes,
            memory_limit=self._memory(container.memory_limit),
            skills=list(container.skills),
            bytes=len(orjson.dumps(sent_skills)) if sent_skills else 0,
            created_at=moment,
            last_active_at=moment,
            expires_at=moment + container.minutes * MINUTE_S,
        )

        def add(connection: Any) -> str | None:
            self._quota.require(connection, row.owner, row.bytes)
            return rows.add(connection, row, BOUNDS)

        while (oldest := await self._database.write(add)) is not None:
            await self._forget(oldest, row.owner)
        try:
            if files is not None:
                async for path, data in files:
                    await self._files.add(row, path, data)
        except BaseException:
            await self._forget(row.id, row.owner)
            raise
        return row

    async def get(self, container_id: str, caller: Principal) -> ContainerRow:
        """Return one container. Raise `NotFound`."""
        return _require_visible(await self._database.read(rows.get, container_id), container_id, caller)

    async def list(
        self,
        caller: Principal,
        *,
        name: str | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> RowPage[ContainerRow]:
        """Return the caller's own containers by creation time. If ``name`` is set, return only containers with
        that name.
        """
        return await self._database.read(
            rows.every, caller.id, name=name, after=after, limit=limit, order=order
        )

    async def remove(self, container_id: str, caller: Principal) -> ContainerRow:
        """Delete a container, and those of its files that no run has created. Raise `NotFound`."""
        row = await self.get(container_id, caller)
        await self._forget(row.id, row.owner)
        return row

    async def expire(self, *, dry_run: bool = False) -> int:
        """Delete containers that have been unused for longer than their lifetime. Return the number of deleted
        containers.
        """
        if dry_run:
            return await self._database.read(rows.count_expired)
        removed_count = 0
        while expired_containers := await self._database.read(rows.expired_ids, _BATCH_ROWS):
            for container_id, owner in expired_containers:
                await self._forget(container_id, owner)
            removed_count += len(expired_containers)
        return removed_count

    async def _forget(self, container_id: str, owner: str) -> None:
        await self._notebooks.end(owner, container_id)
        await self._database.write(rows.remove, container_id)
        while artifact_rows := await self._artifacts.list(SYSTEM, run_id=container_id):
            for row in artifact_rows:
                await self._files.discard(row.id)

    async def _use(self, container_id: str, caller: Principal) -> ContainerRow:
        await self.get(container_id, caller)
        return _require_visible(await self._database.write(rows.use, container_id), container_id, caller)

    def _memory(self, memory_size: str | None) -> str | None:
        if memory_size is None:
            return next(
                (name for name, mb in reversed(list(MEMORY_MB.items())) if mb <= self._memory_mb), None
            )
        if MEMORY_MB[memory_size] > self._memory_mb:
            raise InvalidRequest(
                f"Containers have {self._memory_mb} MB of memory (the setting notebook_memory_mb), less than "
                f"'{memory_size}'. Leave out 'memory_limit'.",
                code="unsupported_value",
                param="memory_limit",
            )
        return memory_size

    async def add(self, container_id: str, path: str, data: bytes, caller: Principal) -> StoredContainerFile:
        """Add a file, replacing a file with the same path. Raise `NotFound`, `InvalidRequest`, `TooLarge`."""
        return await self._files.add(await self._use(container_id, caller), path, data)

    async def files(self, container_id: str, caller: Principal) -> Sequence[StoredContainerFile]:
        """Return the files of a container in the order of their creation. Raise `NotFound`."""
        return await self._database.read(rows.files, (await self.get(container_id, caller)).id)

    async def file(self, container_id: str, file_id: str, caller: Principal) -> StoredContainerFile:
        """Return a file of the container by its id. Raise `NotFound`."""
        return await self._files.find(await self.get(container_id, caller), file_id)

    async def content(self, container_id: str, file_id: str, caller: Principal) -> ArtifactRow:
        """Return the artifact that contains the bytes of a file. Raise `NotFound`."""
        return await self._artifacts.get((await self.file(container_id, file_id, caller)).id, SYSTEM)

    async def remove_file(self, container_id: str, file_id: str, caller: Principal) -> StoredContainerFile:
        """Remove a file from its container. Raise `NotFound`."""
        file = await self.file(container_id, file_id, caller)
        await self._files.let_go([file])
        return file


def _require_visible(row: ContainerRow | None, container_id: str, caller: Principal) -> ContainerRow:
    if row is None or not caller.sees(row.owner):
        raise container_gone_error(container_id)
    return row


def _path(product: Product) -> str:
    return product.path or product.name
