"""A tool for the height of the tide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from portico.plugin import Context, Registry, Tool, ToolResult

PORTICO_PLUGIN_API = 1

TIDE_HOURS = 12.4
MAX_HEIGHT_M = 2.5


def tool(_registry: Registry) -> Tool:
    return Tool(
        name="tide",
        title="Tide",
        description="The height of the tide in metres, some hours after high water.",
        input_schema={
            "type": "object",
            "properties": {"hours": {"type": "number", "minimum": 0}},
            "required": ["hours"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {"metres": {"type": "number"}},
            "required": ["metres"],
        },
        work=_work,
    )


async def _work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
    if arguments["hours"] > 24:
        return ToolResult("The tide is known for one day. Ask for at most 24 hours.", is_error=True)
    metres = round(MAX_HEIGHT_M * math.cos(2 * math.pi * arguments["hours"] / TIDE_HOURS), 2)
    return ToolResult(f"{metres} m", {"metres": metres})
