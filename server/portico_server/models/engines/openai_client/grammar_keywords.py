"""The keywords of a JSON schema that llama.cpp's grammars do not enforce. Pure.

They were found in the grammars that llama.cpp b11549 makes; it reports only some of them, and only in its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NEVER: Final = frozenset(
    (
        *("contains", "dependencies", "dependentRequired", "dependentSchemas", "else", "maxContains"),
        *("maxProperties", "minContains", "minProperties", "multipleOf", "not", "patternProperties"),
        *("propertyNames", "then", "uniqueItems"),
    )
)

_BOUNDS: Final = frozenset(("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"))
_LENGTHS: Final = frozenset(("maxLength", "minLength"))
_COUNTS: Final = frozenset(("maxItems", "minItems"))
_OF_STRINGS: Final = frozenset((*_LENGTHS, "format", "pattern"))
_FORMATS: Final = frozenset(
    ("date", "date-time", "time", "uuid", *(f"uuid{version}" for version in range(1, 6)))
)

RESTRICTING: Final = frozenset(
    (
        *(_NEVER | _BOUNDS | _OF_STRINGS | _COUNTS),
        *(
            "$ref",
            "additionalItems",
            "additionalProperties",
            "allOf",
            "anyOf",
            "const",
            "enum",
            "if",
            "items",
        ),
        *(
            "oneOf",
            "prefixItems",
            "properties",
            "required",
            "type",
            "unevaluatedItems",
            "unevaluatedProperties",
        ),
    )
)
"""Keywords that restrict values. All others describe a schema, or are unknown."""


def unenforced_keywords(schema: Mapping[str, Any]) -> set[str]:
    """Return the keywords of ``schema`` that an answer may violate, without those of the schemas inside it.

    ``schema`` is what the engine gets: its references are resolved, and its pattern is one that llama.cpp reads.
    """
    keywords = {name for name, value in schema.items() if value is not False}
    unenforced = keywords & _NEVER
    if "const" in schema or "enum" in schema:
        return unenforced | keywords & (_BOUNDS | _OF_STRINGS)
    given_type = schema.get("type")
    types = ("array", "number", "object", "string") if given_type is None else types_of(given_type)
    if "number" in types:
        unenforced |= keywords & _BOUNDS
    if "string" in types and "pattern" in schema:
        unenforced |= keywords & (_LENGTHS | {"format"})
    elif "string" in types and isinstance(schema.get("format"), str):
        unenforced |= keywords & _LENGTHS if schema["format"] in _FORMATS else {"format"}
    if "type" not in schema:
        if not keywords & {"items", "prefixItems"}:
            unenforced |= keywords & _COUNTS
        if not keywords & {"additionalProperties", "properties"}:
            unenforced |= keywords & {"required"}
    return unenforced


def types_of(value: Any) -> list[str]:
    """Return the names of types in the value of ``type``."""
    return [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
