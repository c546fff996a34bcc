"""All third-party servers of this daemon, and their tools in the registry."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from portico.schemas.mcp_servers import (
    McpCard,
    McpContent,
    McpPrompt,
    McpPromptMessage,
    McpResource,
    McpServer,
)
from portico_server.core import pools
from portico_server.core.errors import Conflict, NotFound, nearest
from portico_server.core.names import callable_name
from portico_server.core.principal import Principal
from portico_server.core.servable import Card, Kind, Servable
from portico_server.db import specs as rows
from portico_server.db.database import Database
from portico_server.features.mcp_servers.held_server import HeldServer
from portico_server.features.mcp_servers.offered import MAX_OFFERED
from portico_server.features.mcp_servers.spec import ServerSpec, parse
from portico_server.features.tools.toolbox import Toolbox
from portico_server.runs.artifacts import ArtifactStore
from portico_server.runs.runner import Runner

SHUTDOWN_TIMEOUT_S: Final = 6.0
"""Seconds within which all servers together must end."""


class McpHost:
    """Owns a task for each server. ``logs`` is the folder for the servers' standard error.

    ``runner`` calls the model for servers that can ask a model.
    """

    kinds: frozenset[Kind] = frozenset({"tool"})

    def __init__(
        self, toolbox: Toolbox, database: Database, artifacts: ArtifactStore, logs: Path, runner: Runner
    ) -> None:
        self._toolbox = toolbox
        self._database = database
        self._artifacts = artifacts
        self._logs = logs
        self._runner = runner
        self._servers: dict[str, HeldServer] = {}
        self._open = False
        self._has_begun = asyncio.Event()
        """Set once all servers known at startup are being started."""

    async def start(self, server_specs: Iterable[ServerSpec]) -> None:
        """Read the configured servers. Nothing is started before `run`."""
        for row in await self._database.read(rows.list_specs, rows.MCP_SERVERS_TABLE):
            self._servers[row.name] = self._new(parse(row.spec), is_configured=False)
        for spec in server_specs:
            self._servers[spec.name] = self._new(spec, is_configured=True)

    async def refresh(self) -> None:
        """Apply what other daemons on the same database have added and removed."""
        before = {
            name: held_server for name, held_server in self._servers.items() if not held_server.configured
        }
        spec_rows = await self._database.read(rows.list_specs, rows.MCP_SERVERS_TABLE)
        server_specs = {row.name: parse(row.spec) for row in spec_rows}
        for name, server in before.items():
            if server_specs.get(name) != server.spec and self._servers.get(name) is server:
                del self._servers[name]
                await self._end(server)
                server.offer(())
        for name, spec in server_specs.items():
            if name not in self._servers:
                server = self._servers[name] = self._new(spec, is_configured=False)
                if self._open:
                    await server.begin()

    async def run(self) -> None:
        """Keep all servers connected until cancelled, then end them."""
        self._open = True
        try:
            for server in tuple(self._servers.values()):
                await server.begin()
            self._has_begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            self._open = False
            await self._end(*self._servers.values())

    async def prepared(self, key: str) -> None:
        """Wait until each server that may have the tool with the registry ``key`` is connected."""
        for server in await self._servers_with(key):
            await server.wait_until_ready()

    def problem(self, key: str) -> str:
        """See `portico_server.core.late_sources.LateSource`."""
        tool = key.removeprefix("tool/")
        servers = self._servers.values() if tool != key else ()
        return next((server.problem for server in servers if server.may_have(tool) and server.problem), "")

    async def wait_for_start(self, key: str) -> None:
        """Wait until the first start of each server that may have the tool with the registry ``key`` has succeeded or
        failed.
        """
        for server in await self._servers_with(key):
            await server.wait_for_start()

    async def _servers_with(self, key: str) -> list[HeldServer]:
        """Return the servers that may have the tool with the registry ``key``, once they are being started."""
        tool = key.removeprefix("tool/")
        if tool == key or not self._servers:
            return []
        await self._has_begun.wait()
        return [server for server in self._servers.values() if server.may_have(tool)]

    async def find(self, key: str, owner: str | None) -> Servable | None:
        """Return the tool that exactly one server has under this name of its own, with or without the server's prefix.
        See `portico_server.core.registry.Source`. A name that models can call means the tool with that name alone.
        """
        kind, _, name = key.partition("/")
        if kind != "tool" or owner is not None or callable_name(name) == name:
            return None
        names = [tool_name for server in self._servers.values() for tool_name in server.names_for(name)]
        return self._toolbox.get(names[0]) if len(names) == 1 else None

    async def by_id(self, key: str, caller: Principal) -> None:
        """See `portico_server.core.registry.Source`. Tools have no ids."""

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        """See `portico_server.core.registry.Source`. The tools are in the registry under their names in Portico."""
        return ()

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        """See `portico_server.core.registry.Source`."""
        return ()

    def has(self, key: str, owner: str) -> bool:
        """See `portico_server.core.registry.Source`. The tools are shared."""
        return False

    async def add(self, spec: ServerSpec, owner: str | None, *, is_configured: bool = False) -> McpServer:
        """Add a server, and wait until its first start has succeeded or failed.

        A server that ``is_configured`` is defined by the configuration file, and not stored in the database.
        """
        if spec.name in self._servers:
            raise Conflict(f"The MCP server '{spec.name}' already exists; remove it first.", param="name")
        server = self._servers[spec.name] = self._new(spec, is_configured=is_configured)
        if not is_configured:
            await self._database.write(
                rows.put_spec, rows.MCP_SERVERS_TABLE, spec.name, owner, spec.to_json()
            )
        await self._has_begun.wait()
        if self._open:
            await server.begin()
            await server.wait_for_start()
        return _info(server)

    def spec(self, name: str) -> ServerSpec | None:
        """Return the spec of a server, or ``None`` if the server does not exist."""
        server = self._servers.get(name)
        return server.spec if server is not None else None

    async def put(self, spec: ServerSpec, *, is_configured: bool = False) -> None:
        """Add a server that belongs to the daemon, replacing a server with the same name."""
        if spec.name in self._servers:
            await self.remove(spec.name, even_configured=True)
        await self.add(spec, None, is_configured=is_configured)

    async def remove(self, name: str, *, even_configured: bool = False) -> None:
        """Stop a server and delete it. Unless ``even_configured``, raise `Conflict` for a server in the configuration
        file.
        """
        server = self._find(name)
        if server.configured and not even_configured:
            raise Conflict(
                f"'{name}' is in the configuration file; remove it from the file and run 'portico apply'."
            )
        del self._servers[name]
        await self._database.write(rows.remove_spec, rows.MCP_SERVERS_TABLE, name)
        await self._end(server)
        server.offer(())

    async def restart(self, name: str) -> McpServer:
        """Restart a server immediately, even if it is handling calls."""
        server = self._find(name)
        if server.connection is not None:
            server.connection.restart()
        return _info(server)

    def every(self) -> list[McpServer]:
        """Return all servers, by name."""
        return [_info(server) for _name, server in sorted(self._servers.items())]

    def addresses(self) -> dict[str, str]:
        """Return the URLs of all servers by name. The URL of a server that a command starts is empty."""
        return {name: server.spec.url for name, server in self._servers.items()}

    def get(self, name: str) -> McpServer:
        """Return one server. Raise `NotFound`."""
        return _info(self._find(name))

    async def log(self, name: str, lines: int) -> list[str]:
        """Return the last lines of a server's standard error, oldest first."""
        server = self._find(name)
        secrets = server.spec.secrets()
        return [secrets.remove(line) for line in await pools.FILES.run(_tail, server.log, lines)]

    async def resources(self, name: str) -> list[McpResource]:
        """Return the resources of a server. Raise `PorticoError`."""
        return (await self._find(name).connected().resources())[:MAX_OFFERED]

    async def read(self, name: str, uri: str) -> list[McpContent]:
        """Return the content of a server's resource at ``uri``. Raise `PorticoError`."""
        return await self._find(name).connected().read(uri)

    async def prompts(self, name: str) -> list[McpPrompt]:
        """Return the prompts of a server. Raise `PorticoError`."""
        return (await self._find(name).connected().prompts())[:MAX_OFFERED]

    async def prompt(self, name: str, prompt: str, arguments: Mapping[str, str]) -> list[McpPromptMessage]:
        """Return a prompt of a server with its arguments filled in. Raise `PorticoError`."""
        return await self._find(name).connected().prompt(prompt, arguments)

    def _new(self, spec: ServerSpec, *, is_configured: bool) -> HeldServer:
        log = self._logs / f"mcp-{spec.name}.log"
        return HeldServer(
            spec, self._toolbox, self._artifacts, self._runner, log, is_configured=is_configured
        )

    def _find(self, name: str) -> HeldServer:
        server = self._servers.get(name)
        if server is None:
            raise NotFound(
                f"The MCP server '{name}' does not exist.{nearest(name, self._servers)}",
                code="mcp_server_not_found",
            )
        return server

    async def _end(self, *ending: HeldServer) -> None:
        tasks = [server.task for server in ending if server.task is not None]
        for held_server in ending:
            held_server.stop()
        if tasks:
            _tasks, late = await asyncio.wait(tasks, timeout=SHUTDOWN_TIMEOUT_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=SHUTDOWN_TIMEOUT_S)


def _info(server: HeldServer) -> McpServer:
    spec, connection = server.spec, server.connection
    return McpServer(
        name=spec.name,
        command=spec.command,
        url=spec.secrets().remove(spec.url),
        env=tuple(sorted(spec.env)),
        headers=tuple(sorted(spec.headers)),
        state="stopped" if connection is None else connection.state,
        error=None if connection is None else connection.error,
        tools=tuple(sorted(server.names)),
        restarts=0 if connection is None else connection.restarts,
        configured=server.configured,
        card=McpCard() if connection is None else connection.card,
        reached_at=None if connection is None else connection.reached_at,
        problems=server.problems,
    )


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []
