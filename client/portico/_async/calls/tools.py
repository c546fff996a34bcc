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
        """List the tools that the caller may call. The search compares words and meaning, as an agent's search
        for tools does.

        ``group``: Only tools in this group.

        ``search``: Only tools that match this text, best match first.

        ``limit``: Maximum number of matching tools (default: ``5``).
        """
        return await self._transport.request(
            "GET", "/api/tools", list[Tool], query=without_none(group=group, search=search, limit=limit)
        )

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, wait: bool | None = None
    ) -> ToolResult:
        """Call a tool. If the tool itself fails, the response has ``is_error``. If the client leaves, the call
        is cancelled.

        If the tool requires approval, the response is sent after approval. With ``wait=false``, the response
        contains a run whose events are at ``/api/runs/{id}/events``; the run continues when the client
        leaves.

        The arguments of a call.

        ``wait``: Whether to wait for the result; otherwise the response contains the run (default: ``True``).
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
        """List the added tool sources by name: commands, functions, APIs and databases."""
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
