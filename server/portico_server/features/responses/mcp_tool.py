"""``mcp``: tools of the MCP servers that the daemon connects to, and of the daemon itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from portico_server.core.addresses import SEEN_ADDRESSES, SeenTexts
from portico_server.core.context import Context
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.names import callable_name
from portico_server.core.origins import ORIGINS, Origins, is_receipt, join_origins, origin_of_tool
from portico_server.core.request import CalledTool, ToolCall, ToolResult
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card
from portico_server.features.agents.tools import NO_ARGUMENTS, arguments_of, cut
from portico_server.features.responses.items import MODEL_OUTPUT
from portico_server.features.responses.request import McpTool
from portico_server.features.responses.tool_context import OfferedTool, ServerTool, ToolContext

OWN: Final = "portico"
"""Server label of the daemon's own tools."""

_FOREIGN_ITEMS: Final[Mapping[str, str]] = {
    "file_search_call": origin_of_tool("file_search"),
    "code_interpreter_call": origin_of_tool("code_interpreter"),
    "shell_call_output": origin_of_tool("shell"),
    "local_shell_call_output": origin_of_tool("local_shell"),
    "function_call_output": "a function of the client",
    "apply_patch_call_output": origin_of_tool("apply_patch"),
    "compaction": "the summary of the conversation",
}
"""The origin of the foreign data in items of a type."""

_ATTACHMENTS: Final = frozenset({"input_file", "input_image", "input_audio"})


async def mcp_call(bench: ToolContext, tool: McpTool, at: str) -> None:
    """Offer a server's tools to the model, and list them to the client once. Raises `NotFound`, `InvalidRequest`."""
    offered_tools = [
        server_tool for server_tool in await _server_tools(bench, tool, at) if _is_allowed(server_tool, tool)
    ]
    for server_tool in offered_tools:
        offer = _offer(bench, tool, server_tool)
        bench.tools[tool.label, offer.name] = offer
        bench.offers.setdefault(offer.function, offer)
    if not any(i["type"] == "mcp_list_tools" and i["server_label"] == tool.label for i in bench.before):
        await _list(bench, tool, offered_tools)


async def _server_tools(bench: ToolContext, tool: McpTool, at: str) -> Sequence[ServerTool]:
    caller = bench.context.caller
    if tool.url.startswith("/"):
        try:
            return await bench.around.endpoint_tools(tool.url, caller)
        except (NotFound, Forbidden) as error:
            error.param = f"{at}.server_url"
            raise
    servers = bench.around.servers()
    if tool.label != OWN and tool.label not in servers:
        raise NotFound(
            f"The MCP server '{tool.label}' does not exist.{nearest(tool.label, [OWN, *servers])} Valid "
            f"servers are those that the operator has added (GET /api/mcp/servers), and '{OWN}' for the "
            "daemon's own tools.",
            code="mcp_server_not_found",
            param=f"{at}.server_label",
        )
    if tool.url and tool.url.rstrip("/") != servers.get(tool.label, "").rstrip("/"):
        raise InvalidRequest(
            f"The MCP server '{tool.label}' has a different address on this daemon. Leave out 'server_url': "
            "the operator of this daemon configures its servers.",
            code="unsupported_parameter",
            param=f"{at}.server_url",
        )
    cards = await bench.around.registry.cards(caller, "tool")
    return [_server_tool(card, tool.label) for card in cards if _is_of(card, tool)]


def _server_tool(card: Card, label: str) -> ServerTool:
    async def call_tool(context: Context, arguments: Mapping[str, Any], key: str) -> ToolResult:
        result = await context.call(card.key, ToolCall(arguments, key=key))
        assert isinstance(result, ToolResult)
        return result

    name = (card.original_name or card.name).removeprefix(f"{label}_")
    schema = card.input_schema or NO_ARGUMENTS
    read_only = card.labels.get("read_only") is True
    refuses_data = card.labels.get("on_data") == "refuse"
    is_computed = card.labels.get("computed") is True
    return ServerTool(
        name,
        card.name,
        card.description,
        schema,
        read_only,
        call_tool,
        refuses_data,
        is_computed,
        card.is_composed,
    )


async def _list(bench: ToolContext, tool: McpTool, offered_tools: Sequence[ServerTool]) -> None:
    """List the tools of a server to the client once."""
    machine = bench.machine
    if any(i["type"] == "mcp_list_tools" and i["server_label"] == tool.label for i in machine.output):
        return  # listed before the daemon was interrupted
    item = {"id": machine.mint("mcpl_"), "type": "mcp_list_tools", "server_label": tool.label}
    index, events = machine.add({**item, "tools": [], "error": None})
    tools = [
        {
            "name": server_tool.name,
            "description": server_tool.description,
            "input_schema": dict(server_tool.schema),
            "annotations": {"read_only": server_tool.read_only},
        }
        for server_tool in offered_tools
    ]
    error = None if tools else f"'{tool.label}' offers no tool that this key may call, or is not running."
    events += [
        machine.tell(index, "response.mcp_list_tools.in_progress"),
        machine.tell(index, f"response.mcp_list_tools.{'failed' if error else 'completed'}"),
        machine.finish(index, tools=tools, error=error),
    ]
    await bench.emit(events)


