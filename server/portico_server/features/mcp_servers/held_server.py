"""A third-party server of this daemon, and its tools in the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import Conflict
from portico_server.core.names import callable_name, may_begin_with
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.mcp_servers.offered import MAX_OFFERED
from portico_server.features.mcp_servers.spec import ServerSpec
from portico_server.features.tools.tool import without_secrets
from portico_server.features.tools.toolbox import Toolbox
from portico_server.runs.artifacts import ArtifactStore
from portico_server.runs.runner import Runner

if TYPE_CHECKING:
    import mcp_types as types

    from portico_server.features.mcp_servers.connection import ServerConnection

logger = logging.getLogger(__name__)


class HeldServer:
    """A server with its spec. ``log`` is the file for the server's standard error."""

    def __init__(
        self,
        spec: ServerSpec,
        toolbox: Toolbox,
        artifacts: ArtifactStore,
        runner: Runner,
        log: Path,
        *,
        is_configured: bool,
    ) -> None:
        self.spec = spec
        self.configured = is_configured
        self.log = log
        self.connection: ServerConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self.names: dict[str, str] = {}
        """For each of the server's tools, its name in Portico and its name on the server."""
        self.problems: tuple[str, ...] = ()
        """A sentence for each tool of the server that is not offered, or not as the server describes it."""
        self._has_ended = False
        self._toolbox = toolbox
        self._keep = artifacts.keep
        self._runner = runner

    async def begin(self) -> None:
        """Start the server, unless it has begun or ended, and register its tools whenever they change."""
        connection_class = await pools.FILES.run(_connection_class)
        if self._has_ended or self.task is not None:
            return
        self.connection = connection_class(self.spec, self.log, self.offer, self._keep, self._runner)
        self.task = asyncio.create_task(self.connection.run(), name=f"mcp server {self.spec.name}")

    def stop(self) -> None:
        """Tell the server to end. It cannot be started again."""
        self._has_ended = True
        if self.connection is not None:
            self.connection.stop()

    async def wait_for_start(self) -> None:
        """Wait until the server's first start has succeeded or failed."""
        if self.connection is not None:
            await self.connection.tried.wait()

    async def wait_until_ready(self) -> None:
        """Wait until the server is connected, even if earlier attempts have failed."""
        if self.connection is not None:
            await self.connection.wait_until_ready()

    def may_have(self, tool: str) -> bool:
        """Return whether the server could have a tool with this name, or any tool if the name is empty."""
        beginnings = (self.spec.prefix, f"{self.spec.name}_")
        return callable_name(tool) != tool or any(may_begin_with(tool, text) for text in beginnings)

    @property
    def problem(self) -> str:
        """A sentence that says why the server is not connected; empty if it is."""
        if self.connection is not None and self.connection.state == "ready":
            return ""
        error = None if self.connection is None else self.connection.error
        return f"The MCP server '{self.spec.name}' is not connected: {error or 'It is starting.'}"

    def connected(self) -> ServerConnection:
        """Return the server's connection. Raise `Conflict` if the server is not running."""
        if self.connection is None:
            raise Conflict(f"The MCP server '{self.spec.name}' is not running.", code="mcp_server_failed")
        return self.connection

    def offer(self, tools: Sequence[types.Tool], problems: Sequence[str] = ()) -> None:
        """Register the server's tools, and remove tools that the server no longer has. ``problems`` are sentences about
        tools that could not be read.
        """
        for name in self.names:
            self._toolbox.remove(name)
        self.names, problems = {}, list(problems)
        tools_by_name: dict[str, types.Tool] = {}
        for tool in tools:
            if tools_by_name.setdefault(tool.name, tool) != tool:
                problems.append(
                    f"The server lists two tools named '{tool.name[:100]}'; only the first can be called."
                )
        # The tools that keep their names come first, so that no changed name takes one of theirs.
        for name in sorted(tools_by_name, key=lambda name: (callable_name(name) != name, name)):
            if self.spec.offers(name) and (problem := self._add(tools_by_name[name])):
                problems.append(problem)
        for problem in problems:
            logger.warning("the MCP server %s: %s", self.spec.name, problem)
        self.problems = tuple(self._printable(problem) for problem in problems[:MAX_OFFERED])

    def _printable(self, problem: str) -> str:
        from portico_server.features.mcp_servers.translate import plain

        return plain(self.spec.secrets().remove(problem))

    def _add(self, server_tool: types.Tool) -> str:
        """Register a tool. Return a sentence that says why the tool cannot be offered, or an empty string."""
        from portico_server.features.mcp_servers.translate import names_of, tool_of

        spec = self.spec

        async def work(call: ToolCall, context: Context) -> ToolResult:
            assert self.connection is not None
            return await self.connection.call(server_tool.name, call, context)

        for name in names_of(spec, server_tool.name):
            tool = tool_of(server_tool, name, spec, work)
            try:
                self._toolbox.add(without_secrets(tool, spec.secrets()), spec.approval)
            except Conflict:
                continue  # the name is in use
            self.names[name] = server_tool.name
            return ""
        return f"The name of the tool '{server_tool.name[:100]}' is already in use."

    def names_for(self, name: str) -> tuple[str, ...]:
        """Return the registered names of the tool that the server calls ``name``, with or without the prefix."""
        return tuple(
            registered
            for registered, original in self.names.items()
            if name in (original, f"{self.spec.prefix}{original}")
        )


def _connection_class() -> type[ServerConnection]:
    from portico_server.features.mcp_servers.connection import ServerConnection

    return ServerConnection
