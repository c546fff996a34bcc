# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.mcp_servers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.mcp_servers import McpContent, McpPrompt, McpPromptMessage, McpResource, McpServer


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    def list(self) -> Sequence[McpServer]:
        """The MCP servers of other people whose tools are offered here, by name."""
        return self._transport.request("GET", "/api/mcp/servers", list[McpServer])

    def get(self, name: str) -> McpServer:
        """One server."""
        return self._transport.request(
            "GET", at("api", "mcp", "servers", named(name, "an MCP server")), McpServer
        )

    def remove(self, name: str) -> None:
        """End a server and forget it; its tools are gone at once."""
        return self._transport.request(
            "DELETE", at("api", "mcp", "servers", named(name, "an MCP server")), None, slow=True
        )

    def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return self._transport.request(
            "POST", at("api", "mcp", "servers", named(name, "an MCP server"), "restart"), McpServer
        )

    def logs(self, name: str, lines: int | None = None) -> Sequence[str]:
        """The last lines that a server wrote to standard error.

        ``lines``: (default: ``100``).
        """
        return self._transport.request(
            "GET",
            at("api", "mcp", "servers", named(name, "an MCP server"), "logs"),
            list[str],
            query=given(lines=lines),
        )

    def resources(self, name: str) -> Sequence[McpResource]:
        """What a server has to read, the templates of addresses last."""
        return self._transport.request(
            "GET", at("api", "mcp", "servers", named(name, "an MCP server"), "resources"), list[McpResource]
        )

    def read(self, name: str, uri: str) -> Sequence[McpContent]:
        """What stands at an address of a server: text, or bytes as base64.

        The address of a resource; the braces of a template are filled in.
        """
        return self._transport.request(
            "POST",
            at("api", "mcp", "servers", named(name, "an MCP server"), "resources", "read"),
            list[McpContent],
            json=given(uri=uri),
            slow=True,
        )

    def prompts(self, name: str) -> Sequence[McpPrompt]:
        """The prompts of a server, with what they take."""
        return self._transport.request(
            "GET", at("api", "mcp", "servers", named(name, "an MCP server"), "prompts"), list[McpPrompt]
        )

    def render(
        self, name: str, prompt: str, arguments: Mapping[str, str] | None = None
    ) -> Sequence[McpPromptMessage]:
        """The messages of a prompt, with its arguments filled in by the server.

        A prompt by its name at the server, and its ``arguments``.
        """
        return self._transport.request(
            "POST",
            at("api", "mcp", "servers", named(name, "an MCP server"), "prompts", "render"),
            list[McpPromptMessage],
            json=given(name=prompt, arguments=arguments),
            slow=True,
        )
