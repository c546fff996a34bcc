"""MCP messages as a bridge sees them: what goes into HTTP headers, and errors of its own. No I/O.

The headers are those of the streamable HTTP transport, both with a session (revisions up to 2025-11-25) and
without (2026-07-28): https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PARSE_ERROR_CODE: Final = -32700
INVALID_REQUEST_CODE: Final = -32600
UNREACHABLE_CODE: Final = -32000
"""The code of our own errors: the daemon is not there, refuses, or was cut off."""

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"(?! )[\x20-\x7e]*(?<! )")
_ENCODED = re.compile(r"=\?base64\?.*\?=")


class NotAMessage(ValueError):
    """A line that is no JSON-RPC message; ``code`` is JSON-RPC's."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class McpMessage:
    """One JSON-RPC message from the client: its bytes as they came, and what the bridge must know of it.

    ``id`` is set for requests alone; ``version`` for those of 2026-07-28 and later, which say it themselves;
    ``cancels`` is the id of the request that a ``notifications/cancelled`` ends.
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
        """The headers to post it with, in the session with that id and the version that was agreed on."""
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
    """The headers that say which session is meant, as far as it is known."""
    headers = {"mcp-session-id": session, "mcp-protocol-version": version}
    return {name: value for name, value in headers.items() if value}


def parse(line: bytes) -> McpMessage:
    """Read one line. Raises `NotAMessage`."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAMessage(PARSE_ERROR_CODE, f"This line is not JSON: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise NotAMessage(INVALID_REQUEST_CODE, "A line must be one JSON-RPC message, an object.")
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
    """A value as an HTTP header carries it: as it is, or in base64 where it would not survive."""
    if _PLAIN.fullmatch(value) and not _ENCODED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def error_line(request: str | int | None, code: int, sentence: str) -> bytes:
    """A JSON-RPC error as a line."""
    error = {"code": code, "message": sentence}
    return _line({"jsonrpc": "2.0", "id": request, "error": error})


def is_answer(line: bytes, request: str | int | None) -> bool:
    """Whether a message from the daemon is the answer to this request."""
    value = _object(line)
    return "method" not in value and value.get("id") == request


def agreed_version(line: bytes) -> str | None:
    """The protocol version in the answer to ``initialize``."""
    result = _object(line).get("result")
    version = result.get("protocolVersion") if isinstance(result, Mapping) else None
    return version if isinstance(version, str) else None


def one_line(data: str | bytes) -> bytes:
    """A message as one line: JSON may be spread over several."""
    raw = data.encode() if isinstance(data, str) else data
    return raw.strip() if b"\n" not in raw.strip() and b"\r" not in raw.strip() else _line(json.loads(raw))


def refusal_line(request: str | int | None, status: int, body: bytes) -> bytes:
    """A refusing HTTP response as a JSON-RPC error: the one it carries, or its sentence."""
    value = _object(body)
    error = value.get("error")
    if isinstance(error, Mapping) and "jsonrpc" in value:
        return _line({**value, "id": request})
    reason = error.get("message") if isinstance(error, Mapping) else None
    sentence = reason if isinstance(reason, str) else f"The daemon refused with HTTP {status} and no reason."
    return error_line(request, UNREACHABLE_CODE, sentence)


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
