"""Apps of a configuration: deployed in order of dependency; an app waits for the tool that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.core.request import AppInput, AppOutput, Request
from portico_server.core.servable import Card
from portico_server.db.apps import AppRow
from portico_server.db.database import Database
from portico_server.features.apps.configured import ConfiguredApps
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.apps.entry import AppEntry
from portico_server.runs.quotas import Quotas


class Named:
    """An object with a name and a kind."""

    def __init__(self, name: str, kind: Any, owner: str | None = None) -> None:
        self.card = Card(name, kind, owner=owner)

    async def call(self, request: Request, context: Context) -> AppOutput:
        assert isinstance(request, AppInput)
        return AppOutput(request.value)


class DeployedFixture:
    """Apps whose specification is the list of names that they need."""

    def __init__(self, database: Database) -> None:
        self.registry = Registry()
        self.quotas = Quotas(noun="app")
        self.apps = DeployedApps(database, self.registry, self.quotas)
        self.configured = ConfiguredApps(self.registry, self.apps)
        self.built: asyncio.Queue[str] = asyncio.Queue()
        self.apps.kind("needs", self._load)

    async def _load(self) -> DeployedFixture:
        return self

    async def check(self, _name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        if "wrong" in spec:
            raise InvalidRequest("It is wrong.")
        for key in spec["needs"]:
            await self.registry.resolve(key, caller)

    def build(self, name: str, _spec: Mapping[str, Any], row: AppRow) -> Named:
        self.built.put_nowait(name)
        return Named(name, "app", row.owner)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[DeployedFixture]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield DeployedFixture(database)
    database.close()


def needs(name: str, *others: str, limits: UsageLimits | None = None) -> AppEntry:
    return AppEntry(name, "needs", {"needs": list(others)}, limits)


async def test_apps_are_deployed_after_the_apps_they_need(daemon: DeployedFixture) -> None:
    await daemon.configured.deploy(
        [needs("a", "b"), needs("b", "c"), needs("c", limits=UsageLimits(concurrency=2))]
    )
    assert [daemon.built.get_nowait() for _ in range(3)] == ["c", "b", "a"]
    row = daemon.apps.index.find_shared("c")
    assert row is not None and row.limits == {"concurrency": 2} and daemon.quotas.of(row.id) is not None


async def test_only_a_changed_configuration_creates_a_new_version(daemon: DeployedFixture) -> None:
    await daemon.configured.deploy([needs("a")])
    await daemon.configured.deploy([needs("a")])
    await daemon.configured.deploy([needs("b"), needs("a", "b")])
    assert [version.version for version in await daemon.apps.versions("a", SYSTEM)] == [2, 1]


async def test_deployment_errors_are_raised_and_do_not_stop_other_apps(daemon: DeployedFixture) -> None:
    with pytest.raises(InvalidRequest, match="It is wrong"):
        await daemon.configured.deploy([AppEntry("a", "needs", {"wrong": True}), needs("b")])
    assert daemon.apps.index.find_shared("b") is not None
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        await daemon.configured.deploy([needs("c", "nobody")])


async def test_an_app_that_needs_a_missing_tool_is_deployed_once_it_appears(daemon: DeployedFixture) -> None:
    await daemon.configured.deploy([needs("late", "tool/slow")])
    assert daemon.apps.index.find_shared("late") is None and "slow" in daemon.apps.index.unusable["late"]
    task = asyncio.create_task(daemon.configured.run())
    daemon.registry.add(Named("other", "tool"))
    daemon.registry.add(Named("slow", "tool"))
    assert await asyncio.wait_for(daemon.built.get(), 60) == "late"
    await asyncio.wait_for(task, 60)
    assert daemon.apps.index.find_shared("late") is not None and not daemon.apps.index.unusable


async def test_limits_set_during_a_deployment_keep_its_version(daemon: DeployedFixture) -> None:
    await daemon.configured.deploy([needs("a")])
    await asyncio.gather(
        daemon.apps.deploy("a", "needs", {"needs": [], "x": 2}, SYSTEM),
        daemon.apps.limit("a", UsageLimits(concurrency=2), SYSTEM),
    )
    row, _version = await daemon.apps.update("a", {"x": 3}, SYSTEM)
    assert (row.version, row.limits) == (3, {"concurrency": 2})


async def test_limits_set_during_a_removal_do_not_bring_the_app_back(daemon: DeployedFixture) -> None:
    key = Principal("key_1", frozenset({"apps:*:deploy"}))
    await daemon.apps.deploy("a", "needs", {"needs": []}, key)
    _removed, error = await asyncio.gather(
        daemon.apps.remove("a", key),
        daemon.apps.limit("a", UsageLimits(concurrency=2), key),
        return_exceptions=True,
    )
    assert isinstance(error, NotFound)
    row, _version = await daemon.apps.deploy("a", "needs", {"needs": []}, key)
    assert row.limits is None
