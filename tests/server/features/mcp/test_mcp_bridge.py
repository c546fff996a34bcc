"""`portico mcp`: MCP over standard input and output, forwarded to the daemon."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from tests.mcp_service import Service, serving
from tests.registry_fixture import FixedModel, FixedStore, ScriptedServable, passage

from portico._mcp_bridge import Bridge
from portico._mcp_message import header_value, parse, refusal_line
from portico._transport import Address
from portico_server.core.context import Context
from portico_server.core.request import ChatReply, Request
from portico_server.core.servable import Card

PROGRAM = "import sys; from portico.cli import main; sys.exit(main())"
FILES = {"docs": {"高 山.md": "高山".encode()}}

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST = {"jsonrpc": "2.0", "id": "list", "method": "tools/list"}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, FILES) as running:
        running.daemon.add(
            FixedStore("docs", [passage(1, "The daemon listens on port 7419.")]), FixedModel("7419 [1].")
        )
        yield running


def command(url: str, *more: str) -> list[str]:
    return ["-c", PROGRAM, "--url", url.removesuffix("/mcp"), *more, "mcp"]


@pytest.fixture
def unused_url() -> Iterator[str]:
    """The URL of a port on which nothing listens, and which no other program can use meanwhile."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


async def piped(url: str, *lines: bytes) -> tuple[int, list[Any], bytes]:
    """Run the command with these lines as its whole input, and return exit code, messages and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command(url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(b"\n".join(lines) + b"\n")
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


class Talk:
    """A bridge in this process, driven message by message."""

    def __init__(self, url: str) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self._bridge = Bridge(Address.of(url.removesuffix("/mcp")), self._hear)

    def _hear(self, line: bytes) -> None:
        self._heard.put_nowait(json.loads(line))

    async def _all(self) -> AsyncIterator[bytes]:
        while (line := await self._lines.get()) is not None:
            yield line

    def say(self, message: Any) -> None:
        self._lines.put_nowait(json.dumps(message).encode())

    async def hear(self) -> Any:
        async with asyncio.timeout(60):
            return await self._heard.get()

    async def ask(self, message: Any) -> Any:
        self.say(message)
        while (reply := await self.hear()).get("id") != message["id"]:
            assert "method" in reply
        return reply

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Talk]:
        running = asyncio.create_task(self._bridge.run(self._all()))
        try:
            yield self
        finally:
            self._lines.put_nowait(None)
            async with asyncio.timeout(60):
                await running


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_works_through_the_bridge_with_and_without_sessions(
    service: Service, mode: Any
) -> None:
    messages: list[str | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        messages.append(message)

    program = StdioServerParameters(command=sys.executable, args=command(service.url))
    async with asyncio.timeout(60), Client(program, mode=mode) as client:
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        assert {"docs", "search_docs"} < {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("docs", {"question": "Which port?"}, progress_callback=note)
        assert answer.structured_content["answer"] == "7419 [1]."
        _themes, resource = (await client.list_resources()).resources
        content = (await client.read_resource(resource.uri)).contents[0]
        assert isinstance(content, types.TextResourceContents) and content.text == "高山"
    assert messages[0] == "Found 1 passages in guide.md"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_cancelled_call_is_cancelled_in_the_daemon(service: Service, mode: Any) -> None:
    start_event, end_event = asyncio.Event(), asyncio.Event()

    async def hang(_request: Request, _context: Context) -> ChatReply:
        start_event.set()
        try:
            await asyncio.Event().wait()
        finally:
            end_event.set()
        raise AssertionError

    service.daemon.add(ScriptedServable(Card("slow", "app", capabilities=frozenset({"chat"})), hang))
    program = StdioServerParameters(command=sys.executable, args=command(service.url))
    async with asyncio.timeout(60), Client(program, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("slow", {"question": "x"}))
        await start_event.wait()
        call.cancel()
        await end_event.wait()
        assert not (await client.call_tool("current_time", {})).is_error


async def test_the_end_of_input_is_a_clean_end(service: Service) -> None:
    lines = [json.dumps(message).encode() for message in (INITIALIZE, INITIALIZED, LIST)]
    code, messages, err = await piped(service.url, *lines)
    assert (code, err) == (0, b"")
    assert [message["id"] for message in messages] == [0, "list"]
    assert messages[1]["result"]["tools"]


async def test_without_a_daemon_each_request_says_how_to_start_one(unused_url: str) -> None:
    lines = [json.dumps(message).encode() for message in (INITIALIZE, INITIALIZED, LIST)]
    code, messages, err = await piped(unused_url, *lines)
    assert (code, err) == (0, b"")
    assert [message["id"] for message in messages] == [0, "list"]
    for message in messages:
        assert message["error"]["message"].startswith(
            f"No Portico daemon responds at {unused_url}. Start it with 'por"
        )


async def test_invalid_lines_get_errors_and_later_messages_are_answered(service: Service) -> None:
    lines = (b"{", b"", b"[]", b"[" * 100_000, b"\xff", json.dumps(INITIALIZE).encode())
    code, messages, _err = await piped(service.url, *lines)
    assert code == 0
    assert [message.get("error", {}).get("code") for message in messages] == [
        -32700,
        -32600,
        -32700,
        -32700,
        None,
    ]
    assert messages[-1]["result"]["serverInfo"]["name"] == "portico"


async def test_a_daemon_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    async with serving(tmp_path, {}) as first:
        talk = Talk(first.url)
        port = httpx.URL(first.url).port
        running = talk.open()
        await running.__aenter__()
        await talk.ask(INITIALIZE)
        talk.say(INITIALIZED)
        await talk.ask(LIST)
    assert "No Portico daemon" in (await talk.ask({**LIST, "id": 2}))["error"]["message"]
    async with serving(tmp_path, {}, port=port or 0):
        assert (await talk.ask({**LIST, "id": 3}))["result"]["tools"]
        await running.__aexit__(None, None, None)


async def test_notifications_of_the_daemon_are_passed_through_the_bridge(service: Service) -> None:
    async with Talk(service.url).open() as talk:
        await talk.ask(INITIALIZE)
        talk.say(INITIALIZED)
        notification: dict[str, Any] = {}
        while notification.get("method") != "notifications/tools/list_changed":
            # Messages sent before the standing stream opens are lost, so the message is repeated.
            service.daemon.registry.announce("app")
            talk.say({**LIST, "id": 7})
            notification = await talk.hear()


async def test_a_request_id_that_is_in_use_is_refused(service: Service) -> None:
    start_event, go = asyncio.Event(), asyncio.Event()

    async def wait(_request: Request, _context: Context) -> ChatReply:
        start_event.set()
        await go.wait()
        return ChatReply("done")

    service.daemon.add(ScriptedServable(Card("slow", "app", capabilities=frozenset({"chat"})), wait))
    call = {"name": "slow", "arguments": {"question": "x"}}
    async with Talk(service.url).open() as talk:
        await talk.ask(INITIALIZE)
        talk.say({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call})
        await start_event.wait()
        reply = await talk.ask({**LIST, "id": 5})
        assert "still running" in reply["error"]["message"]
        go.set()
        assert (await talk.hear())["result"]["structuredContent"]["answer"] == "done"


def test_http_errors_become_rpc_errors_with_their_message() -> None:
    body = b'{"error": {"message": "This key is not known here.", "code": "invalid_api_key"}}'
    assert json.loads(refusal_line(1, 401, {}, body))["error"]["message"] == "This key is not known here."
    assert "HTTP 502" in json.loads(refusal_line(1, 502, {}, b"<html>"))["error"]["message"]
    rpc = b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32022, "message": "x"}}'
    assert json.loads(refusal_line(1, 400, {}, rpc)) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32022, "message": "x"},
    }


def test_names_travel_in_headers() -> None:
    message = parse(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xe9\xab\x98",'
        b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}'
    )
    headers = message.headers("ignored", "ignored")
    assert headers["mcp-name"] == "=?base64?6auY?=" and "mcp-session-id" not in headers
    assert header_value("plain name") == "plain name" and header_value(" x") == "=?base64?IHg=?="
