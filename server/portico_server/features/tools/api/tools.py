"""``/api/tools``: list tools, and call a tool."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.responses import Response

from portico.schemas import tools as schemas
from portico.schemas.tools import Tool
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Listed, StartedRun
from portico_server.api.sse import while_present
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.core.tool_search import MAX_FOUND_TOOLS, MAX_QUERY_CHARS, searched

router = new_router(prefix="/api/tools", tags=["Tools"])


def _tool(card: Card) -> Tool:
    return Tool(
        name=card.name,
        title=card.title,
        description=card.description,
        input_schema=dict(card.input_schema or {"type": "object"}),
        output_schema=dict(card.output_schema) if card.output_schema else None,
        read_only=card.labels.get("read_only") is True,
        destructive=card.labels.get("destructive") is True,
        needs_approval=card.labels.get("needs_approval") is True,
        group=str(card.labels.get("group", "")),
        cost=float(card.labels.get("cost", 0.0)),
        source=str(card.labels.get("source", "")),
    )


class ToolArguments(BaseModel, extra="forbid"):
    """The arguments of a call."""

    arguments: dict[str, Any] = {}


@router.get("")
async def list_tools(
    services: TheServices,
    caller: Caller,
    group: Annotated[str, Query(description="Only tools in this group.")] = "",
    search: Annotated[
        str,
        Query(max_length=MAX_QUERY_CHARS, description="Only tools that match this text, best match first."),
    ] = "",
    limit: Annotated[
        int, Query(ge=1, le=100, description="Maximum number of matching tools.")
    ] = MAX_FOUND_TOOLS,
) -> Listed[Tool]:
    """List the tools that the caller may call. The search compares words and meaning, as an agent's search for tools
    does.
    """
    cards = [
        card
        for card in await services.registry.cards(caller, "tool")
        if not group or card.labels.get("group") == group
    ]
    if search.strip():
        tools = [searched(card) for card in cards]

        async def work(context: Context) -> list[int]:
            return await services.tool_search.best(search, tools, context, limit)

        run = await services.runner.begin("tools/search", "tools", caller, work)
        cards = [cards[place] for place in await services.runner.wait(run)]
    return Listed(data=[_tool(card) for card in cards])


@router.get("/{name}")
async def get_tool(name: str, services: TheServices, caller: Caller) -> Tool:
    """Return a tool."""
    return _tool((await services.registry.resolve(f"tool/{name}", caller)).card)


@router.post(
    "/{name}/call",
    response_model=schemas.ToolResult,
    responses={
        202: {
            "model": StartedRun,
            "description": "The call has started; its events and result are in the run",
        }
    },
)
async def call_tool(
    name: str,
    body: ToolArguments,
    services: TheServices,
    caller: Caller,
    request: Request,
    wait: Annotated[
        bool,
        Query(description="Whether to wait for the result; otherwise the response contains the run"),
    ] = True,
) -> schemas.ToolResult | Response:
    """Call a tool. If the tool itself fails, the response has ``is_error``. If the client leaves, the call is
    cancelled.

    If the tool requires approval, the response is sent after approval. With ``wait=false``, the response contains a
    run whose events are at ``/api/runs/{id}/events``; the run continues when the client leaves.
    """
    if not wait:
        await services.registry.resolve(f"tool/{name}", caller)  # so that this request reports a wrong name
        run = await services.runner.start("tools/call", f"tool/{name}", ToolCall(body.arguments), caller)
        return JSONResponse({"run": run.id}, HTTPStatus.ACCEPTED)
    call = services.runner.call("tools/call", f"tool/{name}", ToolCall(body.arguments), caller)
    result = await while_present(request, call)
    if not isinstance(result, ToolResult):
        raise PorticoError(f"The tool '{name}' did not return a tool result.")
    return result
