"""Validates the tools and response format of a chat completion. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

from portico_server.core import fields
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

MAX_TOOLS = 1_000
"""Maximum number of tools in a request. The context of a model, or its provider, can have a lower limit."""


FORMATS = ("text", "json_object", "json_schema")


ALLOWED_TOOLS: Final = "allowed_tools"
"""Type of a tool choice that lists several tools."""

_NAMED_TYPES: Final = ("function", "custom")
"""Types of tools that have a name in an object of their type."""

_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check_tools(tools: Any, path: str) -> None:
    """Raise `InvalidRequest` unless the value is a valid list of tools."""
    if not isinstance(tools, list):
        wrong_type(path, "a list of tools", tools)
    if len(tools) > MAX_TOOLS:
        wrong(path, f"has {len(tools)} items; at most {MAX_TOOLS} are allowed")
    for index, tool in enumerate(tools):
        at = f"{path}[{index}]"
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            wrong(at, "must be an object with a string 'type'")
        if tool["type"] != "function":
            continue  # an upstream may support this kind of tool
        function = tool.get("function")
        if not isinstance(function, dict):
            wrong_type(f"{at}.function", "an object with a 'name'", function)
        name = function.get("name")
        if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
            wrong(f"{at}.function.name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
        parameters = function.get("parameters")
        if parameters is not None:
            fields.check_parameters(name, parameters, f"{at}.function.parameters")


def check_response_format(value: Any, path: str) -> None:
    """Raise `InvalidRequest` unless the value is a valid response format."""
    if not isinstance(value, dict):
        wrong_type(path, "an object with a 'type'", value)
    kind = value.get("type")
    if kind not in FORMATS:
        not_one_of(f"{path}.type", kind, FORMATS)
    schema = value.get("schema")
    if kind == "json_object" and schema is not None:  # llama.cpp's form
        if not isinstance(schema, dict):
            wrong_type(f"{path}.schema", "a JSON Schema object", schema)
        fields.check_schema("response_format", schema, path)
    if kind != "json_schema":
        return
    wrapper = value.get("json_schema")
    if not isinstance(wrapper, dict):
        missing(f"{path}.json_schema")
    if not isinstance(wrapper.get("name"), str):
        missing(f"{path}.json_schema.name")
    if not isinstance(wrapper.get("schema"), dict):
        wrong_type(f"{path}.json_schema.schema", "a JSON Schema object", wrapper.get("schema"))
    fields.check_schema(wrapper["name"], wrapper["schema"], path)


def check_tool_choice(value: Any, path: str) -> None:
    """Raise `InvalidRequest` unless the value is a valid tool choice."""
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            not_one_of(path, value, ("none", "auto", "required"))
    elif not isinstance(value, dict):
        wrong_type(path, "a string or an object", value)


def check_chosen_tool(choice: Any, tools: Sequence[Any]) -> None:
    """Raise `InvalidRequest` if the tool choice is malformed or names a tool that is not in ``tools``."""
    if choice in (None, "none", "auto"):
        return
    if choice == "required":
        if not any(tool["type"] == "function" for tool in tools):
            wrong("tool_choice", "is 'required', but 'tools' lists no function")
    elif choice.get("type") == ALLOWED_TOOLS:
        _check_allowed_tools(choice.get(ALLOWED_TOOLS), _names_by_type(tools), f"tool_choice.{ALLOWED_TOOLS}")
    else:
        _check_reference(choice, {ALLOWED_TOOLS: set(), **_names_by_type(tools)}, "tool_choice")


def apply_allowed_tools(body: dict[str, Any]) -> None:
    """Replace a tool choice of the type ``allowed_tools`` by its mode, and keep only its tools in ``tools``.

    Few engines and providers support this type.
    """
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == ALLOWED_TOOLS:
        allowed_choice = choice[ALLOWED_TOOLS]
        allowed_tools = {(reference["type"], _name_of(reference)) for reference in allowed_choice["tools"]}
        body["tools"] = [tool for tool in body["tools"] if (tool["type"], _name_of(tool)) in allowed_tools]
        body["tool_choice"] = allowed_choice["mode"]


def _names_by_type(tools: Sequence[Any]) -> dict[str, set[str | None]]:
    """Return the names of the tools of each type. Functions can always be chosen."""
    names: dict[str, set[str | None]] = {"function": set()}
    for tool in tools:
        names.setdefault(tool["type"], set()).add(_name_of(tool))
    return names


def _check_allowed_tools(value: Any, names_by_type: Mapping[str, Set[str | None]], path: str) -> None:
    if value is None:
        missing(path)
    if not isinstance(value, dict):
        wrong_type(path, "an object with 'mode' and 'tools'", value)
    if value.get("mode") not in ("auto", "required"):
        not_one_of(f"{path}.mode", value.get("mode"), ("auto", "required"))
    references = value.get("tools")
    if not isinstance(references, list):
        wrong_type(f"{path}.tools", "a list of tools", references)
    if not references:
        wrong(f"{path}.tools", "must not be empty; to allow no tool, send 'none' as 'tool_choice'")
    for index, reference in enumerate(references):
        at = f"{path}.tools[{index}]"
        if not isinstance(reference, dict):
            wrong_type(at, "an object with a 'type'", reference)
        _check_reference(reference, names_by_type, at)


def _check_reference(
    reference: Mapping[str, Any], names_by_type: Mapping[str, Set[str | None]], path: str
) -> None:
    """Raise `InvalidRequest` unless ``reference`` has the type and the name, if there is one, of an offered tool."""
    kind = reference.get("type")
    if kind is None:
        missing(f"{path}.type")
    if not isinstance(kind, str) or kind not in names_by_type:
        not_one_of(f"{path}.type", kind, sorted(names_by_type))
    if kind not in _NAMED_TYPES:
        return
    name = _name_of(reference)
    if name is None:
        missing(f"{path}.{kind}.name")
    if name not in names_by_type[kind]:
        tool_list = ", ".join(sorted(filter(None, names_by_type[kind]))) or "nothing"
        wrong(f"{path}.{kind}.name", f"is '{name}', but 'tools' lists {tool_list}")


def _name_of(tool: Mapping[str, Any]) -> str | None:
    """Return the name in a tool or in a reference to a tool."""
    details = tool.get(tool["type"])
    name = details.get("name") if isinstance(details, dict) else None
    return name if isinstance(name, str) else None
