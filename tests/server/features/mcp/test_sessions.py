"""MCP sessions that nobody ends: idle sessions make way for new ones, sessions in use do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.mcp_service import Service, serving
from tests.registry_fixture import FixedStore, passage

MOST = 3
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, {}, sessions=MOST) as running:
        running.daemon.add(FixedStore("docs", [passage(1, "Port 7419.")]))
        yield running


@pytest.fixture
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, headers=ACCEPT, timeout=60) as client:
        yield client


async def begin(http: httpx.AsyncClient) -> httpx.Response:
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    return await http.post("", json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})


async def opened(http: httpx.AsyncClient) -> str:
    answer = await begin(http)
    assert answer.status_code == 200, answer.text
    return answer.headers["mcp-session-id"]


async def status(http: httpx.AsyncClient, session: str) -> int:
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    return (await http.post("", json=body, headers={"mcp-session-id": session})).status_code


async def test_the_longest_idle_session_is_evicted(http: httpx.AsyncClient) -> None:
    first, second, third = [await opened(http) for _ in range(MOST)]
    assert await status(http, first) == 200  # so that the second session is the longest idle
    fourth = await opened(http)
    statuses = {session: await status(http, session) for session in (second, first, third, fourth)}
    assert statuses == {second: 404, first: 200, third: 200, fourth: 200}


async def test_many_sessions_of_one_key_do_not_evict_another_key(
    service: Service, http: httpx.AsyncClient
) -> None:
    other_headers = {**ACCEPT, "authorization": "Bearer other"}
    async with httpx.AsyncClient(base_url=service.url, headers=other_headers, timeout=60) as neighbour:
        neighbour_session = await opened(neighbour)
        for _ in range(2 * MOST):
            await opened(http)
        assert await status(neighbour, neighbour_session) == 200


async def test_sessions_with_open_streams_are_not_evicted_and_new_ones_get_a_503(
    http: httpx.AsyncClient,
) -> None:
    first, second, third = [await opened(http) for _ in range(MOST)]
    async with http.stream("GET", "", headers={"mcp-session-id": first}) as stream:
        assert stream.status_code == 200
        fourth = await opened(http)
        assert [await status(http, session) for session in (first, second, third)] == [200, 404, 200]
        async with (
            http.stream("GET", "", headers={"mcp-session-id": third}),
            http.stream("GET", "", headers={"mcp-session-id": fourth}),
        ):
            response = await begin(http)
            assert response.status_code == 503
            assert "Too many open sessions" in response.json()["error"]["message"]


async def test_a_session_ended_by_its_client_frees_its_slot(http: httpx.AsyncClient) -> None:
    first, second, third = [await opened(http) for _ in range(MOST)]
    response = await http.delete("", headers={"mcp-session-id": third})
    assert response.status_code == 200
    await opened(http)
    assert [await status(http, session) for session in (first, second, third)] == [200, 200, 404]


async def test_parallel_handshakes_within_the_limit_all_get_a_session(http: httpx.AsyncClient) -> None:
    for _ in range(3):
        answers = await asyncio.gather(*(begin(http) for _ in range(MOST)))
        assert [answer.status_code for answer in answers] == [200] * MOST


async def test_requests_that_open_no_session_evict_no_session(http: httpx.AsyncClient) -> None:
    sessions = [await opened(http) for _ in range(MOST)]
    modern = {
        "jsonrpc": "2.0",
        "id": 3,
        "method": "tools/list",
        "params": {
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        },
    }
    head = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    answer = await http.post("", json=modern, headers=head)
    assert answer.status_code == 200, answer.text
    assert (await http.post("", json=modern, headers={"mcp-session-id": "0" * 32})).status_code == 404
    assert [await status(http, session) for session in sessions] == [200] * MOST
