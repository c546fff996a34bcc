"""Tools that the operator added, in the configuration or at run time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from portico.schemas.tools import ToolSource
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, NotFound, PorticoError, nearest
from portico_server.core.names import may_begin_with
from portico_server.db import specs as rows
from portico_server.db.database import Database
from portico_server.features.tools.sources.function_packages import FunctionPackages
from portico_server.features.tools.sources.spec import ToolSpec, parse
from portico_server.features.tools.tool import Tool, without_secrets
from portico_server.features.tools.toolbox import Toolbox
from portico_server.http.fetch.policy import AddressPolicy

if TYPE_CHECKING:
    from portico_server.features.tools.sources.process import Functions

logger = logging.getLogger(__name__)

_FIRST_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 60.0


@dataclass(slots=True)
class _HeldSource:
    spec: ToolSpec
    configured: bool
    state: str = "starting"
    error: str | None = None
    warning: str = ""
    tools: tuple[str, ...] = ()
    functions: Functions | None = None
    task: asyncio.Task[None] | None = None

    def may_give(self, tool: str) -> bool:
        """Return whether this source could provide a tool with this name, or any tool if the name is empty."""
        return self.state != "ready" and (not tool or may_begin_with(f"{tool}_", f"{self.spec.name}_"))


class AddedTools:
    """Prepares each addition in its own task, and retries failed additions with increasing delays."""

    def __init__(
        self, toolbox: Toolbox, database: Database, policy: AddressPolicy, packages: FunctionPackages
    ) -> None:
        self._toolbox = toolbox
        self._packages = packages
        self._database = database
        self._policy = policy
        self._sources: dict[str, _HeldSource] = {}
        self._change_event = asyncio.Event()
        """Set when an addition becomes ready, cannot be prepared, or is removed."""
        self._open = False

    async def start(self, tool_specs: Iterable[ToolSpec]) -> None:
        """Register the configured additions. Nothing is prepared before `run`."""
        for row in await self._database.read(rows.list_specs, rows.TOOLS_TABLE):
            self._sources[row.name] = _HeldSource(parse(row.spec), configured=False)
        for spec in tool_specs:
            self._sources[spec.name] = _HeldSource(spec, configured=True)

    async def refresh(self) -> None:
        """Apply what other daemons on the same database have added and removed."""
        before = {name: source for name, source in self._sources.items() if not source.configured}
        tool_specs = {
            row.name: parse(row.spec) for row in await self._database.read(rows.list_specs, rows.TOOLS_TABLE)
        }
        for name, held_source in before.items():
            if tool_specs.get(name) != held_source.spec and self._sources.get(name) is held_source:
                del self._sources[name]
                self._change_event.set()
                for tool in held_source.tools:
                    self._toolbox.remove(tool)
                await self._end(held_source)
        for name, spec in tool_specs.items():
            if name not in self._sources:
                held_source = self._sources[name] = _HeldSource(spec, configured=False)
                if self._open:
                    self._begin(held_source)

    async def run(self) -> None:
        """Keep all additions running until cancelled, then end their processes."""
        self._open = True
        try:
            for source in self._sources.values():
                if source.state != "ready":  # `add` has prepared the others
                    self._begin(source)
            await asyncio.get_running_loop().create_future()
        finally:
            self._open = False
            await self._end(*self._sources.values())

    async def wait_for_start(self, key: str) -> None:
        """Wait until every addition that could provide the tool with the registry ``key`` has been tried once."""
        await self._wait(key, lambda source: source.state == "starting")

    async def prepared(self, key: str) -> None:
        """Wait until no addition that is being prepared could provide the tool with the registry ``key``."""
        await self._wait(key, lambda _source: True)

    def problem(self, key: str) -> str:
        """See `portico_server.core.late_sources.LateSource`."""
        tool = key.removeprefix("tool/")
        for source in self._sources.values():
            if tool != key and source.may_give(tool):
                return (
                    f"The tool source '{source.spec.name}' is not ready: {source.error or 'It is starting.'}"
                )
        return ""

    async def _wait(self, key: str, counts: Callable[[_HeldSource], bool]) -> None:
        tool = key.removeprefix("tool/")
        while tool != key and any(
            counts(source) and source.may_give(tool) for source in self._sources.values()
        ):
            self._change_event.clear()
            await self._change_event.wait()

    async def add(self, spec: ToolSpec, owner: str | None, *, is_configured: bool = False) -> ToolSource:
        """Add a tool that can be called immediately. If it cannot be prepared, raise `PorticoError` and store
        nothing.

        A tool that ``is_configured`` is defined by the configuration file, and not stored in the database.
        """
        if spec.name in self._sources:
            raise Conflict(f"A tool '{spec.name}' has already been added; remove it first.", param="name")
        source = _HeldSource(spec, configured=is_configured)
        tools = await self._prepare(source)
        try:
            self._offer(source, tools)
        except BaseException:
            await self._end(source)
            raise
        self._sources[spec.name] = source
        if not is_configured:
            await self._database.write(rows.put_spec, rows.TOOLS_TABLE, spec.name, owner, spec.to_json())
        return _info(source)

    def spec(self, name: str) -> ToolSpec | None:
        """Return the spec of the addition ``name``, or ``None`` if it does not exist."""
        source = self._sources.get(name)
        return source.spec if source is not None else None

    async def put(self, spec: ToolSpec, *, is_configured: bool = False) -> None:
        """Add a tool that belongs to the daemon, replacing an addition with the same name. If the new tool cannot be
        prepared, the old addition is kept.
        """
        before = self._sources.get(spec.name)
        if before is None:
            await self.add(spec, None, is_configured=is_configured)
            return
        await self.remove(spec.name, even_configured=True)
        try:
            await self.add(spec, None, is_configured=is_configured)
        except BaseException:
            await self.add(before.spec, None, is_configured=before.configured)
            raise

    async def remove(self, name: str, *, even_configured: bool = False) -> None:
        """Remove an addition with all its tools. Unless ``even_configured``, raise `Conflict` for an addition in the
        configuration file.
        """
        source = self._find(name)
        if source.configured and not even_configured:
            raise Conflict(
                f"'{name}' is defined in the configuration file; remove it there and run 'portico apply'."
            )
        del self._sources[name]
        self._change_event.set()
        await self._database.write(rows.remove_spec, rows.TOOLS_TABLE, name)
        for tool in source.tools:
            self._toolbox.remove(tool)
        await self._end(source)
        needs = (source.spec.requirements, source.spec.python)
        if source.spec.requirements and needs not in (
            (added_source.spec.requirements, added_source.spec.python)
            for added_source in self._sources.values()
        ):
            await self._packages.drop(*needs)

    def every(self) -> list[ToolSource]:
        """Return all additions, sorted by name."""
        return [_info(source) for _name, source in sorted(self._sources.items())]

    def get(self, name: str) -> ToolSource:
        """Return an addition. Raises `NotFound`."""
        return _info(self._find(name))

    def _find(self, name: str) -> _HeldSource:
        source = self._sources.get(name)
        if source is None:
            raise NotFound(
                f"No tool '{name}' has been added.{nearest(name, self._sources)}", code="tool_not_found"
            )
        return source

    def _begin(self, source: _HeldSource) -> None:
        source.task = asyncio.create_task(self._keep_trying(source), name=f"tool {source.spec.name}")

    async def _keep_trying(self, source: _HeldSource) -> None:
        pause = _FIRST_RETRY_S
        while True:
            try:
                self._offer(source, await self._prepare(source))
                return
            except PorticoError as error:
                source.state, source.error = "waiting", error.message
                self._change_event.set()
                logger.warning("the tool %s is unavailable: %s", source.spec.name, source.error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_RETRY_S)

    async def _prepare(self, source: _HeldSource) -> list[Tool]:
        spec = source.spec
        # Unless the operator sets a group, all tools of an addition form a group with the addition's name.
        several = spec.kind in ("openapi", "database") or spec.function.endswith(":*")
        group = spec.group or (spec.name if several else "")
        secrets = spec.secrets()
        try:
            tools = await self._build(source)
        except PorticoError as error:
            error.message = secrets.remove(error.message)
            raise
        return [
            without_secrets(replace(tool, group=group, cost=spec.cost, repeat=spec.repeat), secrets)
            for tool in tools
        ]

    async def _build(self, source: _HeldSource) -> list[Tool]:
        """Return the tools of an addition. The module of its kind is imported for the first addition of this kind."""
        match source.spec.kind:
            case "command":
                from portico_server.features.tools.sources.command import tool_of

                return [tool_of(source.spec)]
            case "function":
                from portico_server.features.tools.sources.process import Functions

                source.functions = Functions(source.spec, self._packages)
                return await source.functions.tools()
            case "database":
                from portico_server.features.tools.sources.database import tools_of

                tools, source.warning = await tools_of(source.spec)
                if source.warning:
                    logger.warning("the tool %s: %s", source.spec.name, source.warning)
                return tools
            case _:
                from portico_server.features.tools.sources import openapi

                return await openapi.tools_of(source.spec, self._policy)

    def _offer(self, source: _HeldSource, tools: Sequence[Tool]) -> None:
        """Register all of the tools, or raise `Conflict` and register none."""
        added_names: list[str] = []
        try:
            for tool in tools:
                self._toolbox.add(tool, source.spec.approval)
                added_names.append(tool.name)
        except Conflict:
            for name in added_names:
                self._toolbox.remove(name)
            raise
        source.state, source.error, source.tools = "ready", None, tuple(added_names)
        self._change_event.set()

    async def _end(self, *ending: _HeldSource) -> None:
        tasks = [source.task for source in ending if source.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for held_source in ending:
            if held_source.functions is not None:
                await held_source.functions.close()


def _info(source: _HeldSource) -> ToolSource:
    from portico_server.db.query.source import without_password

    spec = source.spec
    return ToolSource(
        name=spec.name,
        kind=spec.kind,
        what=" ".join(spec.command)
        or spec.function
        or spec.secrets().remove(spec.openapi)
        or without_password(spec.database),
        state=source.state,
        error=source.error,
        warning=source.warning,
        tools=source.tools,
        configured=source.configured,
    )
