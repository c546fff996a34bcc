"""Tools, and the MCP servers of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._calls.tools import (
    mcp_add,
    mcp_get,
    mcp_list,
    mcp_logs,
    mcp_remove,
    mcp_restart,
    tool_add,
    tool_call,
    tool_get,
    tool_remove,
    tool_source,
    tool_sources,
    tool_start,
    tools_list,
)
from portico.values import (
    McpServer,
    Tool,
    ToolResult,
    ToolSource,
)


class Tools(Group):
    """What models may call."""

    async def list(self, *, group: str | None = None, search: str | None = None) -> list[Tool]:
        """All that this key may call; of one group, or those in which all words of ``search`` stand, best first."""
        return await self._transport.send(tools_list(group, search))

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool. A tool's own failure is a result with ``is_error``."""
        return await self._transport.send(tool_call(name, arguments or {}))

    async def start(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Begin a call that continues by itself; the id of its run. For tools that have to be approved."""
        return await self._transport.send(tool_start(name, arguments or {}))

    async def get(self, name: str) -> Tool:
        """One tool."""
        return await self._transport.send(tool_get(name))

    async def sources(self) -> Sequence[ToolSource]:
        """What was added: commands, functions, APIs and databases."""
        return await self._transport.send(tool_sources())

    async def source(self, name: str) -> ToolSource:
        """One of them."""
        return await self._transport.send(tool_source(name))

    async def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"``, ``openapi=URL`` or ``database=URL``, and what
        else it needs.
        """
        return await self._transport.send(tool_add(name, spec))

    async def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        return await self._transport.send(tool_remove(name))


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    async def list(self) -> list[McpServer]:
        """All of them."""
        return await self._transport.send(mcp_list())

    async def get(self, name: str) -> McpServer:
        """One of them."""
        return await self._transport.send(mcp_get(name))

    async def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Hold a server: a ``command`` to start, or a ``url`` to reach. Returns when it has started or could not.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        return await self._transport.send(mcp_add(name, command, url, options))

    async def remove(self, name: str) -> None:
        """End a server and forget it."""
        return await self._transport.send(mcp_remove(name))

    async def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return await self._transport.send(mcp_restart(name))

    async def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that a server wrote to standard error, oldest first."""
        return await self._transport.send(mcp_logs(name, lines))
