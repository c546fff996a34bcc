"""The keywords of JSON schemas (draft 2020-12) that contain schemas."""

from __future__ import annotations

from typing import Final

SCHEMA_KEYWORDS: Final = (
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
"""Keywords whose value is a schema."""

LIST_KEYWORDS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
"""Keywords whose value is a list of schemas."""

DEFINITION_KEYWORDS: Final = ("$defs", "definitions")
"""Keywords whose value maps names to the definitions of a schema."""

NAMED_KEYWORDS: Final = (*DEFINITION_KEYWORDS, "dependentSchemas", "patternProperties", "properties")
"""Keywords whose value maps names to schemas."""
