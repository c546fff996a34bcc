"""The tools of this daemon's own MCP endpoints, for code of the daemon that calls them without the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mcp_types import TextContent

from portico_server.api.services import ApiServices
from portico_server.core.context import Context
from portico_server.core.principal import Principal
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp import documents
from portico_server.features.mcp.incoming import key_of
from portico_server.features.mcp.library import Library, StoreLibrary
from portico_server.features.mcp.result import result_of
from portico_server.features.mcp.tool_names import tool_names
from portico_server.features.mcp.tools import offer, request_of
from portico_server.features.responses.tool_context import ServerTool


async def endpoint_tools(services: ApiServices, path: str, caller: Principal) -> Sequence[ServerTool]:
    """Return the tools, apps and stores that ``caller`` may call at an MCP endpoint, without `documents.TOOLS`.

    Raises `NotFound` or `Forbidden` if the endpoint does not exist or shows an object that the caller cannot use.
    """
    key = key_of(path)
    if key is not None:
        await services.registry.resolve(key, caller)
    library = StoreLibrary(services.registry, services.stores, services.files, services.artifacts)
    cards = await services.registry.cards(caller, "app", "tool", "store")
    named_cards = tool_names([card for card in cards if not documents.replaces(card)])
    return [_tool(library, name, card) for name, card in named_cards.items() if key in (None, card.key)]


def _tool(library: Library, name: str, card: Card) -> ServerTool:
    tool = offer(name, card).tool
    read_only = tool.annotations is not None and tool.annotations.read_only_hint is True
    use = partial(_use, library, name, card)
    refuses_data = card.labels.get("on_data") == "refuse"
    is_computed = card.labels.get("computed") is True
    about = tool.description or ""
    return ServerTool(
        name, name, about, tool.input_schema, read_only, use, refuses_data, is_computed, card.is_composed
    )


async def _use(
    library: Library, name: str, card: Card, context: Context, arguments: Mapping[str, Any], key: str
) -> ToolResult:
    request = request_of(name, card, arguments)
    if isinstance(request, ToolCall):
        request = replace(request, key=key)
    result = await context.call(card.key, request)
    if isinstance(result, ToolResult):
        return result
    answer = await result_of(result, context.run, context.caller, library)
    text = "\n".join(part.text for part in answer.content if isinstance(part, TextContent))
    return ToolResult(text, is_error=answer.is_error is True)
