"""The chat options of a Responses request, and the tools that its model may call. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico_server.features.responses.request import FunctionTool, ResponseRequest, ToolChoice
from portico_server.features.responses.tool_context import OfferedTool


def chat_options(
    ask: ResponseRequest,
    offers: Sequence[OfferedTool] = (),
    functions: Sequence[FunctionTool] | None = None,
    *,
    first: bool = True,
) -> dict[str, Any]:
    """Return the options of the chat, with the tools that the model may call.

    If ``functions`` is given, it replaces the functions of the client.
    """
    choice = ask.choice
    allowed_tools = choice.allowed
    tools = [
        function_json(tool)
        for tool in (ask.functions if functions is None else functions)
        if allowed_tools is None or ("function", "", tool.name) in allowed_tools
    ]
    offered_tools = [offer for offer in offers if _among(offer, choice, first=first)]
    # with only a server named, the model must call one of that server's tools and no others
    if choice.kind == "mcp" and first:
        tools = []
    tools += [offer.to_json() for offer in offered_tools]
    options = dict(ask.options)
    if not tools:
        options.pop("parallel_tool_calls", None)
        return options
    options["tools"] = tools
    if choice.mode == "none" or not first:
        options["tool_choice"] = "none" if choice.mode == "none" else "auto"
    elif choice.kind == "function":
        function_tool = next((tool for tool in ask.functions if tool.name == choice.name), None)
        name = choice.name if function_tool is None else function_tool.spoken
        options["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif len(offered_tools) == 1 and choice.kind:
        options["tool_choice"] = {"type": "function", "function": {"name": offered_tools[0].function}}
    elif choice.mode != "auto":
        options["tool_choice"] = choice.mode
    return options


def function_json(tool: FunctionTool) -> dict[str, Any]:
    """Return a function in the form of a chat's ``tools``."""
    about: dict[str, Any] = {"name": tool.spoken}
    if tool.description:
        about["description"] = tool.description
    if tool.parameters:
        about["parameters"] = dict(tool.parameters)
    if tool.strict is not None:
        about["strict"] = tool.strict
    return {"type": "function", "function": about}


def _among(offer: OfferedTool, choice: ToolChoice, *, first: bool) -> bool:
    """Return whether the tool choice allows this tool. A required tool is required only in the first request."""
    if choice.allowed is not None:
        return any(
            kind == offer.kind and label == offer.label and name in ("", offer.name)
            for kind, label, name in choice.allowed
        )
    if choice.kind == "mcp" and first:
        return offer.kind == "mcp" and offer.label == choice.label and choice.name in ("", offer.name)
    return not (choice.kind and first) or choice.kind in ("function", offer.kind)
