"""A server over HTTP that restarts or loses its sessions, and servers that refuse requests or end at their start."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.server.features.mcp_servers.test_host import Case, opened
from tests.server.features.mcp_servers.test_odd_servers import listening
from tests.server.features.mcp_servers.test_tool_names import scripted

from portico_server.features.mcp_servers import connection
from portico_server.features.mcp_servers.spec import parse

TOOLS: Final = {"tools": [{"name": name} for name in ("echo", "forget", "runs", "expire")]}


def rpc(code: int, message: str, request_id: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


@pytest.mark.parametrize(
    "response",
    [
        {"status": 404},
        {"status": 404, "body": "404 page not found"},
        {"status": 404, "body": rpc(-32001, "Session not found")},  # python-sdk 1676, claude-code 62008
        {"status": 404, "body": rpc(-32600, "Session not found", "server-error")},
        {"status": 404, "body": {"error": {"code": -32001, "message": "Session not found"}}},
        {"status": 400, "body": rpc(-32000, "Bad Request: No valid session ID provided")},
        {"status": 400, "body": rpc(-32000, "Bad Request: Server not initialized")},
        {"status": 400, "body": "Invalid session ID"},
        {"status": 400, "body": {"message": "Session ID missing"}},
        {"status": 401, "body": "Unauthorized: Session not found"},  # rust-sdk 559
        {"status": 410, "body": "Session expired"},
    ],
)
async def test_a_lost_session_is_made_again_and_its_call_runs_once(
    case: Case, response: dict[str, Any]
) -> None:
    async with listening(case.folder, {"list": TOOLS, "lost": response}, "json") as spec:
        await case.host.add(spec, None)
        await case.use("odd_forget")
        assert (await case.use("odd_echo", a=1)).text == 'echo {"a": 1}'
        assert (await case.use("odd_runs")).text == "2"
        server = case.host.get("odd")
        assert (server.state, server.error, server.restarts) == ("ready", None, 1)
        await case.host.remove("odd")


async def test_calls_at_the_same_time_share_the_new_session_and_each_runs_once(case: Case) -> None:
    async with listening(case.folder, {"list": TOOLS}, "sse") as spec:
        await case.host.add(spec, None)
        await case.use("odd_forget")
        results = await asyncio.gather(*(case.use("odd_echo", a=number) for number in range(20)))
        assert [result.text for result in results] == [f'echo {{"a": {number}}}' for number in range(20)]
        assert (await case.use("odd_runs")).text == "21"
        await case.host.remove("odd")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, rpc(-32602, "Missing argument city"), "Missing argument city"),
        (404, rpc(-32601, "No such method"), "No such method"),
        (403, {"detail": "Not your calendar"}, "The server answered 403 Forbidden: Not your calendar"),
        (
            500,
            "Session store failed: session not found",
            "The server answered 500 Internal Server Error: Session",
        ),
        (502, "<html>Bad gateway</html>", "The server answered 502 Bad Gateway."),
        (429, rpc(-32001, "Slow down"), "Slow down"),
    ],
)
async def test_another_http_error_of_a_call_shows_its_sentence_and_keeps_the_session(
    case: Case, status: int, body: Any, reason: str
) -> None:
    script = {"list": TOOLS, "lost": {"status": status, "body": body}}
    async with listening(case.folder, script, "json") as spec:
        await case.host.add(spec, None)
        await case.use("odd_forget")
        answer = await case.use("odd_echo")
        assert answer.is_error and answer.text.startswith(f"The MCP server 'odd' refused the call: {reason}")
        assert (case.host.get("odd").state, case.host.get("odd").restarts) == ("ready", 0)


async def test_a_server_without_lasting_sessions_is_waiting_and_says_why(case: Case) -> None:
    async with listening(case.folder, {"list": TOOLS, "forgets": True}, "json") as spec:
        info = await case.host.add(spec, None)
        assert (info.state, info.error) == ("waiting", "The server has ended the session.")


REFUSALS: Final = [
    (
        {"status": 401, "headers": {"WWW-Authenticate": 'Bearer error_description="The token expired"'}},
        "The server answered 401 Unauthorized: The token expired",
    ),
    (
        {"status": 401, "body": {"error": "invalid_token", "error_description": "The token expired"}},
        "The server answered 401 Unauthorized: The token expired",
    ),
    ({"status": 401, "body": rpc(-32001, "No token")}, "The server answered 401 Unauthorized: No token"),
    ({"status": 401}, "The server answered 401 Unauthorized."),
    (
        {"status": 405, "body": "Method Not Allowed"},
        "The server answered 405 Method Not Allowed: Method Not Allowed",
    ),
    ({"status": 503, "body": {"title": "Down"}}, "The server answered 503 Service Unavailable: Down"),
]


@pytest.mark.parametrize(("refusal", "error"), REFUSALS)
async def test_a_server_that_refuses_at_its_start_shows_its_sentence(
    case: Case, refusal: dict[str, Any], error: str
) -> None:
    async with listening(case.folder, {"refusal": refusal}, "json") as spec:
        info = await case.host.add(spec, None)
        assert (info.state, info.error) == ("waiting", error)


async def test_a_server_whose_key_expires_shows_its_sentence_in_the_call_and_in_its_state(case: Case) -> None:
    refusal, error = REFUSALS[0]
    async with listening(case.folder, {"list": TOOLS, "expired": refusal}, "json") as spec:
        await case.host.add(spec, None)
        await case.use("odd_expire")
        answer = await case.use("odd_echo")
        assert answer.text == f"The MCP server 'odd' refused the call: {error}"
        assert case.host.get("odd").error == error


async def test_a_call_reaches_a_server_that_is_started_again_without_waiting_for_the_next_attempt(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_FIRST_RETRY_S", 3600)
    async with listening(case.folder, {"list": TOOLS}, "json") as spec:
        await case.host.add(spec, None)
    monkeypatch.setattr(connection, "RESTART_WAIT_SECONDS", 0.5)
    assert (await case.use("odd_echo")).is_error
    monkeypatch.undo()
    script = {"list": TOOLS, "port": re.findall(r":(\d+)", spec.url)[0]}
    async with listening(case.folder, script, "json"):
        assert (await case.use("odd_echo")).text == "echo {}"
        assert (case.host.get("odd").state, case.host.get("odd").error) == ("ready", None)
        await case.host.remove("odd")


async def test_a_server_that_is_down_says_so_in_the_call_and_in_its_state(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RESTART_WAIT_SECONDS", 0.5)
    async with listening(case.folder, {"list": TOOLS}, "json") as spec:
        await case.host.add(spec, None)
    answer = await case.use("odd_echo")
    assert answer.is_error and "is not running: The server cannot be reached: " in answer.text
    server = case.host.get("odd")
    assert server.state in ("starting", "waiting")
    assert str(server.error).startswith("The server cannot be reached:")


async def test_a_server_that_ends_at_its_start_shows_its_last_lines(case: Case) -> None:
    stderr = ["Traceback (most recent call last):", "", "ModuleNotFoundError: No module named 'acme_sdk'"]
    spec = scripted(case.folder, {"stderr": stderr, "exit": 1})
    info = await case.host.add(spec, None)
    error = f"It ended at its start. It last wrote:\n{stderr[0]}\n{stderr[2]}"
    assert (info.state, info.error) == ("waiting", error)
    await case.host.remove("odd")
    lines = [f"line {number} of s3cret" for number in range(30)]
    spec = scripted(case.folder, {"stderr": lines, "exit": 1}, env={"ACME_TOKEN": "s3cret"})
    error = str((await case.host.add(spec, None)).error)
    assert error.count("\n") == connection.MAX_LAST_LINES and "line 29 of" in error
    assert "line 19" not in error and "s3cret" not in error
    await case.host.remove("odd")
    info = await case.host.add(parse({"name": "odd", "command": [sys.executable, "-c", ""]}), None)
    assert info.error == "It ended at its start."
