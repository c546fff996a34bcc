"""The error format of the OAuth endpoints (RFC 6749, section 5.2)."""

from __future__ import annotations

from typing import Final

import orjson

from portico_server.api.auth.oauth_errors import OAuthError
from portico_server.api.error_shape import Shape
from portico_server.core.errors import PorticoError


def _code(error: PorticoError) -> str:
    if isinstance(error, OAuthError):
        return str(error.code)
    return "invalid_request" if error.status < 500 else "server_error"


def _body(error: PorticoError, _request_id: str) -> bytes:
    return orjson.dumps({"error": _code(error), "error_description": error.message})


OAUTH: Final = Shape(
    "OAuth",
    lambda error: error.status,
    _body,
    lambda error, request_id: b"data: " + _body(error, request_id) + b"\n\n",
    (b"x-request-id",),
    b": keep-alive\n\n",
)
