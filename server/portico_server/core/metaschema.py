"""Whether something is a JSON schema (draft 2020-12), and how large it is, in one walk.

jsonschema's own check costs a fifth of a millisecond for each part of a schema; schemas come from outside and are
checked on the event loop, so this walk does it in a hundredth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MAX_SCHEMA_DEPTH: Final = 64
"""Objects and lists within each other in a schema."""

MAX_SCHEMA_NODES: Final = 10_000
"""Objects, lists and values in a schema."""

_TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
_SCHEMA: Final = (
    *(
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
    ),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_SCHEMAS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return _is_list(value) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _are_types(value: Any) -> bool:
    return (
        value in _TYPES
        if _is_text(value)
        else _are_names(value) and len(value) > 0 and set(value) <= set(_TYPES)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


_Kind = tuple[str, Callable[[Any], bool]]

_TEXT: Final[_Kind] = ("a text", _is_text)
_COUNT: Final[_Kind] = ("a whole number of at least 0", _is_count)
_NUMBER: Final[_Kind] = ("a number", _is_number)
_TRUTH: Final[_Kind] = ("true or false", _is_truth)

_VALUES: Final[Mapping[str, _Kind]] = {
    **dict.fromkeys(
        ["$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema"], _TEXT
    ),
    **dict.fromkeys(
        ["contentEncoding", "contentMediaType", "description", "format", "pattern", "title"], _TEXT
    ),
    **dict.fromkeys(["maxContains", "maxItems", "maxLength", "maxProperties"], _COUNT),
    **dict.fromkeys(["minContains", "minItems", "minLength", "minProperties"], _COUNT),
    **dict.fromkeys(["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"], _NUMBER),
    **dict.fromkeys(["deprecated", "readOnly", "uniqueItems", "writeOnly"], _TRUTH),
    "multipleOf": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "required": ("a list of different names", _are_names),
    "type": (f"one of {', '.join(_TYPES)}, or a list of them", _are_types),
    "enum": ("a list", _is_list),
    "examples": ("a list", _is_list),
    "dependentRequired": (
        "an object of lists of names",
        lambda value: isinstance(value, Mapping) and all(map(_are_names, value.values())),
    ),
    "$vocabulary": (
        "an object of true and false",
        lambda value: isinstance(value, Mapping) and all(map(_is_truth, value.values())),
    ),
}


@dataclass(slots=True)
class Survey:
    """What a walk found: the number of ``nodes``, ``patterns`` with their places, the first ``wrong`` thing in words,
    and the ``keywords`` that were used.
    """

    nodes: int = 0
    patterns: list[tuple[str, str]] = field(default_factory=list)
    wrong: str = ""
    keywords: set[str] = field(default_factory=set)


def survey(schema: Any) -> Survey:
    """Walk through a schema until something is wrong."""
    found = Survey()
    stack: list[tuple[Any, int, str]] = [(schema, 1, "")]
    while stack and not found.wrong:
        value, depth, at = stack.pop()
        found.nodes += 1
        if depth > MAX_SCHEMA_DEPTH:
            found.wrong = f"it is nested too deeply; at most {MAX_SCHEMA_DEPTH} levels are allowed"
        elif found.nodes > MAX_SCHEMA_NODES:
            found.wrong = f"it has more than {MAX_SCHEMA_NODES:,} parts"
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                stack += _inner(found, name, inner, depth, f"{at}.{str(name)[:80]}")
        elif not isinstance(value, bool):
            found.wrong = f"{at or 'the top'} must be an object, true or false, not {str(value)[:80]!r}"
    return found


def _inner(found: Survey, name: str, value: Any, depth: int, at: str) -> Sequence[tuple[Any, int, str]]:
    """The schemas under one keyword, to be walked through."""
    if name in _SCHEMA:
        found.keywords.add(name)
        return [(value, depth + 1, at)]
    if name in _SCHEMAS:
        if not _is_list(value) or not value:
            found.wrong = found.wrong or f"{at} must be a list of schemas"
            return []
        return [(one, depth + 2, f"{at}[{number}]") for number, one in enumerate(value)]
    if name in _NAMED:
        if not isinstance(value, Mapping):
            found.wrong = found.wrong or f"{at} must be an object of schemas"
            return []
        found.keywords.add(name)
        if name == "patternProperties":
            found.patterns += ((at, str(pattern)) for pattern in value)
        return [(one, depth + 2, f"{at}.{str(key)[:80]}") for key, one in value.items()]
    found.nodes += 1
    kind = _VALUES.get(name)
    if kind is not None and not kind[1](value):
        found.wrong = found.wrong or f"{at} must be {kind[0]}, not {str(value)[:80]!r}"
    elif name == "pattern":
        found.patterns.append((at, value))
    return []