def _offer(bench: ToolContext, tool: McpTool, server_tool: ServerTool) -> OfferedTool:
    name = server_tool.name

    async def use(called_tool: CalledTool, _arguments: Mapping[str, Any]) -> None:
        if tool.asks(name):
            await _request(bench, offer, called_tool.arguments)
        else:
            await call(bench, offer, called_tool.arguments)

    model_name = callable_name(name)
    offer = OfferedTool(
        model_name if model_name not in bench.offers else server_tool.full_name,
        server_tool.description,
        server_tool.schema,
        use,
        "mcp",
        label=tool.label,
        name=name,
        tool=server_tool,
        repeats=server_tool.read_only,
    )
    return offer


async def _request(bench: ToolContext, offer: OfferedTool, arguments: str) -> None:
    """Ask the client to approve this call; the next request contains the answer."""
    machine = bench.machine
    item = {"id": machine.mint("mcpr_"), "type": "mcp_approval_request", "server_label": offer.label}
    index, events = machine.add({**item, "name": offer.name, "arguments": arguments})
    bench.waits = True
    await bench.emit([*events, machine.finish(index)])


async def call(
    bench: ToolContext, offer: OfferedTool, arguments: str, *, approval_id: str | None = None
) -> None:
    """Call a tool of a server; ``approval_id`` is the id of the approval request, if the call required approval."""
    assert offer.tool is not None
    machine = bench.machine
    item = {"id": machine.mint("mcp_"), "type": "mcp_call", "status": "in_progress", "name": offer.name}
    call_fields = {
        "server_label": offer.label,
        "approval_request_id": approval_id,
        "output": None,
        "error": None,
    }
    index, events = machine.add({**item, **call_fields, "arguments": ""})
    machine.change(index, arguments=arguments)
    events += [
        machine.tell(index, "response.mcp_call.in_progress"),
        machine.tell(index, "response.mcp_call_arguments.delta", delta=arguments),
        machine.tell(index, "response.mcp_call_arguments.done", arguments=arguments),
    ]
    await bench.emit(events)
    try:
        key = f"{bench.context.run}:{item['id']}"
        is_approved = approval_id is not None and not offer.tool.refuses_data
        with (
            ScopedValue(ORIGINS, () if is_approved else bench.origins),
            ScopedValue(SEEN_ADDRESSES, SeenTexts(_texts(bench))),
        ):
            result = await offer.tool.call(bench.context, arguments_of(arguments), key)
    except PorticoError as error:
        result = ToolResult(error.message, is_error=True)
    text = cut(result.text)
    if result.is_error:
        fault = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}
        changes = {"status": "failed", "error": fault, MODEL_OUTPUT: f"The call failed: {text}"}
    else:
        changes = {"status": "completed", "output": text, MODEL_OUTPUT: text}
    end_event = machine.tell(index, f"response.mcp_call.{changes['status']}")
    await bench.emit([end_event, machine.finish(index, **changes)])


def origins_of(bench: ToolContext) -> Origins:
    """Return the origins of the foreign data that the model has read: results of tools, and attached files."""
    names: list[str] = []
    for item in (*bench.before, *bench.machine.output):
        match item["type"]:
            case "mcp_call" if item.get("status") != "in_progress":
                offer = bench.tools.get((item["server_label"], item["name"]))
                tool = None if offer is None else offer.tool
                is_own = tool is not None and (
                    tool.is_computed or is_receipt(item.get("output") or "", tool.read_only)
                )
                if not is_own:
                    names.append(origin_of_tool(item["name"]))
            case "message":
                files = [part for part in item["content"] if part["type"] in _ATTACHMENTS]
                names += [str(file.get("filename") or "an attached file") for file in files]
            case kind if kind in _FOREIGN_ITEMS:
                names.append(_FOREIGN_ITEMS[kind])
    return join_origins(names)


def _texts(bench: ToolContext) -> Iterator[tuple[str, bool]]:
    """Yield the texts of a conversation, each with whether the model cannot have written it."""
    for item in (*bench.before, *bench.machine.output):
        match item["type"]:
            case "message":
                text = "\n".join(str(part.get("text", "")) for part in item["content"])
                yield text, item["role"] != "assistant"
            case "mcp_call":
                offer = bench.tools.get((item["server_label"], item["name"]))
                is_composed = offer is None or offer.tool is None or offer.tool.is_composed
                yield str(item.get("arguments")), False
                yield str(item.get("output")), not is_composed
            case "file_search_call":
                yield orjson.dumps(item["queries"]).decode(), False
                yield orjson.dumps(item).decode(), True
            case "function_call_output":
                yield orjson.dumps(item).decode(), True
            case _:
                yield orjson.dumps(item).decode(), False


def _is_of(card: Card, tool: McpTool) -> bool:
    return tool.label == OWN or card.labels.get("source") == f"mcp:{tool.label}"


def _is_allowed(server_tool: ServerTool, tool: McpTool) -> bool:
    if tool.read_only is not None and server_tool.read_only != tool.read_only:
        return False
    names = {server_tool.name, server_tool.full_name}
    return tool.allowed is None or not names.isdisjoint(tool.allowed)
