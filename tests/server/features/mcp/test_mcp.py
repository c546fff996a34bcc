"""MCP through its Python client, in both eras of the protocol: tools, resources, progress, cancellation,
notices.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from tests.mcp_service import Service, serving
from tests.registry_fixture import FixedModel, FixedStore, ScriptedServable, passage
from tests.server.features.mcp.conftest import Connect, Era

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import Unavailable
from portico_server.core.request import ChatReply, Request, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp import follow
from portico_server.features.mcp.resources import uri_of

FILES = {
    "docs": {
        "guide.md": b"# Ports\n\nPort 7419.",
        "a b/\xe9\xab\x98.txt".encode("latin-1").decode("utf-8"): "高山".encode(),
        "logo.png": b"\x89PNG\r\n",
        "old.txt": b"\xff\xfe\x00",
    },
    "secret": {"x.txt": b"x"},
}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, FILES) as running:
        running.daemon.add(
            FixedStore("docs", [passage(1, "The daemon listens on port 7419.")], description="Guides."),
            FixedStore("文档", [], app=False),
            FixedModel(
                "Port ", "7419 [1].", labels={"parameters": 1}
            ),  # so small that it is not asked for different words
        )
        yield running


def text(result: types.CallToolResult) -> str:
    content = result.content[0]
    assert isinstance(content, types.TextContent)
    return content.text


async def test_the_handshake_says_who_we_are_and_what_we_have(connect: Connect, era: Era) -> None:
    async with connect() as client:
        assert client.protocol_version == ("2025-11-25" if era == "legacy" else era)
        assert client.server_info is not None and client.server_info.name == "portico"
        tools, resources = client.server_capabilities.tools, client.server_capabilities.resources
        assert tools is not None and tools.list_changed
        assert resources is not None and resources.list_changed


async def test_apps_stores_and_tools_are_tools(connect: Connect) -> None:
    async with connect() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    expected_names = {"ask_model", "current_time", "docs", "fetch", "list_stores", "search", "search_docs"}
    assert expected_names < set(tools)
    (chinese,) = set(tools) - expected_names
    assert chinese.startswith("search_") and chinese.isascii()
    assert tools["docs"].input_schema["required"] == ["input"]
    assert "Guides." in (tools["search_docs"].description or "")
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())


async def test_a_plain_model_is_asked_like_a_tool(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, models=frozenset({"voice"})) as running:
        running.daemon.add(FixedModel("Good ", "day."), FixedModel("No.", name="other"))
        async with Client(running.url) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            voice_result = await client.call_tool("ask_voice", {"input": "Good morning"})
            other_result = await client.call_tool("ask_model", {"input": "Good morning", "model": "other"})
        assert "ask_other" not in tools and tools["ask_voice"].input_schema["required"] == ["input"]
        assert (voice_result.structured_content or {})["answer"] == "Good day."
        assert other_result.structured_content == {"model": "other", "answer": "No."}


async def test_scopes_decide_what_is_listed_and_called(connect: Connect) -> None:
    async with connect("reader") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["docs", "fetch", "search", "search_docs"]
        assert {resource.uri.split("/")[3] for resource in (await client.list_resources()).resources} == {
            "docs"
        }
        with pytest.raises(MCPError, match="The tool 'current_time' does not exist"):
            await client.call_tool("current_time", {})


async def test_an_app_answers_with_text_structure_and_progress(connect: Connect) -> None:
    progress_reports: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        progress_reports.append((progress, message))

    async with connect() as client:
        question = {"question": "Which port does the daemon listen on?"}
        result = await client.call_tool("docs", question, progress_callback=note)
    assert text(result) == "Port 7419 [1].\n\nSources:\n[1] guide.md, line 1 · Ports"
    assert result.structured_content["answer"] == "Port 7419 [1]."
    assert result.structured_content["cited"] == [1]
    assert result.structured_content["citations"][0]["filename"] == "guide.md"
    assert progress_reports[0] == (1, "Found 1 passages in guide.md") and progress_reports[1][1] == "Port"
    assert [number for number, _message in progress_reports] == sorted(
        {number for number, _message in progress_reports}
    )


async def test_an_app_uses_the_given_conversation_history(connect: Connect, service: Service) -> None:
    shelf = service.daemon.registry.get("store/docs")
    history = [{"role": "user", "content": "Which port does the daemon listen on?"}]
    async with connect() as client:
        await client.call_tool("docs", {"question": "Why?", "history": history})
    assert isinstance(shelf, FixedStore)
    assert shelf.asked[-1].query == "Which port does the daemon listen on?\nWhy?"


async def test_a_store_gives_passages(connect: Connect) -> None:
    async with connect() as client:
        result = await client.call_tool("search_docs", {"query": "port", "max_num_results": 3})
    assert "The daemon listens on port 7419." in text(result)
    assert result.structured_content["passages"][0]["place"]["line"] == 1


async def test_invalid_arguments_and_failures_are_error_results_with_the_message(
    connect: Connect, service: Service
) -> None:
    async def fail(_request: Request, _context: Context) -> ToolResult:
        raise Unavailable("The oven is cold. Light it first.")

    service.daemon.add(ScriptedServable(Card("bake", "tool", input_schema={"type": "object"}), fail))
    async with connect() as client:
        wrong = await client.call_tool("search_docs", {"query": ""})
        cold = await client.call_tool("bake", {})
        missing_result = await client.call_tool("fetch", {"id": "dosc/guide.md"})
    assert wrong.is_error and "at arguments.query" in text(wrong)
    assert cold.is_error and text(cold) == "The oven is cold. Light it first."
    assert missing_result.is_error and "not the id of a document" in text(missing_result)


async def test_an_unknown_tool_is_an_error_of_the_protocol(connect: Connect) -> None:
    async with connect() as client:
        with pytest.raises(
            MCPError, match=r"The tool 'search_dosc' does not exist.* Did you mean 'search_docs'"
        ) as caught:
            await client.call_tool("search_dosc", {"query": "x"})
    assert caught.value.code == types.INVALID_PARAMS


async def test_cancelling_a_call_cancels_its_run(connect: Connect, service: Service) -> None:
    start_event, end_event = asyncio.Event(), asyncio.Event()

    async def hang(_request: Request, context: Context) -> ChatReply:
        await context.emit(Progressed("load"))
        start_event.set()
        try:
            await asyncio.Event().wait()
        finally:
            end_event.set()
        raise AssertionError

    service.daemon.add(ScriptedServable(Card("slow", "app", capabilities=frozenset({"chat"})), hang))
    async with connect() as client:
        call = asyncio.create_task(client.call_tool("slow", {"question": "x"}))
        async with asyncio.timeout(60):
            await start_event.wait()
            call.cancel()
            await end_event.wait()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert service.daemon.runner.list()[0].status == "cancelled"
        assert (await client.call_tool("current_time", {})).is_error is False


async def test_a_call_that_is_silent_reports_that_it_continues(
    connect: Connect, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MAX_SILENCE_S", 0.01)
    report_event = asyncio.Event()

    async def think(_request: Request, _context: Context) -> ToolResult:
        await report_event.wait()
        return ToolResult("Done.")

    async def note(_progress: float, _total: float | None, message: str | None) -> None:
        if message == "Running (0 s)":
            report_event.set()

    service.daemon.add(ScriptedServable(Card("think", "tool", input_schema={"type": "object"}), think))
    async with connect() as client, asyncio.timeout(60):
        result = await client.call_tool("think", {}, progress_callback=note)
    assert text(result) == "Done."


async def test_a_run_that_somebody_else_cancels_is_a_failed_call(connect: Connect, service: Service) -> None:
    async def cancel(_request: Request, context: Context) -> ChatReply:
        run = service.daemon.runner.get(context.run)
        assert run is not None and run.task is not None
        run.task.cancel()
        await asyncio.Event().wait()
        raise AssertionError

    service.daemon.add(ScriptedServable(Card("slow", "app", capabilities=frozenset({"chat"})), cancel))
    async with connect() as client:
        result = await client.call_tool("slow", {"question": "x"})
    assert result.is_error and "cancelled" in text(result)


async def test_files_are_listed_and_read(connect: Connect) -> None:
    async with connect("reader") as client:
        themes, *files = (await client.list_resources()).resources
        assert (themes.uri, themes.title) == ("portico://stores/docs/themes", "Themes of docs")
        resources_by_title = {resource.title: resource for resource in files}
        template = (await client.list_resource_templates()).resource_templates[0]
        assert template.uri_template == "portico://stores/{store}/files/{file}"
        assert resources_by_title["guide.md"].uri == "portico://stores/docs/files/guide.md"
        assert (resources_by_title["guide.md"].mime_type, resources_by_title["guide.md"].size) == (
            "text/markdown",
            19,
        )
        assert resources_by_title["a b/高.txt"].uri == "portico://stores/docs/files/a%20b%2F%E9%AB%98.txt"
        contents = {
            name: (await client.read_resource(resource.uri)).contents[0]
            for name, resource in resources_by_title.items()
        }
    guide, chinese = contents["guide.md"], contents["a b/高.txt"]
    assert isinstance(guide, types.TextResourceContents) and guide.text == "# Ports\n\nPort 7419."
    assert isinstance(chinese, types.TextResourceContents) and chinese.text == "高山"
    for name in ("logo.png", "old.txt"):
        blob = contents[name]
        assert isinstance(blob, types.BlobResourceContents)
        assert base64.b64decode(blob.blob) == FILES["docs"][name]


@pytest.mark.parametrize(
    "uri",
    [
        uri_of("docs", "missing.md"),
        uri_of("secret", "x.txt"),
        uri_of("docs", "../../etc/passwd"),
        "portico://stores/docs",
        "file:///etc/passwd",
    ],
)
async def test_unknown_or_forbidden_resources_cannot_be_read(connect: Connect, uri: str) -> None:
    async with connect("reader") as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
    assert caught.value.code == types.INVALID_PARAMS


async def test_a_cursor_that_we_never_gave_is_refused(connect: Connect) -> None:
    async with connect() as client:
        for cursor in ("x", "W10=", base64.b64encode(b"7").decode()):
            with pytest.raises(MCPError, match="cursor"):
                await client.list_resources(cursor=cursor)


async def test_a_new_store_is_announced(connect: Connect, service: Service, era: Era) -> None:
    message_types: set[str] = set()

    async def note(message: Any) -> None:
        message_types.add(type(message).__name__)

    async with asyncio.timeout(60), connect(message_handler=note) as client:
        if era == "legacy":
            service.daemon.add(FixedStore("new"))
            # The client opens the session's standing stream alongside the handshake, and messages sent before
            # the stream opens are lost by design. So the message is repeated with each round trip until it
            # arrives.
            while not {"ToolListChangedNotification", "ResourceListChangedNotification"} <= message_types:
                service.daemon.registry.announce("store")
                await client.list_tools(cache_mode="bypass")
        else:
            async with client.listen(tools_list_changed=True, resources_list_changed=True) as changes:
                service.daemon.add(FixedStore("new"))
                events = {type(await anext(changes)).__name__, type(await anext(changes)).__name__}
            assert events == {"ToolsListChanged", "ResourcesListChanged"}
        assert "search_new" in {tool.name for tool in (await client.list_tools()).tools}
