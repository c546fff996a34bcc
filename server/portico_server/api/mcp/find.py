"""Tools that an MCP client finds instead of listing them: a pair of tools in the place of many."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as types

from portico_server.core.context import Context
from portico_server.core.request import ToolResult
from portico_server.core.tool_search import FIND_TOOLS, QUERY_ARGUMENTS, SearchedTool, ToolSearch
from portico_server.tools.arguments import Checker

CALL_TOOL: Final = "call_tool"

_CALL: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "description": "The tool, as it was found."},
        "arguments": {"type": "object", "description": "What its schema asks for."},
    },
    "required": ["name"],
    "additionalProperties": False,
}

PAIR: Final = (
    types.Tool(
        name=FIND_TOOLS,
        title="Find tools",
        description="Find the tools that fit best, with their descriptions and schemas. Say in general words what the "
        "tool does, such as 'send an email'. Look here before you say that something cannot be done.",
        input_schema=dict(QUERY_ARGUMENTS),
        output_schema={
            "type": "object",
            "properties": {"tools": {"type": "array", "items": {"type": "object"}}},
            "required": ["tools"],
        },
        annotations=types.ToolAnnotations(title="Find tools", read_only_hint=True, open_world_hint=False),
    ),
    types.Tool(
        name=CALL_TOOL,
        title="Call a tool",
        description=f"Call a tool that {FIND_TOOLS} has found.",
        input_schema=dict(_CALL),
        annotations=types.ToolAnnotations(title="Call a tool", read_only_hint=False),
    ),
)
"""What is listed in the place of all tools."""


@dataclass(frozen=True, slots=True)
class FoundTools:
    """When and how tools are found: with more than ``above`` of them; never if that is 0."""

    tool_search: ToolSearch | None = None
    above: int = 0

    def instead_of(self, named: Sized) -> bool:
        """Whether the pair stands for so many tools."""
        return 0 < self.above < len(named)

    def is_one(self, name: str) -> bool:
        """Whether a call may be of the pair."""
        return self.above > 0 and name in (FIND_TOOLS, CALL_TOOL)

    def search(
        self, tools: Mapping[str, types.Tool], arguments: Mapping[str, Any]
    ) -> Callable[[Context], Awaitable[ToolResult]]:
        """A search in ``tools``, which are those that the caller may call. Raises `InvalidRequest`."""
        Checker(FIND_TOOLS, QUERY_ARGUMENTS).check(arguments)
        searched = [
            SearchedTool(tool.name, tool.description or "", tool.input_schema, tool.title or "")
            for tool in tools.values()
        ]

        async def work(context: Context) -> ToolResult:
            assert self.tool_search is not None
            places = await self.tool_search.best(arguments["query"], searched, context)
            found = [
                tools[searched[place].name].model_dump(mode="json", by_alias=True, exclude_none=True)
                for place in places
            ]
            return ToolResult(json.dumps(found, ensure_ascii=False), structured={"tools": found})

        return work

    @staticmethod
    def call(arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The name and the arguments of the tool that is meant. Raises `InvalidRequest`."""
        Checker(CALL_TOOL, _CALL).check(arguments)
        return arguments["name"], arguments.get("arguments") or {}


LISTED: Final = FoundTools()
"""Tools are listed, however many there are."""
