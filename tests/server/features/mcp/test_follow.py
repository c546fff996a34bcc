"""Log messages: as many as a session asks for; in the later era, as many as each request asks for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from tests.mcp_service import Service
from tests.registry_fixture import ScriptedServable

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.request import Request, ToolResult
from portico_server.core.servable import Card

BOTH = "application/json, text/event-stream"


@pytest.fixture
def busy(service: Service) -> Service:
    async def work(_request: Request, context: Context) -> ToolResult:
        await context.emit(Progressed("working", message="Half way"))
        return ToolResult("Done.")

    service.daemon.add(ScriptedServable(Card("work", "tool"), work))
    return service


def messages(body: bytes) -> list[dict[str, Any]]:
    """Return the parameters of the log messages in an event stream."""
    lines = [line[5:] for line in body.decode().splitlines() if line.startswith("data:")]
    items = [json.loads(line) for line in lines if line.strip()]
    return [item["params"] for item in items if item.get("method") == "notifications/message"]


async def test_a_session_receives_log_messages_at_its_chosen_level(busy: Service) -> None:
    async with asyncio.timeout(60), httpx.AsyncClient(headers={"accept": BOTH}, timeout=60) as http:

        async def post(method: str, **params: Any) -> httpx.Response:
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return await http.post(busy.url, json=message)

        client = {"name": "test", "version": "1"}
        response = await post("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        assert '"logging":{}' in response.text
        http.headers["mcp-session-id"] = response.headers["mcp-session-id"]
        await http.post(busy.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})

        assert messages((await post("tools/call", name="work")).content) == []
        await post("logging/setLevel", level="info")
        (log_message,) = messages((await post("tools/call", name="work")).content)
        assert (log_message["level"], log_message["logger"], log_message["data"]["message"]) == (
            "info",
            "portico",
            "Half way",
        )
        assert log_message["data"]["run"].startswith("run_")
        await post("logging/setLevel", level="error")
        assert messages((await post("tools/call", name="work")).content) == []
        error_response = await post("logging/setLevel", level="loud")
        assert "-32602" in error_response.text


@pytest.mark.parametrize(("level", "count"), [("debug", 1), ("info", 1), ("warning", 0), (None, 0)])
async def test_a_request_receives_log_messages_at_its_chosen_level(
    busy: Service, level: str | None, count: int
) -> None:
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    if level is not None:
        meta["io.modelcontextprotocol/logLevel"] = level
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "work", "arguments": {}, "_meta": meta},
    }
    headers = {
        "accept": BOTH,
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "work",
    }
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(busy.url, json=message, headers=headers)
    assert len(messages(answer.content)) == count and "Done." in answer.text
