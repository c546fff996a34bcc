"""Errors of a connection that occur before the request reaches the gateway."""

from __future__ import annotations

from typing import Final

import orjson

from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id

MAX_HEADERS: Final = 256
MAX_HEADER_BYTES: Final = 64 * 1024
"""Maximum size of the URL and all headers of a request, in bytes as received."""

MAX_URL_BYTES: Final = 32 * 1024

_REASONS: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class HeadersTooLarge(PorticoError):
    """The headers exceed the maximum size or number."""

    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"

    def __init__(self) -> None:
        super().__init__(
            f"The headers are larger than {MAX_HEADER_BYTES // 1024} KB or more than {MAX_HEADERS} in "
            "number; send fewer or shorter headers."
        )


class UrlTooLong(PorticoError):
    """The URL in the request line is too long."""

    status = 414
    type = "invalid_request_error"
    code = "url_too_long"

    def __init__(self) -> None:
        super().__init__(f"The URL is longer than {MAX_URL_BYTES // 1024} KB.")


class ClientTooSlow(PorticoError):
    """The client did not send its request in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class MalformedRequest(PorticoError):
    """The received data is not HTTP."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_http"


def error_response(error: PorticoError) -> bytes:
    """Return the bytes of a complete response, after which the connection closes."""
    body = orjson.dumps(error.body().to_json())
    head = (
        f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\ncontent-type: application/json\r\n"
        f"x-content-type-options: nosniff\r\nx-request-id: {new_id('req_')}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
