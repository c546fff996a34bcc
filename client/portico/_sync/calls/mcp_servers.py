# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.mcp_servers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.mcp_servers import McpContent, McpPrompt, McpPromptMessage, McpResource, McpServer


class Mcp(Group):
    """External MCP servers, whose tools the daemon offers as its own."""

    def list(self) -> Sequence[McpServer]:
        """List the external MCP servers whose tools this daemon offers, by name."""
        return self._transport.request("GET", "/api/mcp/servers", list[McpServer])

    def get(self, name: str) -> McpServer:
        """Return an MCP server."""
        return self._transport.request(
            "GET", at("api", "mcp", "servers", check_path_name(name, "an MCP server")), McpServer
        )

    def remove(self, name: str) -> None:
        """Stop a server and remove it; its tools disappear immediately."""
        return self._transport.request(
            "DELETE", at("api", "mcp", "servers", check_path_name(name, "an MCP server")), None, slow=True
        )

    def restart(self, name: str) -> McpServer:
        """Restart a server."""
        return self._transport.request(
            "POST", at("api", "mcp", "servers", check_path_name(name, "an MCP server"), "restart"), McpServer
        )

    def logs(self, name: str, lines: int | None = None) -> Sequence[str]:
        """Return the last lines that a server wrote to standard error.

        ``lines``: (default: ``100``).
        """
        return self._transport.request(
            "GET",
            at("api", "mcp", "servers", check_path_name(name, "an MCP server"), "logs"),
            list[str],
            query=without_none(lines=lines),
        )

    def resources(self, name: str) -> Sequence[McpResource]:
        """List the resources of a server, followed by its URI templates."""
        return self._transport.request(
            "GET",
            at("api", "mcp", "servers", check_path_name(name, "an MCP server"), "resources"),
            list[McpResource],
        )

    def read(self, name: str, uri: str) -> Sequence[McpContent]:
        """Read a resource of a server: text, or bytes as base64.

        The URI of a resource, with the placeholders of a template filled in.
        """
        return self._transport.request(
            "POST",
            at("api", "mcp", "servers", check_path_name(name, "an MCP server"), "resources", "read"),
            list[McpContent],
            json=without_none(uri=uri),
            slow=True,
        )

    def prompts(self, name: str) -> Sequence[McpPrompt]:
        """List the prompts of a server with their arguments."""
        return self._transport.request(
            "GET",
            at("api", "mcp", "servers", check_path_name(name, "an MCP server"), "prompts"),
            list[McpPrompt],
        )

    def render(
        self, name: str, prompt: str, arguments: Mapping[str, str] | None = None
    ) -> Sequence[McpPromptMessage]:
        """Return the messages of a prompt after the server has filled in the arguments.

        A prompt, identified by its name on the server, and its ``arguments``.
        """
        return self._transport.request(
            "POST",
            at("api", "mcp", "servers", check_path_name(name, "an MCP server"), "prompts", "render"),
            list[McpPromptMessage],
            json=without_none(name=prompt, arguments=arguments),
            slow=True,
        )
