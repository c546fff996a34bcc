"""``/api/tools``: what tools there are, and calling one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from portico_server.api.depends import Caller, TheParts
from portico_server.api.native.artifacts import Artifact
from portico_server.api.sse import while_present
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.servable import Card

router = APIRouter(prefix="/api/tools", tags=["Tools"])


class Tool(BaseModel):
    """A tool, the JSON Schema of its arguments, what a call may do, and where the tool comes from."""

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    read_only: bool
    destructive: bool
    source: str

    @classmethod
    def of(cls, card: Card) -> Tool:
        """As its card has it."""
        return cls(
            name=card.name,
            title=card.title,
            description=card.description,
            input_schema=dict(card.input_schema or {"type": "object"}),
            output_schema=dict(card.output_schema) if card.output_schema else None,
            read_only=card.labels.get("read_only") is True,
            destructive=card.labels.get("destructive") is True,
            source=str(card.labels.get("source", "")),
        )


class ToolList(BaseModel):
    """The tools that the caller may call."""

    data: list[Tool]


class Arguments(BaseModel):
    """The arguments of a call."""

    arguments: dict[str, Any] = {}


class Outcome(BaseModel):
    """What a tool answered: text for a model, the same as JSON where there is a structure, and files it made."""

    text: str
    structured: dict[str, Any] | None
    is_error: bool
    artifacts: list[Artifact] = []


@router.get("")
async def list_tools(parts: TheParts, caller: Caller) -> ToolList:
    """The tools that the caller may call."""
    return ToolList(data=[Tool.of(card) for card in await parts.registry.cards(caller, "tool")])


@router.get("/{name}")
async def get_tool(name: str, parts: TheParts, caller: Caller) -> Tool:
    """One tool."""
    return Tool.of((await parts.registry.resolve(f"tool/{name}", caller)).card)


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
    made = [Artifact.of(item) for item in result.artifacts]
    return Outcome(text=result.text, structured=structured, is_error=result.is_error, artifacts=made)
