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
from portico_server.core.request import ToolCall, ToolResult
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
        self._has_ended = False
        self._toolbox = toolbox
        self._keep = artifacts.keep
        self._runner = runner

    async def begin(self) -> None:
        """Start the server, unless it has begun or ended, and register its tools whenever they change."""
        connection_class = await pools.FILES.run(_connection_class)
        if self._has_ended or self.task is not None:
            return
        self.connection = connection_class(
            self.spec, self.log, lambda _connection, tools: self.offer(tools), self._keep, self._runner
        )
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

    def connected(self) -> ServerConnection:
        """Return the server's connection. Raise `Conflict` if the server is not running."""
        if self.connection is None:
            raise Conflict(f"The MCP server '{self.spec.name}' is not running.", code="mcp_server_failed")
        return self.connection

    def offer(self, tools: Sequence[types.Tool]) -> None:
        """Register the server's tools, and remove tools that the server no longer has."""
        for name in self.names:
            self._toolbox.remove(name)
        self.names = {}
        for tool in tools:
            if self.spec.offers(tool.name):
                self._add(tool)

    def _add(self, found_tool: types.Tool) -> None:
        from portico_server.features.mcp_servers.translate import name_of, tool_of

        spec = self.spec

        async def work(call: ToolCall, context: Context) -> ToolResult:
            assert self.connection is not None
            return await self.connection.call(found_tool.name, call, context)

        for prefix in dict.fromkeys((spec.prefix, f"{spec.name}_")):
            name = name_of(prefix, found_tool.name)
            tool = tool_of(found_tool, name, f"mcp:{spec.name}", spec.timeout + 30, work)
            if tool is None:
                logger.warning(
                    "the tool %s of the MCP server %s has no valid schema", found_tool.name, spec.name
                )
                return
            try:
                self._toolbox.add(without_secrets(tool, spec.secrets()), spec.approval)
            except Conflict:
                continue  # the name is in use: try it with the server's name as a prefix
            self.names[name] = found_tool.name
            return
        logger.warning(
            "the name of the tool %s of the MCP server %s is already in use", found_tool.name, spec.name
        )


def _connection_class() -> type[ServerConnection]:
    from portico_server.features.mcp_servers.connection import ServerConnection

    return ServerConnection
