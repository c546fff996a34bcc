"""MCP messages, as the bridge handles them: parsing, HTTP headers, and errors that the bridge itself creates. No I/O.

The headers are those of the streamable HTTP transport, both with a session (revisions up to 2025-11-25) and without
(2026-07-28): https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from portico._proxies import proxy_error

PARSE_ERROR_CODE: Final = -32700
INVALID_REQUEST_CODE: Final = -32600
UNREACHABLE_CODE: Final = -32000
"""Code of errors that the bridge creates: the daemon is unreachable or refuses, or the connection was lost."""

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"(?! )[\x20-\x7e]*(?<! )")
_ENCODED = re.compile(r"=\?base64\?.*\?=")


class NotAMessage(ValueError):
    """A line that is not a JSON-RPC message; ``code`` is the JSON-RPC error code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class McpMessage:
    """A JSON-RPC message from the client: its original bytes, and the fields that the bridge needs.

    ``id`` is set only for requests. ``version`` is set only for requests of protocol version 2026-07-28 and later,
    which contain it. ``cancels`` is the id of the request that a ``notifications/cancelled`` message cancels.
    """

    body: bytes
    method: str
    id: str | int | None
    version: str | None
    name: str | None
    cancels: str | int | None

    @property
    def is_request(self) -> bool:
        return self.id is not None

    def headers(self, session: str | None, version: str | None) -> dict[str, str]:
        """Return the headers for posting the message. ``session`` is the session's id, ``version`` the agreed protocol
        version.
        """
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        if self.version is not None:
            headers["mcp-protocol-version"] = self.version
            headers["mcp-method"] = self.method
            if self.name is not None:
                headers["mcp-name"] = header_value(self.name)
            return headers
        return {**headers, **session_headers(session, version)}


def session_headers(session: str | None, version: str | None) -> dict[str, str]:
    """Return the headers for the session id and the protocol version, if they are known."""
    headers = {"mcp-session-id": session, "mcp-protocol-version": version}
    return {name: value for name, value in headers.items() if value}


def parse(line: bytes) -> McpMessage:
    """Parse one line. Raises `NotAMessage`."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAMessage(PARSE_ERROR_CODE, f"This line is not JSON: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise NotAMessage(INVALID_REQUEST_CODE, "A line must be a single JSON-RPC message, an object.")
    params = value.get("params")
    params = params if isinstance(params, Mapping) else {}
    meta = params.get("_meta")
    method = value.get("method")
    method = method if isinstance(method, str) else ""
    name = params.get(_NAMED.get(method, ""))
    version = meta.get(_VERSION_KEY) if isinstance(meta, Mapping) and method != "initialize" else None
    return McpMessage(
        body=line.strip(),
        method=method,
        id=_identifier(value.get("id")) if method else None,
        version=version if isinstance(version, str) else None,
        name=name if isinstance(name, str) else None,
        cancels=_identifier(params.get("requestId")) if method == "notifications/cancelled" else None,
    )


def header_value(value: str) -> str:
    """Return a value as an HTTP header value: unchanged if a header can contain it, otherwise in base64."""
    if _PLAIN.fullmatch(value) and not _ENCODED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def error_line(request: str | int | None, code: int, sentence: str) -> bytes:
    """Return a JSON-RPC error as a line."""
    error = {"code": code, "message": sentence}
    return _line({"jsonrpc": "2.0", "id": request, "error": error})


def is_answer(line: bytes, request: str | int | None) -> bool:
    """Return whether a message from the daemon is the response to this request."""
    value = _object(line)
    return "method" not in value and value.get("id") == request


def agreed_version(line: bytes) -> str | None:
    """Return the protocol version in the response to ``initialize``."""
    result = _object(line).get("result")
    version = result.get("protocolVersion") if isinstance(result, Mapping) else None
    return version if isinstance(version, str) else None


def one_line(data: str | bytes) -> bytes:
    """Return a message as one line: JSON may span several lines."""
    raw = data.encode() if isinstance(data, str) else data
    return raw.strip() if b"\n" not in raw.strip() and b"\r" not in raw.strip() else _line(json.loads(raw))


def refusal_line(request: str | int | None, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Convert an HTTP error response to a JSON-RPC error: the JSON-RPC error in its body, or else a new error with the
    body's message, or with a sentence about the proxy that wrote the body.
    """
    value = _object(body)
    error = value.get("error")
    if isinstance(error, Mapping) and "jsonrpc" in value:
        return _line({**value, "id": request})
    reason = error.get("message") if isinstance(error, Mapping) else None
    if not isinstance(reason, str):
        refusal = proxy_error(status, headers, body, 0)
        reason = refusal.message if refusal else f"The daemon refused with HTTP {status} and gave no reason."
    return error_line(request, UNREACHABLE_CODE, reason)


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _identifier(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
