"""Tools that fail when they are called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from portico.plugin import Context, Registry, Tool, ToolResult

PORTICO_PLUGIN_API = 1

NOT_CALLABLE = "tool"

Work = Callable[[Mapping[str, Any], Context], Awaitable[Any]]


def tool(name: str, work: Work) -> Callable[[Registry], Tool]:
    """Return a factory of a tool."""
    return lambda _registry: Tool(name, name, "Attacks.", {"type": "object"}, work=work)


def no_tool(_registry: Registry) -> dict[str, str]:
    return {"name": "no-tool"}


async def _raise(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
    raise RuntimeError("the password is swordfish")


async def _exit(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
    raise SystemExit(3)


async def _return_dict(_arguments: Mapping[str, Any], _context: Context) -> Any:
    return {"text": "hello"}


async def _return_none(_arguments: Mapping[str, Any], _context: Context) -> Any:
    return None


async def _return_much(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
    return ToolResult("x" * 100_000_000)


async def _return_object(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
    return ToolResult("hello", {"object": object()})


raises = tool("raises", _raise)
exits = tool("exits", _exit)
returns_dict = tool("returns-dict", _return_dict)
returns_none = tool("returns-none", _return_none)
returns_much = tool("returns-much", _return_much)
returns_object = tool("returns-object", _return_object)
