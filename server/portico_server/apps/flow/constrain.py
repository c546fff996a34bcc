"""A JSON schema as ``response_format`` wants it: an object at the top, every field said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

WRAPPED: Final = "value"
"""The only field of the object around a schema that is not an object itself: OpenAI wants an object at the top."""


def response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The option that constrains an answer to ``schema``; `unwrapped` undoes what it adds.

    ``strict`` is set where OpenAI's strict mode can hold it: every property required, none beside them.
    """
    inner = schema if schema.get("type") == "object" else _around(schema)
    closed = _closed(inner)
    strict = _all_required(closed)
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": closed, "strict": strict},
    }


def unwrapped(schema: Mapping[str, Any], value: Any) -> Any:
    """The value within the object that was put around its schema. A model that left it out is understood too."""
    if schema.get("type") != "object" and isinstance(value, dict) and set(value) == {WRAPPED}:
        return value[WRAPPED]
    return value


def _around(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {WRAPPED: dict(schema)}, "required": [WRAPPED]}


def _closed(schema: Any) -> Any:
    """The schema with every object closed that does not say otherwise."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        key: {name: _closed(part) for name, part in item.items()}
        if key in ("properties", "$defs") and isinstance(item, Mapping)
        else _closed(item)
        if key in ("items", "anyOf", "allOf", "oneOf", "prefixItems")
        else item
        for key, item in schema.items()
    }
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def _all_required(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(_all_required(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties") or {}
        if not properties or set(schema.get("required") or ()) != set(properties):
            return False
        if schema.get("additionalProperties") is not False:
            return False
        return all(_all_required(part) for part in properties.values())
    return all(_all_required(schema[key]) for key in ("items", "anyOf") if key in schema)
