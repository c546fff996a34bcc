"""``tool_search``: the model sees deferred tools only after finding them with the daemon's or the client's search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.request import CalledTool
from portico_server.core.tool_search import MAX_QUERY_CHARS, QUERY_ARGUMENTS, SearchedTool, finding
from portico_server.features.responses import mcp_tool, tools
from portico_server.features.responses.items import MODEL_OUTPUT, Item
from portico_server.features.responses.messages import TOOL_SEARCH, list_loaded_tools, loaded_text
from portico_server.features.responses.request import (
    FunctionTool,
    McpTool,
    NamespaceTool,
    functions_of,
    model_name,
)
from portico_server.features.responses.tool_context import OfferedTool, ToolContext


async def search_call(bench: ToolContext) -> None:
    """Offer the search, hide the deferred tools that the model has not found, and add the tools that the client's
    search returned.

    Raises an error if a tool that the client's search returned is invalid.
    """
    bench.functions += bench.ask.functions
    await _take(bench)
    search = bench.ask.tool_search
    if search is None:
        return
    _hide(bench)
    for item in (*bench.before, *bench.machine.output):
        if item["type"] == "tool_search_output":
            for namespace, name, label in list_loaded_tools(item["tools"]):
                offer = bench.tools.get((label, name)) if label else None
                bench.hidden.pop(model_name(namespace, name) if offer is None else offer.function, None)
    if search.client:
        about = search.description or "Find tools that are not listed here."
        bench.offers[TOOL_SEARCH] = OfferedTool(
            TOOL_SEARCH, about, search.parameters or QUERY_ARGUMENTS, _asker(bench), TOOL_SEARCH
        )
    elif bench.hidden:
        about = finding(len(bench.hidden), _among(bench))
        bench.offers[TOOL_SEARCH] = OfferedTool(
            TOOL_SEARCH, about, QUERY_ARGUMENTS, _searcher(bench), TOOL_SEARCH
        )


async def _take(bench: ToolContext) -> None:
    """Add the tools that the client's own search returned in this conversation."""
    known_names = {function.spoken for function in bench.functions}
    for number, item in enumerate(bench.before):
        if item["type"] != "tool_search_output" or item["execution"] != "client":
            continue
        at = f"input[{number}].tools"
        declared_tools = tools.parse_tools(item["tools"], at)
        for function in functions_of(declared_tools):
            if function.spoken not in known_names:
                known_names.add(function.spoken)
                bench.functions.append(function)
        for place, tool in enumerate(declared_tools):
            if isinstance(tool, McpTool):
                await mcp_tool.mcp_call(bench, tool, f"{at}[{place}]")


def _hide(bench: ToolContext) -> None:
    choice = bench.ask.choice
    for function in bench.ask.functions:
        if function.deferred and not (choice.kind == "function" and choice.name == function.name):
            bench.hidden[function.spoken] = SearchedTool(
                function.name, function.description, function.parameters, among=_about(bench, function)
            )
    servers = {tool.label: tool for tool in bench.ask.tools if isinstance(tool, McpTool) and tool.deferred}
    for offer in bench.offers.values():
        if offer.kind == "mcp" and offer.label in servers:
            among = f"{offer.label} {servers[offer.label].description}"
            bench.hidden[offer.function] = SearchedTool(
                offer.name, offer.description, offer.schema, among=among
            )


def _about(bench: ToolContext, function: FunctionTool) -> str:
    for tool in bench.ask.tools:
        if isinstance(tool, NamespaceTool) and tool.name == function.namespace:
            return f"{tool.name} {tool.description}"
    return ""


def _among(bench: ToolContext) -> str:
    """Return the text that tells the model which namespaces and servers have deferred tools."""
    lines = []
    for tool in bench.ask.tools:
        if isinstance(tool, NamespaceTool) and any(function.deferred for function in tool.functions):
            lines.append(f"{tool.name}: {tool.description}")
        elif isinstance(tool, McpTool) and tool.deferred:
            lines.append(f"{tool.label}: {tool.description}" if tool.description else tool.label)
    return f" They belong to: {'; '.join(lines)}." if lines else ""


