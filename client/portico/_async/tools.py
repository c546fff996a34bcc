"""Tools, and the MCP servers of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.calls import mcp_servers as calls_mcp_servers
from portico._async.calls import tools as calls_tools
from portico._request import at, named
from portico.schemas.mcp_servers import McpServer
from portico.schemas.tools import ToolSource


class Tools(calls_tools.Tools):
    """What models may call."""

    async def start(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Begin a call that continues by itself; the id of its run. For tools that have to be approved."""
        path, body = self._at(name, "call"), {"arguments": dict(arguments or {})}
        return await self._transport.request("POST", path, str, query={"wait": "false"}, json=body, key="run")

    async def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"``, ``openapi=URL`` or ``database=URL``, and what
        else it needs.
        """
        body = {"name": name, **spec}
        return await self._transport.request("POST", "/api/tool-sources", ToolSource, json=body, slow=True)

    def _at(self, name: str, *parts: str) -> str:
        return at("api", "tools", named(name, "a tool"), *parts)


class Mcp(calls_mcp_servers.Mcp):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    async def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Hold a server: a ``command`` to start, or a ``url`` to reach. Returns when it has started or could not.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        body = {"name": name, "command": list(command), "url": url or "", **options}
        return await self._transport.request("POST", "/api/mcp/servers", McpServer, json=body, slow=True)

    def _at(self, name: str, *parts: str) -> str:
        return at("api", "mcp", "servers", named(name, "an MCP server"), *parts)
