"""Validates the tools and response format of a chat completion. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from portico_server.core import fields
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

MAX_TOOLS = 128


FORMATS = ("text", "json_object", "json_schema")


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
    """Raise `InvalidRequest` if the tool choice names a function that is not in ``tools``."""
    names = {tool["function"]["name"] for tool in tools if tool.get("type") == "function"}
    if choice == "required":
        if not names:
            wrong("tool_choice", "is 'required', but 'tools' lists no function")
        return
    if choice.get("type") != "function":
        return
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        missing("tool_choice.function.name")
    if name not in names:
        tool_list = ", ".join(sorted(names)) or "nothing"
        wrong("tool_choice.function.name", f"is '{name}', but 'tools' lists {tool_list}")
