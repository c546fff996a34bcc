# Made from portico/_async by scripts/twin: change it there.
"""Tools, and the MCP servers of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.mcp_servers import McpContent, McpPrompt, McpPromptMessage, McpResource, McpServer
from portico.schemas.tools import Tool, ToolResult, ToolSource


class Tools(Group):
    """What models may call."""

    def list(
        self, *, group: str | None = None, search: str | None = None, limit: int | None = None
    ) -> list[Tool]:
        """All that this key may call, or those of one group; with ``search`` the ``limit`` (5) that fit it best, best
        first.
        """
        query = given(group=group, search=search, limit=limit)
        return self._transport.request("GET", "/api/tools", list[Tool], query=query)

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool. A tool's own failure is a result with ``is_error``."""
        path, body = self._at(name, "call"), {"arguments": dict(arguments or {})}
        return self._transport.request("POST", path, ToolResult, json=body, slow=True)

    def start(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Begin a call that continues by itself; the id of its run. For tools that have to be approved."""
        path, body = self._at(name, "call"), {"arguments": dict(arguments or {})}
        return self._transport.request("POST", path, str, query={"wait": "false"}, json=body, key="run")

    def get(self, name: str) -> Tool:
        """One tool."""
        return self._transport.request("GET", self._at(name), Tool)

    def sources(self) -> Sequence[ToolSource]:
        """What was added: commands, functions, APIs and databases."""
        return self._transport.request("GET", "/api/tool-sources", list[ToolSource])

    def source(self, name: str) -> ToolSource:
        """One of them."""
        return self._transport.request("GET", self._source(name), ToolSource)

    def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"``, ``openapi=URL`` or ``database=URL``, and what
        else it needs.
        """
        body = {"name": name, **spec}
        return self._transport.request("POST", "/api/tool-sources", ToolSource, json=body, slow=True)

    def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        return self._transport.request("DELETE", self._source(name), None)

    def _at(self, name: str, *more: str) -> str:
        return at("api", "tools", named(name, "a tool"), *more)

    def _source(self, name: str) -> str:
        return at("api", "tool-sources", named(name, "a tool"))


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    def list(self) -> list[McpServer]:
        """All of them."""
        return self._transport.request("GET", "/api/mcp/servers", list[McpServer])

    def get(self, name: str) -> McpServer:
        """One of them."""
        return self._transport.request("GET", self._at(name), McpServer)

    def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Hold a server: a ``command`` to start, or a ``url`` to reach. Returns when it has started or could not.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        body = {"name": name, "command": list(command), "url": url or "", **options}
        return self._transport.request("POST", "/api/mcp/servers", McpServer, json=body, slow=True)

    def remove(self, name: str) -> None:
        """End a server and forget it."""
        return self._transport.request("DELETE", self._at(name), None, slow=True)

    def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return self._transport.request("POST", self._at(name, "restart"), McpServer)

    def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that a server wrote to standard error, oldest first."""
        return self._transport.request("GET", self._at(name, "logs"), list[str], query={"lines": lines})

    def resources(self, name: str) -> Sequence[McpResource]:
        """What a server has to read, the templates of addresses last."""
        return self._transport.request("GET", self._at(name, "resources"), list[McpResource])

    def read(self, name: str, uri: str) -> Sequence[McpContent]:
        """What stands at an address of a server."""
        path, body = self._at(name, "resources", "read"), {"uri": uri}
        return self._transport.request("POST", path, list[McpContent], json=body, slow=True)

    def prompts(self, name: str) -> Sequence[McpPrompt]:
        """The prompts of a server, with what they take."""
        return self._transport.request("GET", self._at(name, "prompts"), list[McpPrompt])

    def render(
        self, name: str, prompt: str, arguments: Mapping[str, str] | None = None
    ) -> Sequence[McpPromptMessage]:
        """The messages of a prompt of a server, with its arguments filled in."""
        path, body = self._at(name, "prompts", "render"), {"name": prompt, "arguments": dict(arguments or {})}
        return self._transport.request("POST", path, list[McpPromptMessage], json=body, slow=True)

    def _at(self, name: str, *more: str) -> str:
        return at("api", "mcp", "servers", named(name, "an MCP server"), *more)
