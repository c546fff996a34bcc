"""Runs Python functions in a separate process: describes them once, then calls them line by line.

Any interpreter can run this file, so it uses only the standard library and does not import this package. The first
line of standard input is ``{"module", "function", "folder"}``, where ``*`` means all public functions; the answer is
``{"functions": {name: {"schema", "description"}}}`` or ``{"error"}``. Each further line is ``{"function", "arguments",
"key"}``; the answer is ``{"value"}`` or ``{"error"}``. During a call, the environment contains the call's key.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import importlib
import inspect
import json
import os
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def describe(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the JSON schema of a function's arguments from its annotations, and the first paragraph of its
    docstring.
    """
    hints = typing.get_type_hints(function)
    doc = inspect.getdoc(function) or ""
    properties: dict[str, Any] = {}
    required_names = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"the argument '{name}' cannot be passed by name")
        schema = schema_of(hints.get(name, Any))
        match = re.search(rf"^\s*(?::param\s+)?{name}\s*(?:\([^)]*\))?:\s*(.+)$", doc, re.M)
        if match:
            schema["description"] = match[1].strip()
        if parameter.default is parameter.empty:
            required_names.append(name)
        elif isinstance(parameter.default, str | int | float | bool | None):
            schema["default"] = parameter.default
        properties[name] = schema
    return {
        "description": " ".join(doc.split("\n\n")[0].split()),
        "schema": {
            "type": "object",
            "properties": properties,
            "required": required_names,
            "additionalProperties": False,
        },
    }


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type, or an empty schema for a type that JSON cannot express."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(member_type) for member_type in inner]}
    if origin in (list, set, tuple) or kind in (list, set, tuple):
        return {"type": "array", **({"items": schema_of(inner[0])} if inner else {})}
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", **({"additionalProperties": schema_of(inner[1])} if inner else {})}
    if kind is dict:
        return {"type": "object"}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        properties = {item.name: schema_of(hints[item.name]) for item in dataclasses.fields(kind)}
        return {"type": "object", "properties": properties}
    return {}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"the function returned a {type(value).__name__}, which JSON cannot express")


def _find(module: str, name: str) -> dict[str, Callable[..., Any]]:
    """Return functions by name: the function ``name``, or for ``*`` all functions that the module exports or else
    defines.
    """
    loaded_module: Any = importlib.import_module(module)
    if name == "*":
        public = getattr(loaded_module, "__all__", None)
        functions: dict[str, Callable[..., Any]] = {
            key: value
            for key, value in vars(loaded_module).items()
            if inspect.isfunction(value)
            and (
                key in public
                if public
                else value.__module__ == loaded_module.__name__ and not key.startswith("_")
            )
        }
        if not functions:
            raise TypeError(f"{module} has no public functions")
        return functions
    for part in name.split("."):
        loaded_module = getattr(loaded_module, part)
    if not callable(loaded_module):
        raise TypeError(f"{module}:{name} is not a function")
    return {name: loaded_module}


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    value = function(**arguments)
    if inspect.iscoroutine(value):
        value = asyncio.run(value)
    return json.dumps({"value": value}, default=_plain, ensure_ascii=False)


def main() -> None:
    """Serve until standard input ends."""
    voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output that functions print must not mix with the answers
    request = json.loads(sys.stdin.readline())
    # Our own folder must not be on the import path: its module names are common words.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    if request["folder"]:
        sys.path.insert(0, request["folder"])

    def say(line: str) -> None:
        voice.write(line + "\n")
        voice.flush()

    try:
        functions = _find(request["module"], request["function"])
        descriptions = {name: describe(function) for name, function in functions.items()}
        say(json.dumps({"functions": descriptions}, default=str))
    except Exception as error:  # noqa: BLE001  # anything that the user's module does on import
        say(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return
    for line in sys.stdin:
        try:
            call = json.loads(line)
            os.environ.pop("PORTICO_IDEMPOTENCY_KEY", None)
            if call["key"]:
                os.environ["PORTICO_IDEMPOTENCY_KEY"] = call["key"]
            answer = _call(functions[call["function"]], call["arguments"])
        except Exception as error:  # noqa: BLE001  # told to the model that called
            traceback.print_exc()
            answer = json.dumps({"error": f"{type(error).__name__}: {error}"})
        say(answer)


if __name__ == "__main__":
    main()
