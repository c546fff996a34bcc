"""An MCP session works whichever of two daemons on one PostgreSQL database its requests reach."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import WAIT_S, answered, call, end, start, until

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters: {script: [{match: "^endless", content: "a b c d e f g h i j k l m n o p", interval: 20}]}
stores:
  - {name: handbook}
apps:
  - {name: twice, flow: {step: {op: llm, model: echo}}}
  - {name: careful, flow: {step: {op: approve, name: sure, message: "Sell it?"}}}
"""
HEADERS = {"accept": "application/json, text/event-stream"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Pair = tuple[Daemon, Daemon]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with postgres.running() as server:
        database = server.new()
        with ThreadPoolExecutor(2) as threads:
            starting = [threads.submit(start, folder, name, database, CONFIGURATION) for name in "ab"]
            first, second = (future.result() for future in starting)
        yield first, second
        end(first, second)


@asynccontextmanager
async def connected(choose: Callable[[Any], Daemon], **options: Any) -> AsyncIterator[Client]:
    """Connect a client of the session-based protocol whose messages go to the daemon that ``choose`` selects.

    ``choose`` gets ``None`` for a stream and for the end.
    """

    async def route(request: httpx2.Request) -> None:
        body = json.loads(request.content) if request.method == "POST" else None
        request.url = request.url.copy_with(port=int(choose(body).url.rsplit(":", 1)[1]))

    async with httpx2.AsyncClient(event_hooks={"request": [route]}, timeout=WAIT_S) as http:
        transport = streamable_http_client(f"{choose(None).url}/mcp", http_client=http)
        async with Client(transport, mode="legacy", **options) as client:
            yield client


class Wire:
    """An MCP session in plain requests."""

    def __init__(self, daemon: Daemon) -> None:
        params = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        opening = self._post(daemon, {"id": 0, "method": "initialize", "params": params}, {})
        self.headers = {
            "mcp-session-id": opening.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-06-18",
        }

    def _post(self, daemon: Daemon, message: Any, headers: Any) -> httpx.Response:
        body = {"jsonrpc": "2.0", **message}
        return httpx.post(f"{daemon.url}/mcp", json=body, headers={**HEADERS, **headers}, timeout=WAIT_S)

    def send(self, daemon: Daemon, **message: Any) -> httpx.Response:
        return self._post(daemon, message, self.headers)

    def stream(self, daemon: Daemon, method: str, **options: Any) -> Any:
        headers = {**HEADERS, **self.headers}
        return httpx.stream(method, f"{daemon.url}/mcp", headers=headers, timeout=WAIT_S, **options)


async def test_an_mcp_session_is_served_by_either_daemon(pair: Pair) -> None:
    turn = 0

    def in_turn(_message: Any) -> Daemon:
        nonlocal turn
        turn += 1
        return pair[turn % 2]

    async with connected(in_turn) as client:
        for number in range(6):
            assert "twice" in {tool.name for tool in (await client.list_tools()).tools}
            answer = await client.call_tool("twice", {"message": f"word {number}"})
            assert not answer.is_error, answer


async def test_an_elicitation_of_an_mcp_call_is_answered_through_the_other_daemon(pair: Pair) -> None:
    messages = []

    async def accept(_context: Any, params: Any) -> types.ElicitResult:
        messages.append(params.message)
        return types.ElicitResult(action="accept", content={"note": "gladly"})

    def choose(message: Any) -> Daemon:
        return pair[1] if message is not None and "method" not in message else pair[0]

    async with connected(choose, elicitation_callback=accept) as client:
        answer = await client.call_tool("careful", {"message": "x"})
    assert not answer.is_error and len(messages) == 1 and "Sell it?" in messages[0]


def test_a_cancel_at_one_ends_the_call_at_the_other(pair: Pair) -> None:
    wire = Wire(pair[0])
    arguments = {"name": "careful", "arguments": {"message": "x"}}
    with wire.stream(
        pair[0], "POST", json={"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": arguments}
    ) as stream:
        until(
            lambda: any(
                question["name"] == "sure"
                for question in answered(pair[1], "GET", "/api/questions?status=pending")["data"]
            ),
            "it waits",
        )
        response = wire.send(pair[1], method="notifications/cancelled", params={"requestId": 7})
        assert response.status_code == 202
        messages = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
    assert messages[-1]["id"] == 7 and "cancelled" in messages[-1]["error"]["message"]
    until(
        lambda: not answered(pair[1], "GET", "/api/questions?status=pending")["data"],
        "nothing is asked any more",
    )


def test_resource_subscriptions_at_one_daemon_report_changes_made_at_the_other(pair: Pair) -> None:
    def upload(content: bytes) -> Any:
        files = {"files": {"file": ("port.md", content)}, "data": {"purpose": "user_data"}}
        return answered(pair[0], "POST", "/v1/files", **files)["id"]

    [store] = answered(pair[0], "GET", "/v1/vector_stores")["data"]
    at = f"/v1/vector_stores/{store['id']}/files"
    file = upload(b"The lighthouse listens on port 7419.")
    answered(pair[0], "POST", at, json={"file_id": file})
    until(lambda: answered(pair[0], "GET", f"{at}/{file}")["status"] == "completed", "it is read")
    wire = Wire(pair[0])
    listing = wire.send(pair[1], id=1, method="resources/list").text
    [_themes, resource] = next(
        json.loads(line[5:]) for line in listing.splitlines() if line.startswith("data:")
    )["result"]["resources"]
    subscription = {"id": 2, "method": "resources/subscribe", "params": {"uri": resource["uri"]}}
    assert '"result"' in wire.send(pair[1], **subscription).text
    with wire.stream(pair[0], "GET") as stream:
        assert call(pair[0], "DELETE", f"{at}/{file}").is_success
        assert any("resources/updated" in line and resource["uri"] in line for line in stream.iter_lines())


def test_a_session_ends_at_all_daemons_and_answers_only_to_its_key(pair: Pair) -> None:
    wire = Wire(pair[0])
    ask = {"id": 1, "method": "tools/list"}
    key = answered(pair[0], "POST", "/api/keys", json={"name": "other", "scopes": ["chat"]})["key"]
    until(lambda: call(pair[1], "GET", "/api/whoami", key).is_success, "the key is known at B")
    foreign = {**HEADERS, **wire.headers, "authorization": f"Bearer {key}"}
    body = {"jsonrpc": "2.0", **ask}
    assert httpx.post(f"{pair[1].url}/mcp", json=body, headers=foreign, timeout=WAIT_S).status_code == 404
    assert [wire.send(daemon, **ask).status_code for daemon in pair] == [200, 200]
    assert httpx.post(f"{pair[1].url}/mcp", json=body, headers=foreign, timeout=WAIT_S).status_code == 404
    response = httpx.delete(f"{pair[1].url}/mcp", headers=wire.headers, timeout=WAIT_S)
    assert response.status_code == 200
    assert wire.send(pair[1], **ask).status_code == 404
    until(lambda: wire.send(pair[0], **ask).status_code == 404, "it has ended at A")
