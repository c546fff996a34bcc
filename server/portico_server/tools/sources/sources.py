"""All tools that the operator has added, from the configuration and while the daemon runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from portico.schemas.tools import ToolSource
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, NotFound, PorticoError, nearest
from portico_server.db import specs as rows
from portico_server.db.database import Database
from portico_server.db.query.source import shown
from portico_server.tools.fetch.policy import AddressPolicy
from portico_server.tools.sources import openapi
from portico_server.tools.sources.command import tool_of
from portico_server.tools.sources.database import tools_of
from portico_server.tools.sources.function_packages import FunctionPackages
from portico_server.tools.sources.process import Functions
from portico_server.tools.sources.spec import ToolSpec, parse
from portico_server.tools.tool import Tool
from portico_server.tools.toolbox import Toolbox

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
        """Whether a tool of this name, or any if that is empty, may come of it: some give many, named by a document
        or a module.
        """
        several = self.spec.kind == "openapi" or self.spec.function.endswith(":*")
        return self.state != "ready" and (several or tool in ("", self.spec.name, f"{self.spec.name}_schema"))


class AddedTools:
    """Prepares each addition in a task of its own, and tries again with a growing pause what cannot be had."""

    def __init__(
        self, toolbox: Toolbox, database: Database, policy: AddressPolicy, packages: FunctionPackages
    ) -> None:
        self._toolbox = toolbox
        self._packages = packages
        self._database = database
        self._policy = policy
        self._held: dict[str, _HeldSource] = {}
        self._changed = asyncio.Event()
        """Set when an addition became ready, could not be had or was taken out."""
        self._open = False

    async def start(self, configured: Iterable[ToolSpec]) -> None:
        """Read what there is. Nothing is prepared before `run`."""
        for row in await self._database.read(rows.list_specs, rows.TOOLS_TABLE):
            self._held[row.name] = _HeldSource(parse(row.spec), configured=False)
        for spec in configured:
            self._held[spec.name] = _HeldSource(spec, configured=True)

    async def refresh(self) -> None:
        """Take over what other daemons on the same database added or removed."""
        before = {name: held for name, held in self._held.items() if not held.configured}
        listed = {
            row.name: parse(row.spec) for row in await self._database.read(rows.list_specs, rows.TOOLS_TABLE)
        }
        for name, held in before.items():
            if listed.get(name) != held.spec and self._held.get(name) is held:
                del self._held[name]
                self._changed.set()
                for tool in held.tools:
                    self._toolbox.remove(tool)
                await self._end(held)
        for name, spec in listed.items():
            if name not in self._held:
                held = self._held[name] = _HeldSource(spec, configured=False)
                if self._open:
                    self._begin(held)

    async def run(self) -> None:
        """Hold all additions until cancelled, then end their processes."""
        self._open = True
        try:
            for held in self._held.values():
                self._begin(held)
            await asyncio.get_running_loop().create_future()
        finally:
            self._open = False
            await self._end(*self._held.values())

    async def started(self, key: str) -> None:
        """Wait while the tool of a registry ``key`` may come of what has not been tried yet."""
        await self._wait(key, lambda held: held.state == "starting")

    async def prepared(self, key: str) -> None:
        """Wait until the tool of a registry ``key`` is there, if one is being prepared that it may come of."""
        await self._wait(key, lambda _held: True)

    async def _wait(self, key: str, counts: Callable[[_HeldSource], bool]) -> None:
        tool = key.removeprefix("tool/")
        while tool != key and any(counts(held) and held.may_give(tool) for held in self._held.values()):
            self._changed.clear()
            await self._changed.wait()

    async def add(self, spec: ToolSpec, owner: str | None) -> ToolSource:
        """Add from now on. Raises `PorticoError`, and keeps nothing, if it cannot be prepared now."""
        if spec.name in self._held:
            raise Conflict(
                f"There is a tool '{spec.name}' that was added already; remove it first.", param="name"
            )
        held = _HeldSource(spec, configured=False)
        tools = await self._prepare(held)
        try:
            self._offer(held, tools)
        except BaseException:
            await self._end(held)
            raise
        self._held[spec.name] = held
        await self._database.write(rows.put_spec, rows.TOOLS_TABLE, spec.name, owner, spec.to_json())
        return _info(held)

    def spec(self, name: str) -> ToolSpec | None:
        """What was added under a name."""
        held = self._held.get(name)
        return held.spec if held is not None else None

    async def put(self, spec: ToolSpec) -> None:
        """Add for the daemon, in the place of what has this name; that stays if the new one cannot be prepared."""
        before = self.spec(spec.name)
        if before is None:
            await self.add(spec, None)
            return
        self._held[spec.name].configured = False
        await self.remove(spec.name)
        try:
            await self.add(spec, None)
        except BaseException:
            await self.add(before, None)
            raise

    async def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        held = self._find(name)
        if held.configured:
            raise Conflict(
                f"'{name}' stands in the configuration file; take it out there and start the daemon again."
            )
        del self._held[name]
        self._changed.set()
        await self._database.write(rows.remove_spec, rows.TOOLS_TABLE, name)
        for tool in held.tools:
            self._toolbox.remove(tool)
        await self._end(held)
        needs = (held.spec.requirements, held.spec.python)
        if held.spec.requirements and needs not in (
            (other.spec.requirements, other.spec.python) for other in self._held.values()
        ):
            await self._packages.drop(*needs)

    def every(self) -> list[ToolSource]:
        """All additions, by name."""
        return [_info(held) for _name, held in sorted(self._held.items())]

    def get(self, name: str) -> ToolSource:
        """One of them. Raises `NotFound`."""
        return _info(self._find(name))

    def _find(self, name: str) -> _HeldSource:
        held = self._held.get(name)
        if held is None:
            raise NotFound(
                f"No tool '{name}' was added here.{nearest(name, self._held)}", code="tool_not_found"
            )
        return held

    def _begin(self, held: _HeldSource) -> None:
        held.task = asyncio.create_task(self._keep_trying(held), name=f"tool {held.spec.name}")

    async def _keep_trying(self, held: _HeldSource) -> None:
        pause = _FIRST_RETRY_S
        while True:
            try:
                self._offer(held, await self._prepare(held))
                return
            except PorticoError as error:
                held.state, held.error = "waiting", error.message
                self._changed.set()
                logger.warning("the tool %s cannot be had: %s", held.spec.name, held.error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_RETRY_S)

    async def _prepare(self, held: _HeldSource) -> list[Tool]:
        spec = held.spec
        # Several tools of one addition belong together, whatever the operator says of it.
        several = spec.kind in ("openapi", "database") or spec.function.endswith(":*")
        group = spec.group or (spec.name if several else "")
        return [replace(tool, group=group, cost=spec.cost) for tool in await self._made(held)]

    async def _made(self, held: _HeldSource) -> list[Tool]:
        match held.spec.kind:
            case "command":
                return [tool_of(held.spec)]
            case "function":
                held.functions = Functions(held.spec, self._packages)
                return await held.functions.tools()
            case "database":
                tools, held.warning = await tools_of(held.spec)
                if held.warning:
                    logger.warning("the tool %s: %s", held.spec.name, held.warning)
                return tools
            case _:
                return await openapi.tools_of(held.spec, self._policy)

    def _offer(self, held: _HeldSource, tools: Sequence[Tool]) -> None:
        """Put the tools into the registry: all of them, or none and a `Conflict`."""
        added: list[str] = []
        try:
            for tool in tools:
                self._toolbox.add(tool, held.spec.approval)
                added.append(tool.name)
        except Conflict:
            for name in added:
                self._toolbox.remove(name)
            raise
        held.state, held.error, held.tools = "ready", None, tuple(added)
        self._changed.set()

    async def _end(self, *ending: _HeldSource) -> None:
        tasks = [held.task for held in ending if held.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for held in ending:
            if held.functions is not None:
                await held.functions.close()


def _info(held: _HeldSource) -> ToolSource:
    spec = held.spec
    return ToolSource(
        name=spec.name,
        kind=spec.kind,
        what=" ".join(spec.command) or spec.function or spec.openapi or shown(spec.database),
        state=held.state,
        error=held.error,
        warning=held.warning,
        tools=held.tools,
        configured=held.configured,
    )
