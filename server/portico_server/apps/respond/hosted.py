"""The tools of a response that run here, under one roof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.wire import ToolCalled, ToolReturned
from portico_server.apps.respond import coding, painting, searching, servers
from portico_server.apps.respond.ask import CodeInterpreter, FileSearch, ImageGeneration, Mcp
from portico_server.apps.respond.bench import Bench, arguments_of
from portico_server.apps.respond.items import TOLD
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.request import CalledTool


async def grasp(bench: Bench) -> None:
    """Find all that the request names. Raises `NotFound` or `Forbidden` for what the caller may not use."""
    for number, tool in enumerate(bench.ask.tools):
        at = f"tools[{number}]"
        match tool:
            case FileSearch():
                await searching.grasp(bench, tool, at)
            case CodeInterpreter():
                await coding.grasp(bench, tool, at)
            case ImageGeneration():
                await painting.grasp(bench, tool, at)
            case Mcp():
                await servers.grasp(bench, tool, at)
    for function in bench.ask.functions:
        if function.name in bench.offers:
            raise InvalidRequest(
                f"'tools' lists a function '{function.name}', which is also the name of a tool of this daemon that the "
                "request asks for. Name your function otherwise.",
                param="tools",
            )


async def use(bench: Bench, call: CalledTool) -> str | None:
    """Do what the model asks for; what goes wrong is told to it. A sentence if there is no such tool."""
    offer = bench.offers.get(call.name)
    if offer is None:
        known = ", ".join(bench.offers) or "none"
        return f"There is no tool '{call.name}'.{nearest(call.name, bench.offers)} Tools are: {known}."
    await bench.context.emit(ToolCalled(call.id, call.name, call.arguments))
    await offer.use(call, _arguments(call.arguments))
    item = bench.machine.output[-1]
    failed = item.get("status") == "failed"
    await bench.context.emit(ToolReturned(call.id, call.name, str(item.get(TOLD, "")), failed))
    return None


def _arguments(text: str) -> Mapping[str, Any]:
    """As far as they are an object: a tool says itself what it misses."""
    try:
        return arguments_of(text)
    except InvalidRequest:
        return {}
