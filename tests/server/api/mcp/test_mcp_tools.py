"""Many tools over MCP, in pages."""

from __future__ import annotations

import pytest
from mcp.shared.exceptions import MCPError
from tests.mcp_service import Service
from tests.registry_fixture import ScriptedServable
from tests.server.api.mcp.conftest import Connect

from portico_server.api.mcp.tools import PAGE_SIZE
from portico_server.core.context import Context
from portico_server.core.request import Request, ToolResult
from portico_server.core.servable import Card


async def test_tools_come_in_pages_that_are_all_there_is(connect: Connect, service: Service) -> None:
    async def work(_request: Request, _context: Context) -> ToolResult:
        return ToolResult("Done.")

    service.daemon.add(
        *(ScriptedServable(Card(f"tool{number:03}", "tool"), work) for number in range(PAGE_SIZE))
    )
    async with connect() as client:
        first = await client.list_tools()
        assert len(first.tools) == PAGE_SIZE and first.next_cursor is not None
        rest = await client.list_tools(cursor=first.next_cursor)
        assert rest.next_cursor is None
        names = [tool.name for tool in (*first.tools, *rest.tools)]
        assert names == sorted(set(names)) and {"docs", "search_docs", "tool000", "tool249"} < set(names)
        with pytest.raises(MCPError, match="cursor"):
            await client.list_tools(cursor="nothing")
