"""``/api/tools``: what tools there are, and calling one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from portico_server.api.depends import Caller, TheParts
from portico_server.api.sse import while_present
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolCall, ToolResult

router = APIRouter(prefix="/api/tools", tags=["Tools"])


class Tool(BaseModel):
    """A tool and the JSON Schema of its arguments."""

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None


class ToolList(BaseModel):
    """The tools that the caller may call."""

    data: list[Tool]


class Arguments(BaseModel):
    """The arguments of a call."""

    arguments: dict[str, Any] = {}


class Outcome(BaseModel):
    """What a tool answered: text for a model, and the same as JSON where there is a structure."""

    text: str
    structured: dict[str, Any] | None
    is_error: bool


@router.get("")
async def list_tools(parts: TheParts, caller: Caller) -> ToolList:
    """The tools that the caller may call."""
    return ToolList(
        data=[
            Tool(
                name=card.name,
                title=card.title,
                description=card.description,
                input_schema=dict(card.input_schema or {"type": "object"}),
                output_schema=dict(card.output_schema) if card.output_schema else None,
            )
            for card in await parts.registry.cards(caller, "tool")
        ]
    )


@router.post("/{name}/call")
async def call_tool(
    name: str, given: Arguments, parts: TheParts, caller: Caller, request: Request
) -> Outcome:
    """Call a tool. An error of the tool itself is an answer with ``is_error``. Leaving cancels the call."""
    call = parts.runner.call("tools/call", f"tool/{name}", ToolCall(given.arguments), caller)
    result = await while_present(request, call)
    if not isinstance(result, ToolResult):
        raise PorticoError(f"The tool '{name}' answered with something else than a result.")
    structured = dict(result.structured) if result.structured is not None else None
    return Outcome(text=result.text, structured=structured, is_error=result.is_error)
