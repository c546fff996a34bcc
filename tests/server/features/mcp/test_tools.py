"""Many tools over MCP, in pages."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.mcp_service import Service, serving
from tests.registry_fixture import ScriptedServable
from tests.server.features.mcp.conftest import Connect

from portico_server.core.context import Context
from portico_server.core.request import Request, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp.tools import PAGE_SIZE
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.tools.builtin import run_code
from portico_server.features.tools.toolbox import Toolbox
from portico_server.settings import Settings


async def test_pages_of_the_tool_list_contain_every_tool_once(connect: Connect, service: Service) -> None:
    async def work(_request: Request, _context: Context) -> ToolResult:
        return ToolResult("Done.")

    service.daemon.add(
        *(ScriptedServable(Card(f"tool{number:03}", "tool"), work) for number in range(PAGE_SIZE))
    )
    async with connect() as client:
        first = await client.list_tools()
        assert len(first.tools) == PAGE_SIZE and first.next_cursor is not None
        second_page = await client.list_tools(cursor=first.next_cursor)
        assert second_page.next_cursor is None
        names = [tool.name for tool in (*first.tools, *second_page.tools)]
        assert names == sorted(set(names)) and {"docs", "search_docs", "tool000", "tool249"} < set(names)
        with pytest.raises(MCPError, match="cursor"):
            await client.list_tools(cursor="nothing")


async def test_many_tools_are_found_instead_of_listed(tmp_path: Path) -> None:
    async def work(request: Request, _context: Context) -> ToolResult:
        assert isinstance(request, ToolCall)
        return ToolResult(f"Refunded {request.arguments.get('order')}.")

    about = {
        "refund": "Give the money of an order back.",
        "draw": "Paint a picture.",
        "track": "Find a parcel.",
    }
    async with serving(tmp_path, {}, search_above=5) as service:
        cards = [Card(name, "tool", description=text) for name, text in about.items()]
        cards += [Card(f"tool{number}", "tool", description=f"Does thing {number}.") for number in range(20)]
        service.daemon.add(*(ScriptedServable(card, work) for card in cards))
        for mode in ("legacy", "auto"):
            async with (
                httpx2.AsyncClient(timeout=60) as http,
                Client(streamable_http_client(service.url, http_client=http), mode=mode) as client,
            ):
                tool_page = await client.list_tools()
                assert [tool.name for tool in tool_page.tools] == ["find_tools", "call_tool"]
                assert tool_page.next_cursor is None
                search_result = await client.call_tool("find_tools", {"query": "money back"})
                assert search_result.structured_content is not None
                first, *other_tools = search_result.structured_content["tools"]
                assert first["name"] == "refund" and first["inputSchema"]["type"] == "object"
                assert len(other_tools) < 5 and json.loads(search_result.content[0].text)[0] == first  # type: ignore[union-attr]
                call = {"name": "refund", "arguments": {"order": "7"}}
                for name, arguments in (("call_tool", call), ("refund", {"order": "7"})):
                    done = await client.call_tool(name, arguments)
                    assert done.content[0].text == "Refunded 7."  # type: ignore[union-attr]
                for name, wrong, error_text in (
                    ("find_tools", {}, "query"),
                    ("find_tools", {"query": "x" * 401}, "query"),
                    ("call_tool", {"name": "refundd"}, "Did you mean 'refund'?"),
                    (
                        "call_tool",
                        {"name": "call_tool", "arguments": call},
                        "The tool 'call_tool' does not exist",
                    ),
                    ("call_tool", {"name": "refund", "arguments": []}, "arguments"),
                ):
                    error_result = await client.call_tool(name, wrong)
                    assert error_result.is_error and error_text in error_result.content[0].text, wrong  # type: ignore[union-attr]

        # A key with few rights sees only what it may call, and finds and calls nothing else.
        async with (
            httpx2.AsyncClient(headers={"authorization": "Bearer reader"}, timeout=60) as http,
            Client(streamable_http_client(service.url, http_client=http)) as client,
        ):
            assert "find_tools" not in [tool.name for tool in (await client.list_tools()).tools]
            with pytest.raises(MCPError, match="The tool 'call_tool' does not exist"):
                await client.call_tool("call_tool", call)


@pytest.mark.parametrize(
    ("above", "tools", "is_listed"),
    [
        (Settings().mcp_tool_search, 40, True),
        # microsoft/vscode-copilot-release 9375, anomalyco/opencode 4909: at most 128 tools, the client's own included
        (Settings().mcp_tool_search, 120, False),
        (0, 120, True),
    ],
)
async def test_by_default_more_tools_than_clients_take_are_found(
    tmp_path: Path, above: int, tools: int, is_listed: bool
) -> None:
    async def work(_request: Request, _context: Context) -> ToolResult:
        return ToolResult("Done.")

    async with serving(tmp_path, {}, search_above=above) as service:
        service.daemon.add(*(ScriptedServable(Card(f"tool{n}", "tool"), work) for n in range(tools)))
        async with (
            httpx2.AsyncClient(timeout=60) as http,
            Client(streamable_http_client(service.url, http_client=http)) as client,
        ):
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert ("tool7" in names) is is_listed and ("find_tools" in names) is not is_listed


async def test_with_tool_search_run_code_is_offered_and_results_have_signatures(tmp_path: Path) -> None:
    async def work(request: Request, _context: Context) -> ToolResult:
        assert isinstance(request, ToolCall)
        return ToolResult("", {"paid": request.arguments["order"] * 2})

    light = LightSandbox(1)
    schema = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
    paid = {"type": "object", "properties": {"paid": {"type": "integer"}}, "required": ["paid"]}
    about = "Give the money of an order back."
    async with serving(tmp_path, {}, search_above=5) as service:
        Toolbox(service.daemon.registry).add(run_code.tool(service.daemon.registry, light))
        service.daemon.add(
            ScriptedServable(
                Card("refund", "tool", description=about, input_schema=schema, output_schema=paid), work
            ),
            *(ScriptedServable(Card(f"tool{number}", "tool"), work) for number in range(20)),
        )
        async with (
            httpx2.AsyncClient(timeout=60) as http,
            Client(streamable_http_client(service.url, http_client=http)) as client,
        ):
            tool_page = await client.list_tools()
            assert [tool.name for tool in tool_page.tools] == ["find_tools", "call_tool", "run_code"]
            search_result = await client.call_tool("find_tools", {"query": "money back"})
            assert search_result.structured_content is not None
            first, *other_tools = search_result.structured_content["tools"]
            assert first == {
                "name": "refund",
                "signature": "# portico.tools.refund\nclass RefundResult(TypedDict):\n    paid: int\n\n"
                f'def refund(*, order: int) -> RefundResult:\n    """{about}\n    """',
            }
            assert "run_code" not in [tool["name"] for tool in other_tools]
            code = "sum(portico.tools.refund(order=n)['paid'] for n in range(10))"
            for name, arguments in (
                ("run_code", {"code": code}),
                ("call_tool", {"name": "run_code", "arguments": {"code": code}}),
            ):
                done = await client.call_tool(name, arguments)
                assert done.content[0].text == "90"  # type: ignore[union-attr]
    await light.close()