def _asker(bench: ToolContext) -> Any:
    async def use(call: CalledTool, arguments: Mapping[str, Any]) -> None:
        """Leave the search to the client, which answers with the next request."""
        machine = bench.machine
        item: Item = {"id": machine.mint("tsc_"), "type": "tool_search_call", "execution": "client"}
        item |= {"call_id": bench.call_id(call), "status": "in_progress", "arguments": dict(arguments)}
        index, events = machine.add(item)
        bench.waits = True
        await bench.emit([*events, machine.finish(index, status="completed")])

    return use


def _searcher(bench: ToolContext) -> Any:
    async def use(_call: CalledTool, arguments: Mapping[str, Any]) -> None:
        machine = bench.machine
        query = str(arguments.get("query") or "").strip()[:MAX_QUERY_CHARS]
        item = {
            "id": machine.mint("tsc_"),
            "type": "tool_search_call",
            "execution": "server",
            "call_id": None,
        }
        index, events = machine.add({**item, "status": "in_progress", "arguments": {"query": query}})
        await bench.emit(events)
        names = await _find_tools(bench, query)
        for name in names:
            del bench.hidden[name]
        loaded_tools = _to_found_tools(bench, names)
        output = {
            "id": machine.mint("tso_"),
            "type": "tool_search_output",
            "execution": "server",
            "call_id": None,
        }
        events = [machine.finish(index, status="completed")]
        index, opening_events = machine.add({**output, "status": "in_progress", "tools": []})
        done_event = machine.finish(
            index, status="completed", tools=loaded_tools, **{MODEL_OUTPUT: loaded_text(loaded_tools)}
        )
        await bench.emit([*events, *opening_events, done_event])

    return use


async def _find_tools(bench: ToolContext, query: str) -> list[str]:
    """Return the function names of the hidden tools that match the query best and that the request allows."""
    allowed_tools = bench.ask.choice.allowed
    names = [
        name for name in bench.hidden if allowed_tools is None or _is_allowed(bench, name, allowed_tools)
    ]
    searched_tools = [bench.hidden[name] for name in names]
    places = await bench.around.tool_search.best(query, searched_tools, bench.context, charge=True)
    return [names[place] for place in places]


def _is_allowed(bench: ToolContext, name: str, allowed_tools: frozenset[tuple[str, str, str]]) -> bool:
    offer = bench.offers.get(name)
    if offer is not None:
        return any(
            kind == offer.kind and label == offer.label and tool_name in ("", offer.name)
            for kind, label, tool_name in allowed_tools
        )
    return any(
        ("function", "", tool.name) in allowed_tools for tool in bench.functions if tool.spoken == name
    )


def _to_found_tools(bench: ToolContext, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tools as a search result lists them: functions, namespaces with their functions, and MCP servers with
    their tools.
    """
    functions = {tool.spoken: tool for tool in bench.functions}
    shown_tools: dict[tuple[str, str], dict[str, Any]] = {}
    for name in names:
        function, offer = functions.get(name), bench.offers.get(name)
        if function is None and offer is not None:
            shown_tool = shown_tools.setdefault(
                ("mcp", offer.label),
                {"type": "mcp", "server_label": offer.label, "allowed_tools": [], "defer_loading": True},
            )
            shown_tool["allowed_tools"].append(offer.name)
        elif function is not None and function.namespace:
            about = next(
                tool.description
                for tool in bench.ask.tools
                if isinstance(tool, NamespaceTool) and tool.name == function.namespace
            )
            shown_tool = shown_tools.setdefault(
                ("namespace", function.namespace),
                {"type": "namespace", "name": function.namespace, "description": about, "tools": []},
            )
            shown_tool["tools"].append(_to_function(function))
        elif function is not None:
            shown_tools["function", name] = _to_function(function)
    return list(shown_tools.values())


def _to_function(function: FunctionTool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": function.name,
        "description": function.description or None,
        "parameters": dict(function.parameters),
        "strict": function.strict is True,
        "defer_loading": True,
    }
