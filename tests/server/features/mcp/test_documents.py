"""``search`` and ``fetch`` as research assistants use them, over a daemon with real files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer, secret
from tests.server.features.mcp.conftest import Connect

from portico_server.features.mcp.adapter import INSTRUCTIONS

KEYS = [
    {"name": "boss", "key": secret("boss"), "scopes": ["admin"]},
    {"name": "baker", "key": secret("baker"), "scopes": ["stores:bakery:read"]},
    {"name": "guest", "key": secret("guest"), "scopes": ["chat"]},
]
Open = Callable[..., AbstractAsyncContextManager[Client]]
"""Opens a client for a key by name, at an address below ``/mcp``."""

STORES = {
    "bakery": ("bread.txt", "Bread is baked at 230 degrees."),
    "office": ("port.md", "The port is 7419."),
}


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that requires keys, with two stores of one file each."""
    home = tmp_path_factory.mktemp("documents")
    folders = {name: home / name for name in STORES}
    for name, (file, text) in STORES.items():
        folders[name].mkdir()
        (folders[name] / file).write_text(text, encoding="utf-8")
    stores = [
        {"name": name, "folder": str(folder), "embedding_model": ""} for name, folder in folders.items()
    ]
    (home / "two.yaml").write_text(json.dumps({"keys": KEYS, "stores": stores}), encoding="utf-8")
    arguments = ("--file", str(home / "two.yaml"))
    with daemons.running(home / "data", *arguments, env={"PORTICO_REQUIRE_KEY": "true"}) as running:
        with httpx2.Client(base_url=running.url, headers=bearer("boss"), timeout=60) as http:
            for run in http.get("/api/status").json()["startup"]:
                http.get(f"/api/runs/{run}/events")
        yield running


@pytest.fixture
def open_client(two_stores: Daemon) -> Open:
    @asynccontextmanager
    async def opened(key: str, below: str = "") -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(headers=bearer(key), timeout=60) as http:
            transport = streamable_http_client(f"{two_stores.url}/mcp{below}", http_client=http)
            async with Client(transport) as client:
                yield client

    return opened


def document_of(result: types.CallToolResult) -> dict[str, Any]:
    """Return the structured content of a result. The text must be the same as JSON."""
    assert not result.is_error, result.content
    [content] = result.content
    assert isinstance(content, types.TextContent)
    assert result.structured_content is not None
    assert json.loads(content.text) == result.structured_content
    return result.structured_content


@pytest.mark.slow
@pytest.mark.conformance("MCP", "search and fetch", "mcp")
@pytest.mark.parametrize("below", ["", "/stores/office"])
async def test_a_document_is_found_and_read(open_client: Open, two_stores: Daemon, below: str) -> None:
    async with open_client("boss", below) as client:
        listing = document_of(await client.call_tool("search", {"query": "Which port is it?"}))
        assert [*listing] == ["results"]
        result = listing["results"][0]
        assert [*result] == ["id", "title", "url"] and result["title"] == "port.md"
        document = document_of(await client.call_tool("fetch", {"id": result["id"]}))
    assert document["text"] == "The port is 7419."
    assert {name: document[name] for name in result} == result
    assert document["metadata"]["store"] == "office"
    assert document["url"].startswith(f"{two_stores.url}/#/library/documents/office/file-")


async def test_the_tools_have_one_argument_each_and_only_read(open_client: Open) -> None:
    async with open_client("boss") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert [*tools] == sorted(tools)
    assert (
        [*tools["search"].input_schema["properties"]] == tools["search"].input_schema["required"] == ["query"]
    )
    assert [*tools["fetch"].input_schema["properties"]] == tools["fetch"].input_schema["required"] == ["id"]
    assert all(tools[name].annotations.read_only_hint for name in ("search", "fetch"))
    assert all(tools[name].output_schema for name in ("search", "fetch"))


async def test_a_key_finds_and_reads_only_the_documents_of_its_stores(open_client: Open) -> None:
    async with open_client("boss", "/stores/office") as client:
        [secret_result] = document_of(await client.call_tool("search", {"query": "port"}))["results"]
        outside = await client.call_tool("fetch", {"id": secret_result["id"].replace("office", "bakery")})
        assert outside.is_error
    async with open_client("baker") as client:
        results = document_of(await client.call_tool("search", {"query": "port bread"}))["results"]
        assert [result["title"] for result in results] == ["bread.txt"]
        for document_id in (secret_result["id"], "bakery/file-none", "nothing", ""):
            fetch_result = await client.call_tool("fetch", {"id": document_id})
            assert fetch_result.is_error, document_id
    async with open_client("guest") as client:
        assert not {"search", "fetch"} & {tool.name for tool in (await client.list_tools()).tools}


async def test_a_tool_of_somebody_else_keeps_working_under_another_name(
    open_client: Open, two_stores: Daemon
) -> None:
    tool = {"name": "fetch", "command": ["echo", "fetched"], "description": "Fetches.", "read_only": True}
    with httpx2.Client(base_url=two_stores.url, headers=bearer("boss"), timeout=60) as http:
        http.post("/api/tool-sources", json=tool).raise_for_status()
        async with open_client("boss") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            [fetch_tool] = [name for name in names if name.startswith("fetch_")]
            assert names.count("fetch") == 1
            assert (await client.call_tool(fetch_tool, {})).content[0].text.strip() == "fetched"
        http.delete("/api/tool-sources/fetch").raise_for_status()


async def test_lists_and_reads_say_how_long_they_stay_fresh(open_client: Open) -> None:
    async with open_client("boss") as client:
        lists: list[Any] = [
            await client.list_tools(),
            await client.list_prompts(),
            await client.list_resources(),
        ]
        [uri, *_others] = [resource.uri for resource in lists[2].resources]
        private: list[Any] = [*lists, await client.read_resource(uri)]
        public = [await client.list_resource_templates()]
        assert [(result.ttl_ms > 0, result.cache_scope) for result in private] == [(True, "private")] * 4
        assert [(result.ttl_ms > 0, result.cache_scope) for result in public] == [(True, "public")]


async def test_the_server_instructions_fit_in_512_characters(connect: Connect) -> None:
    async with connect() as client:
        assert client.instructions == INSTRUCTIONS
    assert len(INSTRUCTIONS) <= 512
    assert all(word in INSTRUCTIONS for word in ("search", "fetch", "cite", "documents"))
