"""One JSON schema for the values that two schemas allow. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from portico_server.core.schema_keywords import DEFINITION_KEYWORDS, SCHEMA_KEYWORDS
from portico_server.models.engines.openai_client.grammar_keywords import RESTRICTING, types_of

_LIMITS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(("exclusiveMinimum", "minItems", "minLength", "minProperties", "minimum"), max),
    **dict.fromkeys(("exclusiveMaximum", "maxItems", "maxLength", "maxProperties", "maximum"), min),
}
"""Which of two numbers is the stricter one."""


def merge_schemas(
    schema: Mapping[str, Any], other_schema: Mapping[str, Any], unmerged: set[str]
) -> dict[str, Any]:
    """Return a schema that both schemas restrict. Of annotations, ``other_schema``'s count.

    The other keywords of which only ``other_schema``'s count are added to ``unmerged``.
    """
    merged_schema = {**schema, **other_schema}
    for name in schema.keys() & other_schema.keys():
        first, second = schema[name], other_schema[name]
        if first != second:
            merged_schema[name] = _value_of_both(name, first, second, unmerged)
    return merged_schema


def _value_of_both(name: str, first: Any, second: Any, unmerged: set[str]) -> Any:
    """Return the value of a keyword that means both values."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if name in DEFINITION_KEYWORDS:
            return {**first, **second}
        if name in ("properties", "patternProperties"):
            shared_names = first.keys() & second.keys()
            return {
                **first,
                **second,
                **{key: _both_schemas(first[key], second[key]) for key in shared_names},
            }
    if name in SCHEMA_KEYWORDS:
        return _both_schemas(first, second)
    if name in _LIMITS and isinstance(first, int | float) and isinstance(second, int | float):
        return _LIMITS[name](first, second)
    if isinstance(first, list) and isinstance(second, list):
        if name == "allOf":
            return [*first, *second]
        if name == "required":
            return list(dict.fromkeys(item for item in (*first, *second) if isinstance(item, str)))
        if name == "enum" and (shared_values := _shared_values(first, second)):
            return shared_values
    if name == "type" and (shared_types := _shared_types(first, second)):
        return shared_types[0] if len(shared_types) == 1 else shared_types
    if name in RESTRICTING:
        unmerged.add(name)
    return second


def _both_schemas(first: Any, second: Any) -> Any:
    """Return a schema for the values that two schemas inside others allow."""
    if first is False or second is False:
        return False
    schemas = first["allOf"] if isinstance(first, Mapping) and first.keys() == {"allOf"} else [first]
    return {"allOf": [*schemas, second]}


def _shared_values(first: list[Any], second: list[Any]) -> list[Any]:
    second_texts = {orjson.dumps(value) for value in second}
    return [value for value in first if orjson.dumps(value) in second_texts]


def _shared_types(first: Any, second: Any) -> list[str]:
    """Return the types that both values of ``type`` allow. Every integer is a number."""
    types, other_types = types_of(first), types_of(second)
    return [
        name
        for name in dict.fromkeys([*types, *other_types])
        if all(name in group or (name == "integer" and "number" in group) for group in (types, other_types))
    ]
