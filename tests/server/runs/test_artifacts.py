"""Files created by runs: stored once, visible to their owner, removed when unused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from portico_server.blobs.place import FolderBlobs
from portico_server.core.context import Context
from portico_server.core.errors import Forbidden, NotFound
from portico_server.core.principal import LOCAL, SYSTEM, Principal
from portico_server.db.database import Database
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore, NewArtifact

ME = Principal("key_me", frozenset({"tools:*:call"}))
YOU = Principal("key_you", frozenset({"tools:*:call"}))
PNG = NewArtifact("figure.png", "image/png", b"\x89PNG")


@dataclass
class During:
    """A run of a caller."""

    caller: Principal
    run: str = "run_1"


def during(caller: Principal, run: str = "run_1") -> Context:
    return cast("Context", During(caller, run))


@pytest.fixture
async def artifacts(tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield ArtifactStore(database, FolderBlobs(database, tmp_path / "artifacts", ARTIFACT_BLOBS))
    database.close()


def blobs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("artifacts/*/*"))


async def test_artifacts_of_a_run_are_visible_only_to_its_caller_and_admins(artifacts: ArtifactStore) -> None:
    [artifact] = await artifacts.keep([PNG], during(ME))
    assert (artifact.name, artifact.media_type, artifact.bytes) == ("figure.png", "image/png", 4)
    assert artifact.link == f"/api/artifacts/{artifact.id}/content"
    assert await artifacts.read(artifact.id, ME) == await artifacts.read(artifact.id, LOCAL) == PNG.data
    for call in (artifacts.get, artifacts.read, artifacts.delete):
        with pytest.raises(NotFound):
            await cast("Any", call)(artifact.id, YOU)
    assert await artifacts.list(YOU) == []
    assert [row.id for row in await artifacts.list(ME, run_id="run_1")] == [artifact.id]
    assert await artifacts.list(ME, run_id="run_2") == []


async def test_identical_artifacts_share_one_blob_until_the_last_is_deleted(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    [artifact] = await artifacts.keep([PNG], during(ME))
    [yours] = await artifacts.keep([PNG], during(YOU))
    assert len(blobs(tmp_path)) == 1
    await artifacts.delete(artifact.id, ME)
    assert await artifacts.read(yours.id, YOU) == PNG.data
    await artifacts.delete(yours.id, YOU)
    assert blobs(tmp_path) == []


async def test_only_admins_delete_artifacts_of_the_system(artifacts: ArtifactStore) -> None:
    [artifact] = await artifacts.keep([PNG], during(SYSTEM))
    assert await artifacts.read(artifact.id, YOU) == PNG.data
    with pytest.raises(Forbidden):
        await artifacts.delete(artifact.id, YOU)
    await artifacts.delete(artifact.id, LOCAL)


async def test_expired_artifacts_are_deleted_with_their_blobs(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    start_time = time.time()
    await artifacts.keep([PNG, NewArtifact("b.txt", "text/plain", b"b")], during(ME))
    assert await artifacts.expire(start_time) == 0
    assert len(await artifacts.list(ME)) == 2
    assert await artifacts.expire(time.time() + 1) == 2
    assert await artifacts.list(ME) == [] and blobs(tmp_path) == []


async def test_blobs_without_a_database_row_are_deleted_at_start(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    [artifact] = await artifacts.keep([PNG], during(ME))
    folder, orphan_blob = tmp_path / "artifacts", "0" * 64
    (folder / "arriving" / "draft").write_bytes(b"half")
    (folder / "arriving" / orphan_blob).touch()
    (folder / "00").mkdir()
    (folder / "00" / orphan_blob).write_bytes(b"whole, but the daemon was killed before its row was written")
    await artifacts.start()
    assert len(blobs(tmp_path)) == 1 and await artifacts.read(artifact.id, ME) == PNG.data


async def test_reading_an_artifact_with_a_missing_blob_gives_not_found(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    [artifact] = await artifacts.keep([PNG], during(ME))
    for name in blobs(tmp_path):
        (tmp_path / "artifacts" / name[:2] / name).unlink()
    with pytest.raises(NotFound, match="no longer on this machine"):
        await artifacts.read(artifact.id, ME)


async def test_storing_an_empty_list_creates_no_artifacts(artifacts: ArtifactStore) -> None:
    assert await artifacts.keep([], during(ME)) == ()
    assert await artifacts.list(LOCAL) == []
