"""Third-party servers over the native API, and their tools on every protocol adapter."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from tests.api_server import ApiServer, api_server

from portico_server.features.mcp_servers import connection

STRANGER = str(Path(__file__).parents[2] / "features" / "mcp_servers" / "stranger.py")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


def wish(**more: Any) -> dict[str, Any]:
    return {"name": "odd", "command": [sys.executable, STRANGER], **more}


async def test_a_server_is_added_used_everywhere_and_removed(gateway: ApiServer) -> None:
    server = (
        await gateway.client.post(
            "/api/mcp/servers", json=wish(env={"GIVEN_TOKEN": "s3cret"}, sampling={"model": "default"})
        )
    ).json()
    assert (server["state"], server["error"], server["configured"]) == ("ready", None, False)
    assert "odd_echo" in server["tools"]
    response = await gateway.client.get("/api/mcp/servers")
    assert response.json() == {"data": [server]} and "s3cret" not in response.text

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


async def test_resources_of_an_mcp_server_are_listed_and_read(gateway: ApiServer) -> None:
    await gateway.client.post("/api/mcp/servers", json=wish())
    path = "/api/mcp/servers/odd/resources"
    resources = (await gateway.client.get(path)).json()["data"]
    assert [resource["uri"] for resource in resources][:2] == ["note://lease", "note://pixel"]
    assert (resources[-1]["uri"], resources[-1]["template"]) == ("note://day/{date}", True)

    async def read(uri: str) -> Any:
        return await gateway.client.post(f"{path}/read", json={"uri": uri})

    [lease] = (await read("note://lease")).json()["data"]
    assert (lease["mime_type"], lease["data"]) == ("text/html", None) and "840 euros" in lease["text"]
    [pixel] = (await read("note://pixel")).json()["data"]
    assert (pixel["mime_type"], pixel["text"]) == ("image/png", None) and pixel["data"].startswith("iVBOR")
    assert (await read("note://day/2026-01-02")).json()["data"][0]["text"] == "Day 2026-01-02"
    response = await read("note://nothing")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "mcp_server_refused")
    assert "There is no such note." in response.json()["error"]["message"]
    large = await read("note://huge")
    assert (large.status_code, large.json()["error"]["code"]) == (413, "mcp_content_too_large")
    unknown = await gateway.client.post(f"{path}/read", json={"url": "note://lease"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "url")


async def test_prompts_of_an_mcp_server_are_listed_and_rendered(gateway: ApiServer) -> None:
    await gateway.client.post("/api/mcp/servers", json=wish())
    path = "/api/mcp/servers/odd/prompts"
    letter, talk = (await gateway.client.get(path)).json()["data"]
    assert [(argument["name"], argument["required"]) for argument in letter["arguments"]] == [
        ("who", True),
        ("tone", False),
    ]
    assert talk["arguments"] == []
    filled = await gateway.client.post(f"{path}/render", json={"name": "letter", "arguments": {"who": "Ada"}})
    assert filled.json()["data"] == [
        {"role": "user", "text": "Write to Ada, kindly.", "mime_type": "text/plain", "data": None}
    ]
    message, picture = (await gateway.client.post(f"{path}/render", json={"name": "talk"})).json()["data"]
    assert (message["role"], message["text"]) == ("assistant", "Hello.")
    assert picture["mime_type"] == "image/png" and picture["data"].startswith("iVBOR")
    wrong = await gateway.client.post(f"{path}/render", json={"name": "letter", "arguments": {"who": 7}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "arguments.who")


async def test_a_server_without_resources_lists_none_and_a_failed_server_reports_its_error(
    gateway: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.client.post("/api/mcp/servers", json=wish(command=[sys.executable, STRANGER, "bare"]))
    for kind in ("resources", "prompts"):
        assert (await gateway.client.get(f"/api/mcp/servers/odd/{kind}")).json() == {"data": []}
    monkeypatch.setattr(connection, "RESTART_WAIT_SECONDS", 0.0)
    await gateway.client.post("/api/mcp/servers", json={"name": "gone", "command": ["no-such-program"]})
    response = await gateway.client.get("/api/mcp/servers/gone/resources")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "mcp_server_failed")
    assert "no-such-program" in response.json()["error"]["message"]


async def test_an_mcp_server_is_restarted_and_its_log_is_read(gateway: ApiServer) -> None:
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
async def test_an_invalid_server_definition_is_refused_naming_the_field(
    gateway: ApiServer, change: dict[str, Any], param: str
) -> None:
    response = await gateway.client.post("/api/mcp/servers", json=wish(**change))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert (await gateway.client.get("/api/mcp/servers")).json() == {"data": []}


async def test_only_admins_may_list_and_manage_mcp_servers(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True, api_key="pk-admin") as gateway:
        admin = {"authorization": "Bearer pk-admin"}
        key_response = await gateway.client.post(
            "/api/keys", json={"name": "n", "scopes": ["tools:*:call"]}, headers=admin
        )
        key = {"authorization": f"Bearer {key_response.json()['key']}"}
        for method, path in [("GET", ""), ("POST", ""), ("DELETE", "/odd"), ("POST", "/odd/restart")]:
            body = wish() if path == "" and method == "POST" else None
            answer = await gateway.client.request(method, f"/api/mcp/servers{path}", json=body, headers=key)
            assert answer.status_code == 403
