# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.tools`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.tools import Tool, ToolResult, ToolSource


class Tools(Group):
    """What models may call."""

    async def list(
        self, *, group: str | None = None, search: str | None = None, limit: int | None = None
    ) -> Sequence[Tool]:
        """The tools that the caller may call. A search finds them by words and by meaning, as an agent does.

        ``group``: Only the tools of this group.

        ``search``: Only the tools that fit this best, best first.

        ``limit``: How many a search finds (default: ``5``).
        """
        return await self._transport.request(
            "GET", "/api/tools", list[Tool], query=given(group=group, search=search, limit=limit)
        )

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, wait: bool | None = None
    ) -> ToolResult:
        """Call a tool. An error of the tool itself is an answer with ``is_error``. Leaving cancels the call.

        A tool that has to be approved answers when it has been; with ``wait=false`` the call is a run that is
        followed at ``/api/runs/{id}/events``, and continues although the caller leaves.

        The arguments of a call.

        ``wait``: Answer with the result; otherwise with the run, at once (default: ``True``).
        """
        return await self._transport.request(
            "POST",
            at("api", "tools", named(name, "a tool"), "call"),
            ToolResult,
            query=given(wait=wait),
            json=given(arguments=arguments),
            slow=True,
        )

    async def get(self, name: str) -> Tool:
        """One tool."""
        return await self._transport.request("GET", at("api", "tools", named(name, "a tool")), Tool)

    async def sources(self) -> Sequence[ToolSource]:
        """The tools that were added, by name: commands, functions, APIs and databases."""
        return await self._transport.request("GET", "/api/tool-sources", list[ToolSource])

    async def source(self, name: str) -> ToolSource:
        """One addition."""
        return await self._transport.request(
            "GET", at("api", "tool-sources", named(name, "a tool")), ToolSource
        )

    async def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        return await self._transport.request("DELETE", at("api", "tool-sources", named(name, "a tool")), None)
