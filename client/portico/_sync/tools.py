# Generated from portico._async by scripts/sdk: change it there.
"""Tools, and external MCP servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, check_path_name
from portico._sync.calls import mcp_servers as calls_mcp_servers
from portico._sync.calls import tools as calls_tools
from portico.schemas.mcp_servers import McpServer
from portico.schemas.tools import ToolSource


class Tools(calls_tools.Tools):
    """Tools that models can call."""

    def start(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Start a call in the background and return the id of its run. Use it for tools that need approval."""
        path, body = self._at(name, "call"), {"arguments": dict(arguments or {})}
        return self._transport.request("POST", path, str, query={"wait": "false"}, json=body, key="run")

    def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"``, ``openapi=URL`` or ``database=URL``, and
        further fields of the tool.
        """
        body = {"name": name, **spec}
        return self._transport.request("POST", "/api/tool-sources", ToolSource, json=body, slow=True)

    def _at(self, name: str, *parts: str) -> str:
        return at("api", "tools", check_path_name(name, "a tool"), *parts)


class Mcp(calls_mcp_servers.Mcp):
    """External MCP servers, whose tools the daemon offers as its own."""

    def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Add a server: a ``command`` to start, or a ``url`` to connect to. Returns when it has started or failed.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        body = {"name": name, "command": list(command), "url": url or "", **options}
        return self._transport.request("POST", "/api/mcp/servers", McpServer, json=body, slow=True)

    def _at(self, name: str, *parts: str) -> str:
        return at("api", "mcp", "servers", check_path_name(name, "an MCP server"), *parts)
