"""Tools as Servables: arguments are checked before the call, results after it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.registry import Registry
from portico_server.core.request import Request, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.tools.builtin import BUILTIN
from portico_server.tools.tool import Tool

if TYPE_CHECKING:
    from portico_server.tools.arguments import Checker

LONGEST: Final = 400_000
"""Characters of a result that are passed on; a model reads no more, and neither does a terminal."""


class Toolbox:
    """Puts tools into the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def register(self) -> None:
        """Add the built-in tools."""
        for make in BUILTIN:
            self.add(make(self._registry))

    def add(self, tool: Tool) -> None:
        """Add one tool. Raises `Conflict` if its name is taken."""
        self._registry.add(ToolServable(tool))

    def remove(self, name: str) -> None:
        """Take a tool out again; nothing happens if there is none."""
        self._registry.remove(f"tool/{name}")


class ToolServable:
    """One tool under ``tool/NAME``. The card's labels say where it comes from and what a call may do."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
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
                "source": tool.source,
            },
        )

    async def call(self, request: Request, context: Context) -> ToolResult:
        if not isinstance(request, ToolCall):
            raise InvalidRequest(f"'{self._tool.name}' is a tool: it takes arguments, nothing else.")
        self._checker.check(request.arguments)
        try:
            async with asyncio.timeout(self._tool.timeout):
                result = await self._tool.work(request.arguments, context)
        except TimeoutError:
            return ToolResult(
                f"'{self._tool.name}' did not finish within {self._tool.timeout:g} s and was stopped.",
                is_error=True,
            )
        return _bounded(self._checked(result))

    def _checked(self, result: ToolResult) -> ToolResult:
        """The result, or an error if it breaks the promise of the tool's output schema."""
        if result.is_error or self._tool.output_schema is None or self._tool.source == "built-in":
            return result  # what we ship is held to its schema by tests
        try:
            self._promise.check(result.structured or {})
        except PorticoError as error:
            return ToolResult(
                f"'{self._tool.name}' answered with something else than its schema says. {error.message}",
                is_error=True,
            )
        return result

    @cached_property
    def _checker(self) -> Checker:
        return _checker(self._tool.name, self._tool.input_schema)

    @cached_property
    def _promise(self) -> Checker:
        return _checker(self._tool.name, self._tool.output_schema or {})


def _checker(name: str, schema: Mapping[str, Any]) -> Checker:
    # jsonschema costs a tenth of a second to import, which the start of the daemon does not pay.
    from portico_server.tools.arguments import Checker

    return Checker(name, schema)


def _bounded(result: ToolResult) -> ToolResult:
    """A result whose text is not longer than anybody reads."""
    if len(result.text) <= LONGEST:
        return result
    cut = f"\n[cut off here: {len(result.text)} characters in all]"
    return replace(result, text=result.text[:LONGEST] + cut, structured=None)
