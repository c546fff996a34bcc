"""A file that a tool made, as its result shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from portico_server.core.request import Artifact

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
"""JSON schema of what `with_link` gives."""


def with_link(artifact: Artifact) -> dict[str, Any]:
    """An artifact with the link to its bytes."""
    return {**asdict(artifact), "link": artifact.link}
