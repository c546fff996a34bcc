"""Requests about tools and MCP servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico import _read as read
from portico._calls.call import Call, at, given, named
from portico.values import (
    McpServer,
    Tool,
    ToolResult,
    ToolSource,
)


def tools_list(group: str | None, search: str | None) -> Call[list[Tool]]:
    return Call("GET", "/api/tools", read.rows(read.tool), query=given(group=group, search=search))


def tool_get(name: str) -> Call[Tool]:
    return Call("GET", at("api", "tools", named(name, "a tool")), read.tool)


def tool_sources() -> Call[list[ToolSource]]:
    return Call("GET", "/api/tool-sources", read.rows(read.tool_source))


def tool_source(name: str) -> Call[ToolSource]:
    return Call("GET", at("api", "tool-sources", named(name, "a tool")), read.tool_source)


def tool_add(name: str, spec: Mapping[str, Any]) -> Call[ToolSource]:
    return Call("POST", "/api/tool-sources", read.tool_source, json={"name": name, **spec}, slow=True)


def tool_remove(name: str) -> Call[None]:
    return Call("DELETE", at("api", "tool-sources", named(name, "a tool")), read.nothing)


def tool_start(name: str, arguments: Mapping[str, Any]) -> Call[str]:
    path = at("api", "tools", named(name, "a tool"), "call")
    return Call(
        "POST", path, read.text_of("run"), query={"wait": "false"}, json={"arguments": dict(arguments)}
    )


def tool_call(name: str, arguments: Mapping[str, Any]) -> Call[ToolResult]:
    path = at("api", "tools", named(name, "a tool"), "call")
    return Call("POST", path, read.tool_result, json={"arguments": dict(arguments)}, slow=True)


def mcp_list() -> Call[list[McpServer]]:
    return Call("GET", "/api/mcp/servers", read.rows(read.mcp_server))


def mcp_get(name: str) -> Call[McpServer]:
    return Call("GET", _server(name), read.mcp_server)


def mcp_add(
    name: str, command: Sequence[str], url: str | None, options: Mapping[str, Any]
) -> Call[McpServer]:
    body = {"name": name, "command": list(command), "url": url or "", **options}
    return Call("POST", "/api/mcp/servers", read.mcp_server, json=body, slow=True)


def mcp_remove(name: str) -> Call[None]:
    return Call("DELETE", _server(name), read.nothing, slow=True)


def mcp_restart(name: str) -> Call[McpServer]:
    return Call("POST", _server(name, "restart"), read.mcp_server)


def mcp_logs(name: str, lines: int) -> Call[list[str]]:
    return Call("GET", _server(name, "logs"), read.rows(str), query={"lines": lines})


def _server(name: str, *more: str) -> str:
    return at("api", "mcp", "servers", named(name, "an MCP server"), *more)
