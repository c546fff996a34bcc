"""Python signatures of functions, written from JSON schemas: types, defaults and a docstring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, Final

from portico_server.core.json_pointer import follow, pointer_keys

MAX_DEPTH: Final = 4
"""Maximum nesting of types in a signature; deeper values are ``Any``."""

MAX_LITERALS: Final = 20
"""Maximum number of values of an enumeration that a type lists."""

MAX_DESCRIPTION_CHARS: Final = 1_000
MAX_ARGUMENT_CHARS: Final = 300
"""Maximum length of an argument's description, in characters."""

_PLAIN_TYPES: Final[Mapping[str, str]] = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
}


def stub(
    name: str, description: str, input_schema: Mapping[str, Any], output_schema: Mapping[str, Any]
) -> str:
    """Return the function ``name`` as Python source without a body, after the classes of its types.

    Arguments have keywords only. A default that is not a plain value is written as ``...``.
    """
    classes: dict[str, str] = {}
    inputs, outputs = _Types(input_schema, classes), _Types(output_schema, classes)
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    properties = _properties(input_schema)
    required_names = _names(input_schema.get("required"))
    parameters, lines = [], [_line(description, MAX_DESCRIPTION_CHARS)]
    for key, schema in sorted(properties.items(), key=lambda item: item[0] not in required_names):
        if not is_name(key):
            parameters.append("**arguments: Any") if "**arguments: Any" not in parameters else None
            continue
        annotation = inputs.annotation(schema, f"{class_name}{key.title().replace('_', '')}")
        default = "" if key in required_names else f" = {_default(schema)}"
        parameters.append(f"{key}: {annotation}{default}")
        about = _line(schema.get("description"), MAX_ARGUMENT_CHARS) if isinstance(schema, Mapping) else ""
        if about:
            lines.append(f"{key}: {about}")
    parameters.sort(key=lambda parameter: parameter.startswith("**"))
    keywords = "*, " if parameters and not parameters[0].startswith("**") else ""
    result = outputs.annotation(output_schema, f"{class_name}Result")
    text = "\n    ".join(line for line in lines if line)
    docstring = f'    """{text}\n    """' if text else "    ..."
    head = f"def {name}({keywords}{', '.join(parameters)}) -> {result}:"
    return "\n\n".join([*classes.values(), f"{head}\n{docstring}"])


def is_name(text: str) -> bool:
    """Return whether a text can be the name of an argument or a field in Python."""
    return text.isidentifier() and not iskeyword(text)


class _Types:
    """The types of one schema. The source of each object type is added to ``classes`` under its name."""

    def __init__(self, schema: Mapping[str, Any], classes: dict[str, str]) -> None:
        self._root = schema
        self._classes = classes

    def annotation(self, schema: Any, name: str, depth: int = 0) -> str:
        """Return the type of a value. ``name`` is the name of its class, if the value is an object with fields."""
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return "Any"
        if isinstance(schema.get("$ref"), str):
            return self.annotation(self._target(schema["$ref"]), name, depth + 1)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list) and _are_literals(values):
            return f"Literal[{', '.join(map(repr, values))}]"
        for keyword in ("anyOf", "oneOf"):
            if isinstance(schema.get(keyword), list):
                return self._union(schema[keyword], name, depth)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._union([{**schema, "type": kind} for kind in kinds], name, depth)
        if kinds == "array":
            return f"list[{self.annotation(schema.get('items'), f'{name}Item', depth + 1)}]"
        if kinds == "object" or (kinds is None and _properties(schema)):
            return self._object(schema, name, depth)
        return _PLAIN_TYPES.get(kinds, "Any") if isinstance(kinds, str) else "Any"

    def _union(self, schemas: list[Any], name: str, depth: int) -> str:
        annotations = [
            self.annotation(schema, f"{name}{number or ''}", depth + 1)
            for number, schema in enumerate(schemas)
        ]
        return " | ".join(dict.fromkeys(annotations)) if annotations and "Any" not in annotations else "Any"

    def _object(self, schema: Mapping[str, Any], name: str, depth: int) -> str:
        properties = _properties(schema)
        if not properties or not all(map(is_name, properties)):
            values = schema.get("additionalProperties")
            of = self.annotation(values, f"{name}Value", depth + 1) if isinstance(values, Mapping) else "Any"
            return f"dict[str, {of}]"
        while name in self._classes:
            name += "_"
        self._classes[name] = ""  # reserves the name, because the fields can contain objects
        required_names = _names(schema.get("required"))
        fields = []
        for key, value in properties.items():
            field = self.annotation(value, f"{name}{key.title().replace('_', '')}", depth + 1)
            fields.append(f"    {key}: {field if key in required_names else f'NotRequired[{field}]'}")
        self._classes[name] = "\n".join([f"class {name}(TypedDict):", *fields])
        return name

    def _target(self, reference: str) -> Any:
        """Return the schema that a reference within the same document names, or ``None``."""
        if not reference.startswith("#/"):
            return None
        try:
            return follow(self._root, pointer_keys(reference))
        except KeyError:
            return None


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _names(value: Any) -> frozenset[str]:
    return (
        frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()
    )


def _are_literals(values: list[Any]) -> bool:
    return 0 < len(values) <= MAX_LITERALS and all(
        value is None or isinstance(value, str | int | bool) for value in values
    )


def _default(schema: Any) -> str:
    default = schema.get("default", ...) if isinstance(schema, Mapping) else ...
    is_plain = default is None or isinstance(default, str | int | float | bool)
    return repr(default) if is_plain and len(json.dumps(default)) <= MAX_ARGUMENT_CHARS else "..."


def _line(text: Any, limit: int) -> str:
    """Return a description as one line that cannot end the docstring."""
    line = " ".join(str(text or "").split())
    line = line if len(line) <= limit else f"{line[:limit]}…"
    return line.replace("\\", "\\\\").replace('"""', "'''")
