"""A file that a tool created, as shown in its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FIELDS: Final[Mapping[str, Any]] = {
    "id": {"type": "string"},
    "name": {"type": "string"},
    "media_type": {"type": "string"},
    "bytes": {"type": "integer"},
    "link": {"type": "string"},
}

ARTIFACT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": FIELDS,
    "required": list(FIELDS),
}
"""JSON schema of an `Artifact`."""
