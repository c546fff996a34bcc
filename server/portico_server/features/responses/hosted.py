"""Dispatch of the response tools that run in the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.wire import ToolCalled, ToolReturned
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.request import CalledTool
from portico_server.features.agents.tools import arguments_of
from portico_server.features.responses import code_tool, mcp_tool, shell_tool, tool_search
from portico_server.features.responses.image_tool import image_call
from portico_server.features.responses.items import MODEL_OUTPUT
from portico_server.features.responses.request import (
    ApplyPatchTool,
    CodeInterpreterTool,
    FileSearchTool,
    ImageGenerationTool,
    LocalShellTool,
    McpTool,
    ShellTool,
)
from portico_server.features.responses.search_tool import search_call
from portico_server.features.responses.tool_context import ToolContext


async def grasp(bench: ToolContext) -> None:
    """Resolve every resource that the request names. Raises `NotFound` or `Forbidden` for resources that the caller
    must not use.
    """
    for number, tool in enumerate(bench.ask.tools):
        at = f"tools[{number}]"
        match tool:
            case FileSearchTool():
                await search_call(bench, tool, at)
            case CodeInterpreterTool():
                await code_tool.code_call(bench, tool, at)
            case ImageGenerationTool():
                await image_call(bench, tool, at)
            case McpTool():
                await mcp_tool.mcp_call(bench, tool, at)
            case ShellTool():
                await shell_tool.shell_call(bench, tool, at)
            case LocalShellTool():
                shell_tool.local_shell_call(bench)
    if any(
        isinstance(tool, ApplyPatchTool) for tool in bench.ask.tools
    ):  # the shell tool decides where patches are applied
        await shell_tool.patch_call(bench)
    await tool_search.search_call(bench)
    for function in bench.functions:
        if function.spoken in bench.offers:
            raise InvalidRequest(
                f"'tools' lists a function '{function.spoken}', which has the same name as a daemon tool "
                "that the request also lists. Rename your function.",
                param="tools",
            )


async def use(bench: ToolContext, call: CalledTool) -> str | None:
    """Run the call that the model makes; the model receives any error. Return an error message if the tool does not
    exist.
    """
    offer = bench.offers.get(call.name)
    if offer is None:
        tool_names = ", ".join(name for name in bench.offers if name not in bench.hidden) or "none"
        return f"There is no tool '{call.name}'.{nearest(call.name, bench.offers)} Tools are: {tool_names}."
    await bench.context.emit(ToolCalled(call.id, call.name, call.arguments))
    await offer.use(call, _arguments(call.arguments))
    item = bench.machine.output[-1]
    has_failed = item.get("status") == "failed"
    await bench.context.emit(ToolReturned(call.id, call.name, str(item.get(MODEL_OUTPUT, "")), has_failed))
    return None


def _arguments(text: str) -> Mapping[str, Any]:
    """Return the arguments if they are an object, else an empty object; the tool itself reports missing arguments."""
    try:
        return arguments_of(text)
    except InvalidRequest:
        return {}
