"""Environments that uv really builds from a wheel created by the test: no index, no network."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.environments.wheels import wheel

from portico.testing.model_fixture import ModelFixture
from portico.wire import Progressed
from portico_server.core.errors import Conflict, NotFound, PorticoError, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.environments.build import DRAFT_PREFIX, RECEIPT_FILE, python_in
from portico_server.models.environments.build import ways_of
from portico_server.models.environments.built_environment import inspect_environment, require_built
from portico_server.models.environments.installed import Environments
from portico_server.models.environments.recipe import RECIPES, EnvironmentRecipe
from portico_server.runs.run import Run

Shelf = Callable[..., EnvironmentRecipe]


def recipe(folder: Path, *, version: str = "1.0", digest: str = "", requires: str = "") -> EnvironmentRecipe:
    wheel_path = wheel(folder, version, requires)
    digest = digest or hashlib.sha256(wheel_path.read_bytes()).hexdigest()
    lock = folder / "tiny.lock"
    lock.write_text(f"tinyengine @ {wheel_path.as_uri()} \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    return EnvironmentRecipe("tiny", "tinyengine", lock, sys.executable, 0.001, lambda: "")


@asynccontextmanager
async def environments(
    models: ModelFixture, *recipes: EnvironmentRecipe, offline: bool = False, on_demand: bool = True
) -> AsyncIterator[Environments]:
    """Run separate environments with a working scheduler."""
    manager = Environments(
        models.settings.environments,
        models.scheduler,
        models.runner,
        offline=offline,
        on_demand=on_demand,
        recipes={recipe.name: recipe for recipe in recipes},
    )
    working = asyncio.create_task(models.scheduler.run(is_alone=True))
    try:
        yield manager
    finally:
        working.cancel()
        await asyncio.wait([working])


async def begun(models: ModelFixture, run_id: str) -> Run:
    """Return the run, once the scheduler has started it."""
    while True:
        run = models.runner.get(run_id)
        if run is not None:
            return run
        await asyncio.sleep(0)


async def ended(models: ModelFixture, run_id: str) -> list[Progressed]:
    """Return the progress of a run once it has ended; raise the error of a failed run."""
    run = await begun(models, run_id)
    events = [event async for _number, event in run.log.follow()]
    await models.scheduler.wait_for_end(run_id)
    if run.error is not None:
        raise PorticoError(run.error.message, code=run.error.code)
    return [event for event in events if isinstance(event, Progressed)]


async def test_an_engine_is_built_completely_and_reports_its_stages(
    models: ModelFixture, tmp_path: Path
) -> None:
    tiny = recipe(tmp_path)
    async with environments(models, tiny) as manager:
        assert manager.get("tiny").state == "absent"
        with pytest.raises(Unavailable, match="portico engines install tiny"):
            require_built(models.settings.environments / "tiny", tiny)
        statuses = await ended(models, await manager.install("tiny", LOCAL))
        info = manager.get("tiny")
        assert (info.state, info.packages, info.problem) == ("ready", 1, "")
        assert [finding.ok for finding in await manager.doctor("tiny")] == [True] * 4
    assert list(dict.fromkeys(status.stage for status in statuses)) == ["python", "packages", "check"]
    python = require_built(models.settings.environments / "tiny", tiny)
    command = [str(python), "-I", "-c", "import tinyengine; print(tinyengine.VERSION)"]
    words = await asyncio.to_thread(subprocess.check_output, command, text=True)
    assert words.strip() == "1.0"
    assert not list(models.settings.environments.glob(f"{DRAFT_PREFIX}*"))


@pytest.mark.slow
async def test_a_complete_environment_is_rebuilt_only_when_requested(
    models: ModelFixture, tmp_path: Path
) -> None:
    async with environments(models, recipe(tmp_path)) as manager:
        await ended(models, await manager.install("tiny", LOCAL))
        first = manager.get("tiny").built_at
        assert await ended(models, await manager.install("tiny", LOCAL)) == []
        assert manager.get("tiny").built_at == first
        await ended(models, await manager.install("tiny", LOCAL, rebuild=True))
        assert manager.get("tiny").built_at != first


@pytest.mark.parametrize("damage", ["receipt", "garbled", "python", "package"])
async def test_a_damaged_environment_is_detected_and_never_used(
    models: ModelFixture, tmp_path: Path, damage: str
) -> None:
    tiny = recipe(tmp_path)
    folder = models.settings.environments / "tiny"
    async with environments(models, tiny) as manager:
        await ended(models, await manager.install("tiny", LOCAL))
        match damage:
            case "receipt":
                (folder / RECEIPT_FILE).unlink()
            case "garbled":
                (folder / RECEIPT_FILE).write_bytes(b"\xff{")
            case "python":
                python_in(folder).unlink()
            case "package":
                next(folder.glob("lib/python*/site-packages/tinyengine-*.dist-info/RECORD")).unlink()
        assert manager.get("tiny").state == "broken" and manager.get("tiny").problem
        assert not all(finding.ok for finding in await manager.doctor("tiny"))
        with pytest.raises(Unavailable, match="--rebuild"):
            require_built(folder, tiny)
        await ended(models, await manager.install("tiny", LOCAL))
        assert manager.get("tiny").state == "ready"


async def test_an_environment_with_another_python_pin_is_outdated_but_usable(
    models: ModelFixture, tmp_path: Path
) -> None:
    old = recipe(tmp_path)
    async with environments(models, old) as manager:
        await ended(models, await manager.install("tiny", LOCAL))
    folder = models.settings.environments / "tiny"
    assert inspect_environment(folder, replace(old, python="3.99")).state == "outdated"
    assert require_built(folder, replace(old, python="3.99")) == python_in(folder)


async def test_a_wrong_hash_installs_nothing(models: ModelFixture, tmp_path: Path) -> None:
    async with environments(models, recipe(tmp_path, digest="0" * 64)) as manager:
        with pytest.raises(PorticoError, match="could not be built"):
            await ended(models, await manager.install("tiny", LOCAL))
        assert manager.get("tiny").state == "absent"
    assert list(models.settings.environments.iterdir()) == []


async def test_a_failed_rebuild_keeps_the_previous_environment(models: ModelFixture, tmp_path: Path) -> None:
    tiny = recipe(tmp_path)
    async with environments(models, tiny) as manager:
        await ended(models, await manager.install("tiny", LOCAL))
        recipe(tmp_path, digest="0" * 64)
        with pytest.raises(PorticoError):
            await ended(models, await manager.install("tiny", LOCAL, rebuild=True))
        assert manager.get("tiny").state == "outdated"


async def test_the_draft_of_a_killed_build_is_deleted(models: ModelFixture, tmp_path: Path) -> None:
    draft_folder = (
        models.settings.environments / f"{DRAFT_PREFIX}tiny-{2**22 + 1}-abc"
    )  # no process has this number
    (draft_folder / "bin").mkdir(parents=True)
    async with environments(models, recipe(tmp_path)) as manager:
        assert manager.get("tiny").state == "absent"
        await ended(models, await manager.install("tiny", LOCAL))
    assert not draft_folder.exists()


async def test_a_build_can_be_cancelled(models: ModelFixture, tmp_path: Path) -> None:
    async with environments(models, recipe(tmp_path)) as manager:
        run = await begun(models, await manager.install("tiny", LOCAL))
        async for _number, event in run.log.follow():
            if isinstance(event, Progressed):
                break
        with pytest.raises(Conflict):
            await manager.remove("tiny")
        await run.cancel()
        assert manager.get("tiny").state == "absent"
    assert list(models.settings.environments.iterdir()) == []


async def test_a_removed_environment_is_absent_and_unknown_ones_are_not_found(
    models: ModelFixture, tmp_path: Path
) -> None:
    async with environments(models, recipe(tmp_path)) as manager:
        with pytest.raises(NotFound):
            await manager.remove("tiny")
        await ended(models, await manager.install("tiny", LOCAL))
        await manager.remove("tiny")
        assert manager.get("tiny").state == "absent"
        with pytest.raises(NotFound, match="tiny"):
            manager.get("tinny")
    assert list(models.settings.environments.iterdir()) == []


async def test_an_engine_is_refused_on_an_unsuitable_machine_with_the_reason(
    models: ModelFixture, tmp_path: Path
) -> None:
    unsuited = replace(recipe(tmp_path), unsuited=lambda: "it needs a GPU")
    async with environments(models, unsuited) as manager:
        assert manager.get("tiny").problem == "it needs a GPU"
        with pytest.raises(Conflict, match="it needs a GPU"):
            await manager.install("tiny", LOCAL)


async def test_offline_fetches_nothing(models: ModelFixture, tmp_path: Path) -> None:
    async with environments(models, recipe(tmp_path), offline=True) as manager:
        with pytest.raises(PorticoError, match="offline"):
            await ended(models, await manager.install("tiny", LOCAL))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_pin_every_package_by_hash(name: str) -> None:
    engine_recipe = RECIPES[name]
    text = engine_recipe.lock.read_text(encoding="utf-8")
    assert engine_recipe.version and engine_recipe.packages > 40
    pins = [line for line in text.splitlines() if line and line[0] not in "# "]
    assert all("==" in line and line.endswith("\\") for line in pins)
    assert len(pins) == engine_recipe.packages


async def test_a_model_that_needs_an_engine_has_it_built(models: ModelFixture, tmp_path: Path) -> None:
    progress_events: list[Progressed] = []
    async with environments(models, recipe(tmp_path)) as manager:
        await manager.furnish("tiny", progress_events.append)
        assert manager.get("tiny").state == "ready"
        assert progress_events[0].message.startswith("building the engine tiny")
        assert {event.stage for event in progress_events} == {"environment"}
        progress_events.clear()
        await manager.furnish("tiny", progress_events.append)
    assert not progress_events


async def test_models_loaded_together_share_one_build(models: ModelFixture, tmp_path: Path) -> None:
    async with environments(models, recipe(tmp_path)) as manager:
        await asyncio.gather(*(manager.furnish("tiny", lambda _words: None) for _model in range(5)))
        assert manager.get("tiny").state == "ready"
    assert [run.result["built"] for run in models.runner.list()].count(True) == 1


async def test_a_failed_build_is_reported_to_the_model(models: ModelFixture, tmp_path: Path) -> None:
    async with environments(models, recipe(tmp_path, digest="0" * 64)) as manager:
        with pytest.raises(Unavailable, match="could not be built"):
            await manager.furnish("tiny", lambda _words: None)
        assert manager.get("tiny").state == "absent"


@pytest.mark.parametrize(("offline", "on_demand"), [(True, True), (False, False)])
async def test_no_engine_is_built_offline_or_with_on_demand_builds_disabled(
    models: ModelFixture, tmp_path: Path, offline: bool, on_demand: bool
) -> None:
    async with environments(models, recipe(tmp_path), offline=offline, on_demand=on_demand) as manager:
        await manager.furnish("tiny", lambda _words: None)
        assert manager.get("tiny").state == "absent"
    assert not models.runner.list()


def test_pytorch_comes_from_the_users_indexes_then_its_own_then_the_ordinary_one(tmp_path: Path) -> None:
    small = replace(
        RECIPES["transformers"],
        lock=tmp_path / "small.lock",
        torch="cpu",
        ordinary=tmp_path / "large.lock",
        larger=4.7,
    )
    ways = ways_of(small, is_own=True, large=True)
    locks = [arguments[1] for _words, arguments in ways]
    assert locks == [str(small.lock), str(small.lock), str(small.ordinary)]
    assert ["--torch-backend" in arguments for _words, arguments in ways] == [False, True, False]
    assert "4.7 GB larger" in ways[-1][0]
    assert len(ways_of(small, is_own=False, large=True)) == 2, (
        "the usual index alone does not have the small build"
    )
    assert len(ways_of(small, is_own=True, large=False)) == 2
    assert len(ways_of(replace(small, torch=""), is_own=True, large=True)) == 1
