"""Tools as Servables. Arguments are checked before the call, and results after it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.late_servables import LateServables
from portico_server.core.origins import ORIGINS
from portico_server.core.principal import Principal
from portico_server.core.question import MAX_WAIT_S
from portico_server.core.registry import Registry
from portico_server.core.request import Request, ToolCall, ToolResult
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card, Kind, Servable
from portico_server.features.tools.built_in_names import GENERAL
from portico_server.features.tools.entry import NEVER, Approval, Rule, refusal
from portico_server.features.tools.repetition import begin_once
from portico_server.features.tools.tool import Tool, fitting
from portico_server.plugins import PluginTable
from portico_server.runs.artifacts import ArtifactStore

if TYPE_CHECKING:
    from portico_server.features.tools.arguments import Checker


class Toolbox:
    """Adds tools to the registry.

    ``artifacts`` stores results that are too large; ``approval`` decides which tools ask for approval before they run.
    """

    def __init__(
        self, registry: Registry, artifacts: ArtifactStore | None = None, approval: Approval = NEVER
    ) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._approval = approval
        self._built_in: set[str] = set()
        self.plugins = PluginTable[ToolServable]("tool", {}, self._accept, reserved_names=self._built_in)
        """The tools of plugins, which cannot have the name of a built-in tool."""

    def register(self) -> None:
        """Add the general built-in tools and the tools of plugins."""
        self.add_late(GENERAL, self._general_tools)
        self._registry.add_source(PluginTools(self.plugins))

    def _general_tools(self) -> Iterable[Tool]:
        from portico_server.features.tools.builtin import BUILTIN

        return [make(self._registry) for make in BUILTIN]

    def add_late(self, names: Collection[str], build: Callable[[], Iterable[Tool]]) -> None:
        """Add built-in tools that ``build`` returns at the first lookup of one of ``names``, or of a list of tools.

        Raises `Conflict` if a name is in use.
        """
        keys = frozenset(f"tool/{name}" for name in names)
        self._registry.add_late(
            LateServables(
                "tool",
                keys,
                "portico_server.features.tools.builtin",
                lambda: [self._servable(tool) for tool in build()],
            )
        )
        self._built_in.update(names)

    def _accept(self, tool_class: Any) -> ToolServable:
        tool = tool_class(self._registry)
        if not isinstance(tool, Tool):
            raise InvalidRequest(f"a tool's function must return a Tool, but {tool!r} is not a Tool.")
        asks = tool.needs_approval or self._approval.is_needed("", tool)
        tool = dataclasses.replace(tool, source="plugin", needs_approval=asks)
        tool = dataclasses.replace(tool, on_data=self._approval.on_data("", tool))
        _checker(tool, tool.input_schema)
        return ToolServable(tool, self._artifacts, self._approval.limit)

    def add(self, tool: Tool, approval: Rule | None = None, *, replace: bool = False) -> None:
        """Add a tool, with the operator's approval rule for the tool if a rule exists.

        Raises `Conflict` if the name is in use.
        """
        if approval is not None:
            is_needed = tool.needs_approval or self._approval.is_needed(approval, tool)
            tool = dataclasses.replace(tool, needs_approval=is_needed)
        self._registry.add(self._servable(tool, approval or ""), replace=replace)
        if tool.source == "built-in":
            self._built_in.add(tool.name)

    def _servable(self, tool: Tool, approval: Rule = "") -> ToolServable:
        tool = dataclasses.replace(tool, on_data=self._approval.on_data(approval, tool))
        return ToolServable(tool, self._artifacts, self._approval.limit)

    def has(self, name: str) -> bool:
        """Return whether a shared tool or a plugin's tool has this name."""
        return (
            name in self._built_in or self._registry.get(f"tool/{name}") is not None or name in self.plugins
        )

    def get(self, name: str) -> Servable | None:
        """Return the shared tool with this name, or ``None``."""
        return self._registry.get(f"tool/{name}")

    def remove(self, name: str, owner: str | None = None) -> None:
        """Remove a tool of this owner. Do nothing if the tool does not exist."""
        self._registry.remove(f"tool/{name}", owner)

    def require_unreserved(self, name: str, owner: str | None) -> None:
        """Raise `Conflict` if ``owner`` is a key and the name is reserved for the operator."""
        self._registry.claims.require_unreserved(name, owner)


