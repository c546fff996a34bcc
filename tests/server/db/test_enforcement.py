"""Daemons on one PostgreSQL, by the names of their connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests import postgres

from portico_server.core.errors import Conflict
from portico_server.db import keys
from portico_server.db.database import Database
from portico_server.db.enforcement import (
    APPLICATION_NAME,
    LEVEL,
    older_daemons,
    require_enforced,
    restrictions_in_use,
)
from portico_server.db.keys import KeyRow
from portico_server.older_daemons import OlderDaemonWatch


@pytest.fixture(scope="module")
def new_url(server: postgres.Server) -> Any:
    return server.prepared()


@pytest.fixture
def shared(new_url: Any) -> Iterator[tuple[Database, str]]:
    url = new_url()
    database = Database(url)
    yield database, url
    database.close()


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        yield
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("portico", [0]),
        ("portico/0 web-2", [0]),
        ("portico/ web-2", [0]),
        (APPLICATION_NAME, []),
        (f"portico/{LEVEL} {'w' * 80}", []),
        (f"portico/{LEVEL + 1} web-2", []),
        ("portico migrate", []),
        ("psql", []),
    ],
)
async def test_the_connection_name_states_the_enforcement_level_of_its_daemon(
    shared: tuple[Database, str], name: str, levels: list[int]
) -> None:
    database, url = shared
    async with connected(url, name):
        assert [daemon.level for daemon in await database.read(older_daemons)] == levels
        if levels:
            with pytest.raises(Conflict, match=r"older daemon uses this database.*Upgrade or stop") as caught:
                await database.write(require_enforced, "rights")
            assert (caught.value.code, caught.value.param) == ("older_daemon", "rights")
        else:
            await database.write(require_enforced, "rights")


async def test_an_older_daemon_of_another_database_is_ignored(
    shared: tuple[Database, str], new_url: Any
) -> None:
    async with connected(new_url(), "portico"):
        assert not await shared[0].read(older_daemons)


async def test_an_older_daemon_that_starts_later_is_reported_until_it_ends(
    shared: tuple[Database, str], caplog: pytest.LogCaptureFixture
) -> None:
    database, url = shared
    watch = OlderDaemonWatch(database)
    assert await watch.problem() is None
    await database.write(keys.add, key({"*": {"key": "team", "type": "eq", "value": "red"}}))
    change_event = asyncio.Event()
    async with connected(url, "portico"), asyncio.timeout(60):
        problem = await watch.problem()
        assert problem is not None
        assert "does not enforce 'filters', and serves what they withhold. Upgrade or stop it." in problem
        task = asyncio.create_task(watch.run(change_event.set))
        await change_event.wait()
        task.cancel()
    assert problem in caplog.text
    assert await watch.problem() is None


async def test_the_restrictions_in_use_are_read_from_the_rows(database: Database) -> None:
    assert await database.read(restrictions_in_use) == []
    await database.write(keys.add, key({}))
    assert await database.read(restrictions_in_use) == []
    await database.write(keys.change, "key_", filters={"*": {"key": "team", "type": "eq", "value": "red"}})
    assert await database.read(restrictions_in_use) == ["filters"]
    await database.write(keys.revoke, "key_", time.time())
    assert await database.read(restrictions_in_use) == []


async def test_sqlite_reports_no_other_daemons(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    try:
        await database.write(require_enforced, "rights")
        assert await OlderDaemonWatch(database).problem() is None
    finally:
        database.close()


def key(filters: dict[str, Any]) -> KeyRow:
    return KeyRow("key_", "a", "hash", "hint", ("stores:*:read",), time.time(), filters=filters)
