"""Containers: sessions of the sandbox with a name and an owner, whose files are kept as long as they are used.

A session has its files in the memory of its kernel. Those of a container are artifacts too: what a call makes is
noted after it, and what its kernel lacks is laid into it before the next, be it new or on another machine.
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
from portico_server.db.rows import Order, RowPage, now
from portico_server.runs.artifacts import ArtifactStore, Author
from portico_server.runs.quotas import StorageQuota
from portico_server.tools.container_files import (
    BOUNDS,
    MAX_FILE_BYTES,
    ContainerFiles,
    container_gone_error,
    new_artifact,
    no_room_text,
    owner_of_container,
)
from portico_server.tools.sandbox.notebooks import Notebooks, RunCell
from portico_server.tools.sandbox.protocol import Cell, CellOutcome, Product
from portico_server.tools.skills.library import SkillLibrary

DEFAULT_MINUTES: Final = 20
MAX_MINUTES: Final = 30 * 24 * 60
MEMORY_MB: Final[Mapping[str, int]] = {"1g": 1_024, "4g": 4_096, "16g": 16_384, "64g": 65_536}

_BATCH_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class NewContainer:
    """What a container is to be. ``skills`` as the tools that run code take them."""

    name: str
    minutes: int = DEFAULT_MINUTES
    memory_limit: str | None = None
    skills: Sequence[str | Mapping[str, Any]] = ()
    automatic: bool = False


class ContainerService:
    """All sessions of the sandbox, and the containers among them. ``memory_mb`` is what each has."""

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
        """The sentence that says why no code can run here, or ``None``."""
        return await self._notebooks.missing()

    async def revoke(self, owner: str) -> None:
        """End what runs for a key that was revoked."""
        await self._notebooks.revoke(owner)

    async def run(
        self, session: str | None, cell: Cell, context: Context, *, source: FileSource = "user"
    ) -> tuple[CellOutcome, tuple[Artifact, ...]]:
        """Run a cell: in a container by its id, in a session by its name, or without one in a kernel of its own.

        What it made is kept for who called. ``source``: from whom the files of the cell are. Raises `NotFound` for a
        container that is not there, `Unavailable`, `TooMany`, `TooLarge`.
        """

        async def report(message: str) -> None:
            await context.emit(Progressed("install", message))

        caller = context.caller
        if session is None or not is_id(session, "cntr_"):
            outcome = await self._notebooks.run(caller.id, session, cell, report, is_whole=caller.admin)
            return outcome, await self._kept(outcome.products, cell, context)
        row = await self._used(session, caller)
        cell = replace(cell, skills={**await self._skills.folders(row.skills, caller), **cell.skills})
        artifacts: tuple[Artifact, ...] = ()

        async def around(run: RunCell, laid: dict[str, str]) -> CellOutcome:
            nonlocal artifacts
            missing = await self._lay(row, run, laid)
            outcome = await run(cell)
            outcome = replace(outcome, notes=(*missing, *outcome.notes))
            artifacts = await self._kept(outcome.products, cell, context)
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
            for one, (path, _data, _source) in zip(brought, files, strict=True):
                if path in remaining_paths:
                    await self._files.discard(one.id)
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

    async def _kept(self, products: Sequence[Product], cell: Cell, context: Context) -> tuple[Artifact, ...]:
        if cell.fetch:
            return ()
        return await self._artifacts.keep(
            [new_artifact(product.name, product.data) for product in products], context
        )

    async def _lay(self, row: ContainerRow, run: RunCell, laid: dict[str, str]) -> Sequence[str]:
        """Let a kernel have the files of its container: those that came or changed elsewhere, and no others. Sentences
        about those that cannot be there.
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
            with suppress(NotFound):  # deleted this moment
                portion[path] = await self._artifacts.read(file.id, SYSTEM)
                size += file.bytes
                laid[path] = file.id
        if portion:
            missing += await self._lay_portion(portion, run, laid)
        return missing

    @staticmethod
    async def _lay_portion(files: Mapping[str, bytes], run: RunCell, laid: dict[str, str]) -> Sequence[str]:
        """Some of them; where one cannot be written, all of these are laid again with the next call."""
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
            return await self._skills.sent(skill["archive"])
        return await self._skills.about(skill["skill"], caller, skill["version"])

    async def create(
        self,
        container: NewContainer,
        caller: Principal,
        files: AsyncIterable[tuple[str, bytes]] | None = None,
    ) -> ContainerRow:
        """A new one with these files, by their paths, of which one at a time is in memory.

        Raises `InvalidRequest`, `NotFound`, `TooLarge`, `Conflict`.
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
        moment = await self._database.read(now)
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
        """One of them. Raises `NotFound`."""
        return _seen(await self._database.read(rows.get, container_id), container_id, caller)

    async def list(
        self,
        caller: Principal,
        *,
        name: str | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> RowPage[ContainerRow]:
        """The caller's own by the time when they were made; those of a name, if one is given."""
        return await self._database.read(
            rows.every, caller.id, name=name, after=after, limit=limit, order=order
        )

    async def remove(self, container_id: str, caller: Principal) -> ContainerRow:
        """Forget one, with the files that no run has made. Raises `NotFound`."""
        row = await self.get(container_id, caller)
        await self._forget(row.id, row.owner)
        return row

    async def expire(self, *, dry_run: bool = False) -> int:
        """Forget those that were not used for their time; how many."""
        if dry_run:
            return await self._database.read(rows.count_expired)
        removed_count = 0
        while expired_containers := await self._database.read(rows.expired, _BATCH_ROWS):
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

    async def _used(self, container_id: str, caller: Principal) -> ContainerRow:
        await self.get(container_id, caller)
        return _seen(await self._database.write(rows.use, container_id), container_id, caller)

    def _memory(self, memory_size: str | None) -> str | None:
        if memory_size is None:
            return next(
                (name for name, mb in reversed(list(MEMORY_MB.items())) if mb <= self._memory_mb), None
            )
        if MEMORY_MB[memory_size] > self._memory_mb:
            raise InvalidRequest(
                f"Containers here have {self._memory_mb} MB of memory (the setting notebook_memory_mb), fewer than "
                f"'{memory_size}'. Leave 'memory_limit' out.",
                code="unsupported_value",
                param="memory_limit",
            )
        return memory_size

    async def add(self, container_id: str, path: str, data: bytes, caller: Principal) -> StoredContainerFile:
        """Put a file there, in place of one with the same path. Raises `NotFound`, `InvalidRequest`, `TooLarge`."""
        return await self._files.add(await self._used(container_id, caller), path, data)

    async def files(self, container_id: str, caller: Principal) -> Sequence[StoredContainerFile]:
        """The files of one, in the order in which they were made. Raises `NotFound`."""
        return await self._database.read(rows.files, (await self.get(container_id, caller)).id)

    async def file(self, container_id: str, file_id: str, caller: Principal) -> StoredContainerFile:
        """One of its files by its id. Raises `NotFound`."""
        return await self._files.find(await self.get(container_id, caller), file_id)

    async def content(self, container_id: str, file_id: str, caller: Principal) -> ArtifactRow:
        """The artifact that has the bytes of a file. Raises `NotFound`."""
        return await self._artifacts.get((await self.file(container_id, file_id, caller)).id, SYSTEM)

    async def remove_file(self, container_id: str, file_id: str, caller: Principal) -> StoredContainerFile:
        """Take a file out of its container. Raises `NotFound`."""
        file = await self.file(container_id, file_id, caller)
        await self._files.let_go([file])
        return file


def _seen(row: ContainerRow | None, container_id: str, caller: Principal) -> ContainerRow:
    if row is None or not caller.sees(row.owner):
        raise container_gone_error(container_id)
    return row


def _path(product: Product) -> str:
    return product.path or product.name
