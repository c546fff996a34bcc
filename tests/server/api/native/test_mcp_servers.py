"""Servers of other people over the native API, and their tools on every face."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from tests.api_server import ApiServer, api_server

STRANGER = str(Path(__file__).parents[2] / "tools" / "mcp" / "stranger.py")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as opened:
        yield opened


def wish(**more: Any) -> dict[str, Any]:
    return {"name": "odd", "command": [sys.executable, STRANGER], **more}


async def test_a_server_is_added_used_everywhere_and_removed(gateway: ApiServer) -> None:
    made = (
        await gateway.client.post(
            "/api/mcp/servers", json=wish(env={"GIVEN_TOKEN": "s3cret"}, sampling={"model": "default"})
        )
    ).json()
    assert (made["state"], made["error"], made["configured"]) == ("ready", None, False)
    assert "odd_echo" in made["tools"]
    listed = await gateway.client.get("/api/mcp/servers")
    assert listed.json() == {"data": [made]} and "s3cret" not in listed.text

    natively = await gateway.client.post("/api/tools/odd_echo/call", json={"arguments": {"text": "hi"}})
    assert natively.json()["text"] == "hi"
    async with Client(f"{gateway.url}/mcp") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["odd_echo"].annotations.read_only_hint and tools["odd_fail"].annotations.destructive_hint
        assert (await client.call_tool("odd_sum", {})).structured_content == {"sum": 3}
        assert (await client.call_tool("odd_fail", {})).is_error

    wrong = await gateway.client.post("/api/tools/odd_echo/call", json={"arguments": {"text": 7}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "arguments.text")
    assert (await gateway.client.post("/api/mcp/servers", json=wish())).status_code == 409
    assert (await gateway.client.delete("/api/mcp/servers/odd")).json() == {"name": "odd", "deleted": True}
    assert (await gateway.client.get("/api/mcp/servers/odd")).json()["error"][
        "code"
    ] == "mcp_server_not_found"
    assert (await gateway.client.post("/api/tools/odd_echo/call", json={})).status_code == 404


async def test_it_is_restarted_and_its_log_is_read(gateway: ApiServer) -> None:
    await gateway.client.post("/api/mcp/servers", json=wish())
    assert (await gateway.client.post("/api/mcp/servers/odd/restart")).status_code == 200
    await gateway.client.post("/api/tools/odd_die/call", json={})
    assert (await gateway.client.get("/api/mcp/servers/odd/logs")).json() == {"data": ["about to die"]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": "a b"}, "server.name"),
        ({"sampling": {"model": "default", "calls": 0}}, "sampling.calls"),
        ({"command": []}, "server.command"),
        ({"timeout": -1}, "server.timeout"),
        ({"comand": ["x"]}, "comand"),
    ],
)
async def test_a_wrong_wish_names_its_field(gateway: ApiServer, change: dict[str, Any], param: str) -> None:
    refused = await gateway.client.post("/api/mcp/servers", json=wish(**change))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert (await gateway.client.get("/api/mcp/servers")).json() == {"data": []}


async def test_it_is_the_operator_s_business_alone(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True, api_key="pk-admin") as gateway:
        admin = {"authorization": "Bearer pk-admin"}
        made = await gateway.client.post(
            "/api/keys", json={"name": "n", "scopes": ["tools:*:call"]}, headers=admin
        )
        key = {"authorization": f"Bearer {made.json()['key']}"}
        for method, path in [("GET", ""), ("POST", ""), ("DELETE", "/odd"), ("POST", "/odd/restart")]:
            body = wish() if path == "" and method == "POST" else None
            answer = await gateway.client.request(method, f"/api/mcp/servers{path}", json=body, headers=key)
            assert answer.status_code == 403