class PluginTools:
    """The tools of plugins as a source of the registry. Each tool is imported when it is called or listed."""

    kinds: frozenset[Kind] = frozenset({"tool"})

    def __init__(self, table: PluginTable[ToolServable]) -> None:
        self._table = table

    async def find(self, key: str, owner: str | None) -> Servable | None:
        """See `portico_server.core.registry.Source`. Raises `PluginError` for a tool that cannot be loaded."""
        kind, _, name = key.partition("/")
        if kind != "tool" or owner is not None:
            return None
        return await pools.LOADING.run(self._table.get, name)

    async def by_id(self, key: str, caller: Principal) -> None:
        """See `portico_server.core.registry.Source`. Tools have no ids."""

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        """See `portico_server.core.registry.Source`."""
        return [tool.card for tool in await pools.LOADING.run(lambda: list(self._table.usable()))]

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        """See `portico_server.core.registry.Source`. Plugins are few."""
        return await self.cards(caller)

    def has(self, key: str, owner: str) -> bool:
        """See `portico_server.core.registry.Source`. Plugins are shared."""
        return False


class ToolServable:
    """A tool that is registered as ``tool/NAME``. The labels of its card show its source and what a call can do."""

    def __init__(
        self, tool: Tool, artifacts: ArtifactStore | None = None, wait_s: float = MAX_WAIT_S
    ) -> None:
        self._tool = tool
        self._artifacts = artifacts
        self._wait_s = wait_s
        self.card = Card(
            name=tool.name,
            kind="tool",
            title=tool.title,
            description=tool.description,
            capabilities=frozenset({"tool"}),
            input_schema=tool.input_schema,
            output_schema=tool.output_schema,
            labels={
                "read_only": tool.read_only,
                "destructive": tool.destructive,
                "open_world": tool.open_world,
                "needs_approval": tool.needs_approval,
                "on_data": tool.on_data,
                "computed": tool.computed,
                "composed": tool.composed,
                "group": tool.group,
                "cost": tool.cost,
                "source": tool.source,
            },
            owner=tool.owner,
            original_name=tool.original_name,
        )

    @property
    def name(self) -> str:
        return self._tool.name

    async def call(self, request: Request, context: Context) -> ToolResult:
        if not isinstance(request, ToolCall):
            raise InvalidRequest(f"'{self._tool.name}' is a tool: it accepts only arguments.")
        self._checker.check(request.arguments)
        origins = ORIGINS.get()
        if self._tool.needs_approval or (
            origins and self._tool.on_data != "allow" and self._tool.may_carry_data(request.arguments)
        ):
            tool_result = await refusal(self._tool, request, context, self._wait_s)
            if tool_result is not None:
                return tool_result
            origins = ()  # a person has approved the call, and so the calls that it makes
        if self._tool.asks_to_repeat:
            tool_result = await begin_once(self._tool, request, context, self._wait_s)
            if tool_result is not None:
                return tool_result
        try:
            with ScopedValue(ORIGINS, origins):
                async with asyncio.timeout(self._tool.timeout):
                    result = await self._work(request, context)
        except TimeoutError:
            return ToolResult(
                f"'{self._tool.name}' did not finish within {self._tool.timeout:g} s and was stopped.",
                is_error=True,
            )
        return await fitting(self._tool, self._check(result), self._artifacts, context)

    async def _work(self, request: ToolCall, context: Context) -> ToolResult:
        """Do the tool's work. A plugin can raise anything, also the errors that would end the event loop."""
        try:
            if self._tool.keyed is not None:
                result = await self._tool.keyed(request, context)
            else:
                assert self._tool.work is not None
                result = await self._tool.work(request.arguments, context)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"The tool '{self._tool.name}' tried to end the daemon.") from error
        if not isinstance(result, ToolResult):
            raise TypeError(f"The tool '{self._tool.name}' returned no ToolResult: {type(result).__name__}.")
        return result

    def _check(self, result: ToolResult) -> ToolResult:
        """Return the result, or an error with the result's content if it violates the tool's output schema.

        Clients discard a successful result that violates the schema. A result without structured content has it if its
        text is a JSON object.
        """
        if result.is_error or self._tool.output_schema is None or self._tool.source == "built-in":
            return result  # tests already check the built-in tools against their schemas
        structured = _object_in(result.text) if result.structured is None else result.structured
        try:
            self._promise.check(structured or {})
        except PorticoError as error:
            return dataclasses.replace(
                result,
                text=f"The result of '{self._tool.name}' does not match its output schema. {error.message}\n\n"
                f"The tool has run, and returned: {result.text or json.dumps(structured)}",
                structured=None,
                is_error=True,
            )
        return dataclasses.replace(result, structured=structured)

    @cached_property
    def _checker(self) -> Checker:
        return _checker(self._tool, self._tool.input_schema)

    @cached_property
    def _promise(self) -> Checker:
        return _checker(self._tool, self._tool.output_schema or {})


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text consists of, or ``None``."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _checker(tool: Tool, schema: Mapping[str, Any]) -> Checker:
    # Importing jsonschema takes a tenth of a second, which would delay the start of the daemon.
    from portico_server.features.tools.arguments import Checker

    # An MCP server checks its own patterns, so patterns that we cannot evaluate are left to the server.
    return Checker(tool.name, schema, lenient=tool.source.startswith("mcp:"))
