"""Declarations of responses that FastAPI cannot derive from types, for ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

BYTES: Final = {"type": "string", "format": "binary"}
"""The schema of bytes."""

TEXT: Final = {"type": "string"}
"""The schema of a text or an event stream."""

OBJECT_CONTENT: Final[Mapping[str, Any]] = {
    "application/json": {"schema": {"type": "object", "additionalProperties": True}}
}
"""The content of a response with an object whose fields another project specifies."""

Declaration: TypeAlias = dict[int | str, dict[str, Any]]
"""The ``responses`` of an endpoint."""


def binary(description: str, *media_types: str) -> Declaration:
    """Return the declaration of an endpoint that answers with bytes."""
    return {200: {"description": description, "content": binary_content(*media_types)}}


def binary_content(*media_types: str) -> dict[str, Any]:
    """Return the content of a response with bytes of one of the media types.

    ``application/octet-stream`` comes first, because it is the only type that every code generator reads as bytes.
    """
    return {kind: {"schema": BYTES} for kind in ("application/octet-stream", *media_types)}


FILE_BYTES: Final = binary("The bytes of the file, with its media type", "*/*")
"""A response with the bytes of a file of any type."""

ARCHIVE: Final = binary("A zip archive", "application/zip")
"""A response with a zip archive."""

DRAWING: Final[Declaration] = {
    200: {
        "description": "The drawing in the requested format",
        "content": {"text/plain": {"schema": TEXT}, "image/svg+xml": {"schema": TEXT}},
    }
}
"""A response with a drawing as the text of Mermaid or as SVG."""

RUN_EVENTS: Final[Declaration] = {
    200: {
        "description": "The events of the run, in order",
        "content": {"text/event-stream": {"schema": TEXT}},
    }
}
"""A response with the events of a run."""


def document(shape: type[BaseModel]) -> Declaration:
    """Return the declaration of an endpoint that answers with an object in OpenAI's format."""
    return {200: {"description": "As at OpenAI", "model": shape}}
