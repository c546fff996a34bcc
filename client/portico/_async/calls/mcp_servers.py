# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.mcp_servers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.mcp_servers import McpContent, McpPrompt, McpPromptMessage, McpResource, McpServer


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    async def list(self) -> Sequence[McpServer]:
        """The MCP servers of other people whose tools are offered here, by name."""
        return await self._transport.request("GET", "/api/mcp/servers", list[McpServer])

    async def get(self, name: str) -> McpServer:
        """One server."""
        return await self._transport.request(
            "GET", at("api", "mcp", "servers", named(name, "an MCP server")), McpServer
        )

    async def remove(self, name: str) -> None:
        """End a server and forget it; its tools are gone at once."""
        return await self._transport.request(
            "DELETE", at("api", "mcp", "servers", named(name, "an MCP server")), None, slow=True
        )

    async def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return await self._transport.request(
            "POST", at("api", "mcp", "servers", named(name, "an MCP server"), "restart"), McpServer
        )

    async def logs(self, name: str, lines: int | None = None) -> Sequence[str]:
        """The last lines that a server wrote to standard error.

        ``lines``: (default: ``100``).
        """
        return await self._transport.request(
            "GET",
            at("api", "mcp", "servers", named(name, "an MCP server"), "logs"),
            list[str],
            query=given(lines=lines),
        )

    async def resources(self, name: str) -> Sequence[McpResource]:
        """What a server has to read, the templates of addresses last."""
        return await self._transport.request(
            "GET", at("api", "mcp", "servers", named(name, "an MCP server"), "resources"), list[McpResource]
        )

    async def read(self, name: str, uri: str) -> Sequence[McpContent]:
        """What stands at an address of a server: text, or bytes as base64.

        The address of a resource; the braces of a template are filled in.
        """
        return await self._transport.request(
            "POST",
            at("api", "mcp", "servers", named(name, "an MCP server"), "resources", "read"),
            list[McpContent],
            json=given(uri=uri),
            slow=True,
        )

    async def prompts(self, name: str) -> Sequence[McpPrompt]:
        """The prompts of a server, with what they take."""
        return await self._transport.request(
            "GET", at("api", "mcp", "servers", named(name, "an MCP server"), "prompts"), list[McpPrompt]
        )

    async def render(
        self, name: str, prompt: str, arguments: Mapping[str, str] | None = None
    ) -> Sequence[McpPromptMessage]:
        """The messages of a prompt, with its arguments filled in by the server.

        A prompt by its name at the server, and its ``arguments``.
        """
        return await self._transport.request(
            "POST",
            at("api", "mcp", "servers", named(name, "an MCP server"), "prompts", "render"),
            list[McpPromptMessage],
            json=given(name=prompt, arguments=arguments),
            slow=True,
        )
