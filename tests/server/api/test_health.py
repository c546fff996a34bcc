"""``/ready`` beside ``/health``, and the answers while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tests.api_server import ApiServer, api_server

from portico_server.api import health
from portico_server.core.errors import PorticoError, Unavailable

REASON = 'connection to server at "db.internal" (10.1.2.3), port 5432 failed: Connection refused'


class Refused(Exception):
    """A driver's exception, with ``sqlstate`` as PostgreSQL sets it."""

    sqlstate: str | None = None


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setattr(health, "READINESS_TTL_S", -1.0)
    async with api_server(tmp_path) as server:
        yield server


async def furnished(daemon: ApiServer, **headers: str) -> None:
    """Wait until the last protocol adapter is loaded, by sending it a request."""
    await daemon.client.get("/mcp", headers=headers)


def away(daemon: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection fail as if the server were gone."""

    def connect(*_arguments: Any, **_options: Any) -> Any:
        raise OperationalError("connect", None, Refused(REASON))

    monkeypatch.setattr(daemon.services.database._kept_connections, "held", {})
    for name in ("_read_engine", "_write_engine", "_relaxed_engine", "_swift_engine"):
        monkeypatch.setattr(getattr(daemon.services.database, name), "connect", connect)
        monkeypatch.setattr(getattr(daemon.services.database, name), "begin", connect)


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "database_unavailable"
    assert answer.headers["retry-after"]
    for secret in ("db.internal", "10.1.2.3", "5432"):
        assert secret not in answer.text


async def test_ready_answers_200_without_a_key_on_a_serving_daemon(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        key = (await server.auth.create("one", ["admin"]))[1]
        await furnished(server, authorization=f"Bearer {key}")
        answer = await server.client.get("/ready")
        assert answer.json() == {"status": "ready"}
        assert (await server.client.head("/ready")).status_code == 200
        assert (await server.client.post("/ready")).status_code == 405


async def test_requests_get_503_without_a_host_name_while_the_database_is_unreachable(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(daemon)
    with monkeypatch.context() as patch:
        away(daemon, patch)
        refused(await daemon.client.get("/ready"))
        refused(await daemon.client.get("/v1/files"))
        refused(await daemon.client.post("/api/keys", json={"name": "x", "scopes": ["chat"]}))
        assert (await daemon.client.get("/health")).status_code == 200
    assert (await daemon.client.get("/ready")).status_code == 200


async def test_a_database_with_another_schema_version_is_not_ready(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(daemon)
    monkeypatch.setattr("portico_server.db.database.HEAD", "9999")
    answer = await daemon.client.get("/ready")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_not_migrated")


async def test_a_database_that_does_not_answer_in_time_is_not_ready() -> None:
    furnished, asked = asyncio.Event(), 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        await asyncio.get_running_loop().create_future()

    readiness = health.Readiness(check, furnished)
    with pytest.raises(Unavailable, match="starting"):
        await readiness.require()
    furnished.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "TIMEOUT_S", 0.0)
        outcomes = await asyncio.gather(*(readiness.require() for _ in range(5)), return_exceptions=True)
    assert {type(item) for item in outcomes} == {Unavailable}
    assert asked == 1, "one look is everybody's"


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        (None, "database_unavailable", 503),
        ("08006", "database_unavailable", 503),
        ("57P01", "database_unavailable", 503),
        ("53300", "database_unavailable", 503),
        ("40P01", "database_error", 500),
    ],
)
async def test_database_connection_errors_are_503_and_statement_errors_are_500(
    daemon: ApiServer, state: str | None, code: str, status: int
) -> None:
    def fail(_connection: Connection) -> None:
        cause = Refused(REASON)
        cause.sqlstate = state
        raise OperationalError("select 1", None, cause)

    with pytest.raises(PorticoError) as caught:
        await daemon.services.database.read(fail)
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_a_pool_without_a_free_connection_is_busy(daemon: ApiServer) -> None:
    def fail(_connection: Connection) -> None:
        raise PoolTimeout("QueuePool limit of size 4 overflow 0 reached")

    with pytest.raises(Unavailable) as caught:
        await daemon.services.database.read(fail)
    assert caught.value.code == "busy"
