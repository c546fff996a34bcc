# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.tools`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, check_path_name, without_none
from portico.schemas.tools import Tool, ToolResult, ToolSource


class Tools(Group):
    """Tools that models can call."""

    async def list(
        self, *, group: str | None = None, search: str | None = None, limit: int | None = None
    ) -> Sequence[Tool]:
        """List the tools that the caller may call. A search matches words and meaning, as an agent's search
        does.

        ``group``: Only the tools of this group.

        ``search``: Only the tools that match this best, best first.

        ``limit``: Maximum number of search results (default: ``5``).
        """
        return await self._transport.request(
            "GET", "/api/tools", list[Tool], query=without_none(group=group, search=search, limit=limit)
        )

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, wait: bool | None = None
    ) -> ToolResult:
        """Call a tool. An error of the tool itself is a response with ``is_error``. If the client leaves, the
        call is cancelled.

        For a tool that requires approval, the response arrives after approval. With ``wait=false``, the call
        is a run to follow at ``/api/runs/{id}/events``, which continues when the client leaves.

        The arguments of a call.

        ``wait``: Whether to respond with the result; otherwise the run is returned immediately (default:
        ``True``).
        """
        return await self._transport.request(
            "POST",
            at("api", "tools", check_path_name(name, "a tool"), "call"),
            ToolResult,
            query=without_none(wait=wait),
            json=without_none(arguments=arguments),
            slow=True,
        )

    async def get(self, name: str) -> Tool:
        """Return a tool."""
        return await self._transport.request("GET", at("api", "tools", check_path_name(name, "a tool")), Tool)

    async def sources(self) -> Sequence[ToolSource]:
        """List the added tools by name: commands, functions, APIs and databases."""
        return await self._transport.request("GET", "/api/tool-sources", list[ToolSource])

    async def source(self, name: str) -> ToolSource:
        """Return a tool source."""
        return await self._transport.request(
            "GET", at("api", "tool-sources", check_path_name(name, "a tool")), ToolSource
        )

    async def remove(self, name: str) -> None:
        """Remove a tool source and all its tools."""
        return await self._transport.request(
            "DELETE", at("api", "tool-sources", check_path_name(name, "a tool")), None
        )
