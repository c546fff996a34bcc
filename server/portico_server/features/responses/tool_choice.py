"""``tool_choice``: the tools that a model may or must call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core import json_values
from portico_server.core.invalid import not_one_of, unsupported, wrong
from portico_server.features.responses.request import (
    ApplyPatchTool,
    CodeInterpreterTool,
    DeclaredTool,
    FileSearchTool,
    FunctionTool,
    ImageGenerationTool,
    LocalShellTool,
    McpTool,
    NamespaceTool,
    ShellTool,
    Tool,
    ToolChoice,
    ToolSearchTool,
)

HOSTED: Final = (
    "file_search",
    "code_interpreter",
    "image_generation",
    "mcp",
    "shell",
    "apply_patch",
    "local_shell",
)


def read_choice(value: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    """Parse the tool choice of a request with these tools. Raises `InvalidRequest`."""
    usable = [tool for tool in tools if not isinstance(tool, DeclaredTool)]
    if value == "required" and not usable:
        wrong("tool_choice", "is 'required', but 'tools' lists no tool that Portico can call")
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            not_one_of("tool_choice", value, ("none", "auto", "required"))
        mode: Any = value
        return ToolChoice(mode)
    fields = json_values.mapping(value, "tool_choice", "a string or an object with a 'type'")
    kind = json_values.needed(fields, "type", "tool_choice")
    if kind == "allowed_tools":
        return _read_allowed(fields, tools)
    tool_choice = _forced(fields, kind, "tool_choice")
    if not any(_matches(tool_choice, tool) for tool in tools):
        wrong("tool_choice", f"names {_describe(tool_choice)}, which 'tools' does not list")
    return tool_choice


def _read_allowed(fields: Mapping[str, Any], tools: tuple[Tool, ...]) -> ToolChoice:
    mode = fields.get("mode")
    if mode not in ("auto", "required"):
        not_one_of("tool_choice.mode", mode, ("auto", "required"))
    allowed_tools = set()
    references = json_values.items(fields.get("tools"), "tool_choice.tools")
    if not references:
        wrong("tool_choice.tools", "must not be empty; to allow no tool, send 'none' as 'tool_choice'")
    other_types = {tool.kind for tool in tools if isinstance(tool, DeclaredTool)}
    other_types |= {"tool_search" for tool in tools if isinstance(tool, ToolSearchTool)}
    for number, reference in enumerate(references):
        at = f"tool_choice.tools[{number}]"
        item = json_values.mapping(reference, at, "an object with a 'type'")
        kind = json_values.needed(item, "type", at)
        if kind in other_types:
            continue  # the model cannot be given such a tool, or always has it
        tool_choice = _forced(item, kind, at)
        if not any(_matches(tool_choice, tool) for tool in tools):
            wrong(at, f"names {_describe(tool_choice)}, which 'tools' does not list")
        allowed_tools.add((tool_choice.kind, tool_choice.label, tool_choice.name))
    if mode == "required" and not allowed_tools:
        wrong(
            "tool_choice.tools", "lists no tool that Portico can call, but 'tool_choice.mode' is 'required'"
        )
    return ToolChoice(mode, allowed=frozenset(allowed_tools))


def _forced(fields: Mapping[str, Any], kind: str, at: str) -> ToolChoice:
    if kind == "function":
        return ToolChoice("required", kind, json_values.needed(fields, "name", at))
    if kind == "mcp":
        name = json_values.text(fields.get("name") or "", f"{at}.name")
        return ToolChoice("required", kind, name, json_values.needed(fields, "server_label", at))
    if kind not in HOSTED:
        unsupported(f"{at}.type", f"is '{kind}', which Portico cannot call")
    return ToolChoice("required", kind)


def _matches(choice: ToolChoice, tool: Tool) -> bool:
    match tool:
        case FunctionTool():
            return choice.kind == "function" and choice.name == tool.name
        case NamespaceTool():
            return any(_matches(choice, function) for function in tool.functions)
        case McpTool():
            is_offered = not choice.name or tool.allowed is None or choice.name in tool.allowed
            return choice.kind == "mcp" and choice.label == tool.label and is_offered
        case FileSearchTool():
            return choice.kind == "file_search"
        case CodeInterpreterTool():
            return choice.kind == "code_interpreter"
        case ImageGenerationTool():
            return choice.kind == "image_generation"
        case ShellTool():
            return choice.kind == "shell"
        case ApplyPatchTool():
            return choice.kind == "apply_patch"
        case LocalShellTool():
            return choice.kind == "local_shell"
        case _:
            return False


def _describe(choice: ToolChoice) -> str:
    return " ".join(f"'{word}'" for word in (choice.kind, choice.label, choice.name) if word)
