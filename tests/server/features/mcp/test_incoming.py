"""Endpoints that expose a single thing, completion of names, and files that tools have created."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.mcp_service import MADE, Service, serving
from tests.registry_fixture import FixedModel, FixedStore, ScriptedServable, passage

from portico_server.core.context import Context
from portico_server.core.errors import NotFound
from portico_server.core.request import Request, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp.incoming import key_of

FILES = {"docs": {"guide.md": b"# Ports", "gate.md": b"x"}, "notes": {"n.md": b"n"}}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async def draw(_request: Request, _context: Context) -> ToolResult:
        return ToolResult("Drawn.", artifacts=tuple(artifact for artifact, _data in MADE))

    async with serving(tmp_path, FILES) as running:
        running.daemon.add(
            FixedStore("docs", [passage(1, "The daemon listens on port 7419.")]),
            FixedStore("notes", app=False),
            FixedModel("Port 7419 [1]."),
            ScriptedServable(Card("draw", "tool"), draw),
        )
        yield running


@pytest.fixture(params=["legacy", "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


def client(service: Service, mode: str, below: str = "") -> Client:
    return Client(service.url + below, mode=mode)


async def tools(connected: Client) -> set[str]:
    return {tool.name for tool in (await connected.list_tools()).tools}


async def test_a_store_endpoint_offers_only_its_search_and_files(
    service: Service, mode: Literal["legacy", "auto"]
) -> None:
    async with client(service, mode, "/stores/docs") as connected:
        assert await tools(connected) == {"fetch", "search", "search_docs"}
        result = await connected.call_tool("search_docs", {"query": "port"})
        assert result.structured_content["passages"][0]["filename"] == "guide.md"
        names = [resource.name for resource in (await connected.list_resources()).resources]
        assert names == ["themes", "guide.md", "gate.md"]
        assert (await connected.read_resource("portico://stores/docs/files/guide.md")).contents
        with pytest.raises(MCPError, match="not visible at"):
            await connected.read_resource("portico://stores/notes/files/n.md")
        for hidden in ("docs", "search_notes", "current_time"):
            with pytest.raises(MCPError, match=f"The tool '{hidden}' does not exist"):
                await connected.call_tool(hidden, {})


async def test_an_app_endpoint_offers_only_its_tool_and_store_files(
    service: Service, mode: Literal["legacy", "auto"]
) -> None:
    async with client(service, mode, "/apps/docs") as connected:
        assert await tools(connected) == {"docs"}
        answer = await connected.call_tool("docs", {"question": "Which port?"})
        assert answer.structured_content["answer"] == "Port 7419 [1]."
        names = {resource.name for resource in (await connected.list_resources()).resources}
        assert names == {"themes", *FILES["docs"]}


@pytest.mark.parametrize(
    ("below", "status"),
    [
        ("/stores/nothing", 404),
        ("/apps/notes", 404),
        ("/tools/draw", 404),
        ("/stores/", 404),
        ("/stores/docs/x", 404),
    ],
)
async def test_an_unknown_endpoint_is_a_404_with_a_message(service: Service, below: str, status: int) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(service.url + below, json={})
    assert answer.status_code == status and answer.json()["error"]["message"]


async def test_a_key_reaches_only_endpoints_of_its_scopes(service: Service) -> None:
    async with httpx2.AsyncClient(headers={"authorization": "Bearer reader"}) as http:
        transport = streamable_http_client(f"{service.url}/stores/docs", http_client=http)
        async with Client(transport) as connected:
            assert await tools(connected) == {"fetch", "search", "search_docs"}
    async with httpx.AsyncClient(headers={"authorization": "Bearer reader"}) as plain:
        assert (await plain.post(f"{service.url}/stores/notes", json={})).status_code == 403


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/mcp", None),
        ("/mcp/", None),
        ("/mcp/stores/docs", "store/docs"),
        ("/mcp/stores/docs/", "store/docs"),
        ("/mcp/apps/a%20b", "a b"),
        ("/mcp/apps/%E6%96%87%E6%A1%A3", "文档"),
    ],
)
def test_an_endpoint_path_is_mapped_to_its_registry_key(path: str, key: str | None) -> None:
    assert key_of(path) == key


def test_unknown_endpoint_paths_are_refused() -> None:
    for path in ("/mcp/x", "/mcp/stores", "/mcp/apps/a/b", "/mcp/models/echo"):
        with pytest.raises(NotFound, match="endpoint"):
            key_of(path)


async def complete(connected: Client, argument: str, typed: str, **known: str) -> list[str]:
    template = types.ResourceTemplateReference(
        type="ref/resource", uri="portico://stores/{store}/files/{file}"
    )
    context: dict[str, Any] = {"context_arguments": known} if known else {}
    result = await connected.complete(template, {"name": argument, "value": typed}, **context)
    return result.completion.values


async def test_names_are_completed(service: Service, mode: Literal["legacy", "auto"]) -> None:
    async with client(service, mode) as connected:
        assert await complete(connected, "store", "") == ["docs", "notes"]
        assert await complete(connected, "store", "O") == ["docs", "notes"]
        assert await complete(connected, "store", "n") == ["notes"]
        assert await complete(connected, "file", "g", store="docs") == ["gate.md", "guide.md"]
        assert await complete(connected, "file", "uid", store="docs") == ["guide.md"]
        assert await complete(connected, "file", "", store="nothing") == []
        assert await complete(connected, "other", "") == []
    async with client(service, mode, "/stores/docs") as connected:
        assert await complete(connected, "store", "") == ["docs"]


async def test_pictures_come_along_and_other_files_are_links(
    service: Service, mode: Literal["legacy", "auto"]
) -> None:
    async with client(service, mode) as connected:
        text, picture, link = (await connected.call_tool("draw", {})).content
        assert isinstance(text, types.TextContent) and text.text == "Drawn."
        assert isinstance(picture, types.ImageContent) and picture.mime_type == "image/png"
        assert isinstance(link, types.ResourceLink) and link.name == "table.csv"
        read = (await connected.read_resource(link.uri)).contents[0]
        assert isinstance(read, types.TextResourceContents) and read.text == "a,b\n"
        with pytest.raises(MCPError, match="no artifact"):
            await connected.read_resource("portico://artifacts/art_9")
