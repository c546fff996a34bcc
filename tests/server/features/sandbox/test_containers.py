"""Containers: their files after a kernel has ended, when space is short, and when they expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from sqlalchemy import update
from tests.server.features.sandbox.conftest import environment

from portico.wire import Event
from portico_server.blobs.place import FolderBlobs
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.db.containers import ContainerBounds
from portico_server.db.database import Database
from portico_server.db.schema import containers as table
from portico_server.features.sandbox import container_files
from portico_server.features.sandbox import containers as containers_module
from portico_server.features.sandbox.containers import ContainerService, NewContainer
from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.local import LocalSandbox
from portico_server.features.sandbox.notebooks import Notebooks
from portico_server.features.sandbox.protocol import Cell, SandboxLimits
from portico_server.features.skills.library import SkillLibrary
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore
from portico_server.runs.quotas import StorageQuota

__all__ = ["environment"]

ME, YOU = Principal("key_me", frozenset()), Principal("key_you", frozenset())


@dataclass(frozen=True, slots=True)
class Call:
    """A run of a key, as tools see it."""

    caller: Principal = ME
    run: str = "run_1"

    async def emit(self, event: Event) -> None:
        """Ignore the event."""


CALL = cast("Any", Call())


async def brought(*files: tuple[str, bytes]) -> AsyncIterator[tuple[str, bytes]]:
    """Yield files as they arrive for a new container."""
    for file in files:
        yield file


@dataclass(frozen=True, slots=True)
class Place:
    """Containers and the components that they use."""

    containers: ContainerService
    notebooks: Notebooks
    artifacts: ArtifactStore
    database: Database

    async def paths(self, container_id: str) -> list[str]:
        return sorted(file.path for file in await self.containers.files(container_id, ME))


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    artifacts = ArtifactStore(database, FolderBlobs(database, tmp_path / "artifacts", ARTIFACT_BLOBS))
    limits = SandboxLimits(seconds=30)
    notebooks = Notebooks(LocalSandbox(Environment(tmp_path / "none")), limits, limit=2, idle=60)
    skills = SkillLibrary(database, StorageQuota())
    containers = ContainerService(database, notebooks, artifacts, skills, StorageQuota(), 1_024)
    yield Place(containers, notebooks, artifacts, database)
    await notebooks.close()
    database.close()


async def test_a_new_kernel_of_a_container_has_the_files_of_the_previous_one(
    place: Place, environment: Environment
) -> None:
    notebooks = Notebooks(LocalSandbox(environment), SandboxLimits(seconds=30), limit=2, idle=60)
    containers = ContainerService(
        place.database,
        notebooks,
        place.artifacts,
        SkillLibrary(place.database, StorageQuota()),
        StorageQuota(),
        1_024,
    )
    row = await containers.create(NewContainer("work"), ME, brought(("given.txt", b"given")))
    code = "import os\nos.makedirs('a')\nopen('a/b.txt', 'w').write('b')\nopen('c.txt', 'w').write('c')"
    outcome, artifacts = await containers.run(row.id, Cell(code, {"sent.txt": b"sent"}), CALL)
    assert outcome.error is None and sorted(artifact.name for artifact in artifacts) == ["b.txt", "c.txt"]
    assert await place.paths(row.id) == ["a/b.txt", "c.txt", "given.txt", "sent.txt"]
    await containers.run(row.id, Cell("import os; os.remove('c.txt'); open('a/b.txt', 'a').write('!')"), CALL)
    await notebooks.end(ME.id, row.id)  # like a container that is idle for long, or a restart
    await containers.add(row.id, "late.txt", b"late", ME)
    outcome, _made = await containers.run(
        row.id, Cell("import glob; sorted(glob.glob('**', recursive=True)), open('a/b.txt').read()"), CALL
    )
    assert outcome.value == "(['a', 'a/b.txt', 'given.txt', 'late.txt', 'sent.txt'], 'b!')"
    [late] = [file for file in await containers.files(row.id, ME) if file.path == "late.txt"]
    await containers.remove_file(row.id, late.id, ME)
    outcome, _made = await containers.run(row.id, Cell("import os; os.path.exists('late.txt')"), CALL)
    assert outcome.value == "False"
    with pytest.raises(NotFound):
        await containers.run(row.id, Cell("1"), cast("Any", Call(YOU)))
    await containers.remove(row.id, ME)
    assert {artifact.name for artifact in await place.artifacts.list(ME)} == {"b.txt", "c.txt"}, (
        "of the run, not of it"
    )
    with pytest.raises(NotFound):
        await containers.run(row.id, Cell("1"), CALL)
    await notebooks.close()


async def test_a_windows_device_name_is_escaped_in_the_artifact_name(
    place: Place, environment: Environment
) -> None:
    notebooks = Notebooks(LocalSandbox(environment), SandboxLimits(seconds=30), limit=2, idle=60)
    skills = SkillLibrary(place.database, StorageQuota())
    containers = ContainerService(place.database, notebooks, place.artifacts, skills, StorageQuota(), 1_024)
    row = await containers.create(NewContainer("work"), ME)
    _outcome, artifacts = await containers.run(row.id, Cell("open('nul.txt', 'w').write('a')"), CALL)
    assert [artifact.name for artifact in artifacts] == ["%6Eul.txt"]
    assert await place.paths(row.id) == ["nul.txt"]
    await notebooks.close()


async def test_an_added_file_replaces_links_pipes_and_files_in_its_path(
    place: Place, environment: Environment
) -> None:
    notebooks = Notebooks(LocalSandbox(environment), SandboxLimits(seconds=30), limit=2, idle=60)
    skills = SkillLibrary(place.database, StorageQuota())
    containers = ContainerService(place.database, notebooks, place.artifacts, skills, StorageQuota(), 1_024)
    row = await containers.create(NewContainer("work"), ME)
    commands = ("ln -s /etc/passwd link", "ln -s loop loop", "ln -s /tmp out", "mkfifo pipe", "mkdir full")
    await containers.run(row.id, Cell("", commands=(*commands, "touch full/of", "echo a > was")), CALL)
    names = ("full", "link", "loop", "out/x", "pipe", "was/x", "z")
    for name in names:
        await containers.add(row.id, name, f"new {name}".encode(), ME)
    look = Cell("", commands=tuple(f"cat {name}" for name in names))
    outcome, _made = await containers.run(row.id, look, CALL)
    outputs = [result.stdout for result in outcome.results]
    assert outputs == ["", *(f"new {name}" for name in names[1:])]
    [note] = outcome.notes
    assert "'full' could not be written: Is a directory." in note
    await containers.run(row.id, Cell("", commands=("rm -r full", "mkfifo other")), CALL)
    outcome, _made = await containers.run(row.id, look, CALL)
    assert [result.stdout for result in outcome.results] == [f"new {name}" for name in names]
    assert not outcome.notes
    outcome, _made = await containers.run(row.id, Cell("", fetch="other"), CALL)
    assert "'other' is not a file" in (outcome.error or "")
    await notebooks.close()


async def test_a_container_is_gone_with_its_files_when_its_time_is_over(place: Place) -> None:
    container_rows = [
        await place.containers.create(NewContainer(name), ME, brought(("a.txt", b"a")))
        for name in ("old", "new")
    ]
    old, new = (row.id for row in container_rows)
    await place.database.write(
        lambda connection: (
            connection.execute(update(table).where(table.c.id == old).values(expires_at=1)) and None
        )
    )
    with pytest.raises(NotFound):
        await place.containers.get(old, ME)
    assert [row.id for row in (await place.containers.list(ME)).data] == [new]
    assert await place.containers.expire(dry_run=True) == 1 == await place.containers.expire()
    assert [row.run_id for row in await place.artifacts.list(ME)] == [new]


async def test_containers_files_and_bytes_of_a_key_are_limited(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = ContainerBounds(containers=2, files=2, bytes=10)
    monkeypatch.setattr(containers_module, "BOUNDS", bounds)
    monkeypatch.setattr(container_files, "BOUNDS", bounds)
    first = await place.containers.create(NewContainer("first"), ME)
    spare = await place.containers.automatic(ME)
    second = await place.containers.create(NewContainer("second"), ME)
    assert {row.id for row in (await place.containers.list(ME)).data} == {first.id, second.id}, spare
    with pytest.raises(Conflict):
        await place.containers.create(NewContainer("third"), ME)
    await place.containers.create(NewContainer("yours"), YOU)
    await place.containers.add(first.id, "a", b"12345", ME)
    for path, data in (("b", b"123456"), ("c", b"12345"), ("d", b"")):
        if path == "c":
            await place.containers.add(first.id, path, data, ME)
            continue
        with pytest.raises(TooLarge):
            await place.containers.add(first.id, path, data, ME)
    await place.containers.add(first.id, "a", b"1", ME)
    assert await place.paths(first.id) == ["a", "c"]
    assert len(await place.artifacts.list(ME)) == 2, "nothing is left of what was refused or replaced"
    for path in ("../a", "/etc/passwd", "a//b", "", "a\\b", "x" * 300, "CON", "a/nul.txt"):
        with pytest.raises(InvalidRequest):
            await place.containers.add(first.id, path, b"", ME)
    with pytest.raises(NotFound):
        await place.containers.get(new_id("cntr_"), ME)


async def test_files_uploaded_to_a_container_deleted_meanwhile_are_not_stored(place: Place) -> None:
    async def files() -> AsyncIterator[tuple[str, bytes]]:
        [row] = (await place.containers.list(ME)).data
        await place.containers.remove(row.id, ME)
        yield "late.txt", b"late"

    with pytest.raises(NotFound) as error_info:
        await place.containers.create(NewContainer("short"), ME, files())
    assert error_info.value.code == "container_not_found" and await place.artifacts.list(ME) == []


async def test_concurrent_uploads_to_one_path_leave_only_the_last_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await place.containers.create(NewContainer("box"), ME)
    put, both_are_put = container_files.ContainerFiles.put, asyncio.Barrier(2)

    async def put_together(*arguments: Any) -> Any:
        outcome = await put(*arguments)
        await both_are_put.wait()
        return outcome

    monkeypatch.setattr(container_files.ContainerFiles, "put", put_together)
    files = await asyncio.gather(*(place.containers.add(row.id, "a.txt", data, ME) for data in (b"1", b"22")))
    assert [file.bytes for file in files] == [1, 2]
    [last] = await place.containers.files(row.id, ME)
    assert last in files and len(await place.artifacts.list(ME)) == 1
