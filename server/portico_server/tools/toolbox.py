"""Tools as Servables: arguments are checked against the schema before the call."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.registry import Registry
from portico_server.core.request import Request, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.tools.builtin import BUILTIN
from portico_server.tools.tool import Tool

if TYPE_CHECKING:
    from portico_server.tools.arguments import Checker


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


class ToolServable:
    """One tool under ``tool/NAME``. The card's label ``read_only`` says whether a call changes anything."""

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
            labels={"read_only": tool.read_only},
        )

    async def call(self, request: Request, context: Context) -> ToolResult:
        if not isinstance(request, ToolCall):
            raise InvalidRequest(f"'{self._tool.name}' is a tool: it takes arguments, nothing else.")
        self._checker.check(request.arguments)
        return await self._tool.work(request.arguments, context)

    @cached_property
    def _checker(self) -> Checker:
        # jsonschema costs a tenth of a second to import, which the start of the daemon does not pay.
        from portico_server.tools.arguments import Checker

        return Checker(self._tool.name, self._tool.input_schema)
