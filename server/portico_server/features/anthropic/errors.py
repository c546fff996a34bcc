"""Errors in Anthropic's format, with Anthropic's error types and statuses. Pure.

Source: https://platform.claude.com/docs/en/api/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.api.declarations import Declaration
from portico_server.api.error_shape import OPENAI, Shape
from portico_server.core.errors import PorticoError
from portico_server.features.anthropic.request import ThreadRefused
from portico_server.features.anthropic.stream import PING
from portico_server.models.openai_wire import UpstreamFailed

VERSION = b"anthropic-version"

STATUS_OVERLOADED = 529

TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    STATUS_OVERLOADED: "overloaded_error",
}
"""Error types, keyed by HTTP status. Any other 4xx is an ``invalid_request_error``, any other 5xx an ``api_error``."""


MESSAGES_ERROR: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
    },
}
"""The JSON schema of an error."""

REFUSED: Final[Declaration] = {
    "4XX": {
        "description": "An error in Anthropic's format",
        "content": {"application/json": {"schema": MESSAGES_ERROR}},
    }
}
"""The errors of an endpoint in Anthropic's format."""


def is_versioned(scope: Mapping[str, Any]) -> bool:
    """Return whether a request has the ``anthropic-version`` header, which Anthropic's clients always send."""
    return any(name == VERSION for name, _value in scope["headers"])


def status_of(error: PorticoError) -> int:
    """Return Anthropic's status for an error. Temporary errors become 529, which Anthropic's clients retry."""
    upstream = error.upstream if isinstance(error, UpstreamFailed) else error.status
    return STATUS_OVERLOADED if upstream in (503, STATUS_OVERLOADED) else error.status


def body_of(error: PorticoError, request_id: str) -> bytes:
    """Return an error as a JSON document."""
    status = status_of(error)
    kind = TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    detail: dict[str, Any] = {"type": kind, "message": error.message}
    if isinstance(error, ThreadRefused):
        detail["details"] = {"error_code": error.code}
    return orjson.dumps({"type": "error", "error": detail, "request_id": request_id})


def frame_of(error: PorticoError, request_id: str) -> bytes:
    """Return the error event that ends a stream."""
    return b"event: error\ndata: " + body_of(error, request_id) + b"\n\n"


ANTHROPIC = Shape("Anthropic", status_of, body_of, frame_of, (b"x-request-id", b"request-id"), PING)


def shape_at_models(scope: Mapping[str, Any]) -> Shape:
    """Return the error format for ``/v1/models``, which Anthropic's and OpenAI's clients share."""
    return ANTHROPIC if is_versioned(scope) else OPENAI
