"""Parts of the OpenAI wire format that all engines share: errors and the arguments of functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from portico.wire import ErrorBody
from portico_server.core.errors import EngineFailed, PorticoError, Unavailable

MAX_MESSAGE_CHARS = 2_000
"""Maximum length, in characters, of an engine's message that is passed on."""


class EngineRefused(PorticoError):
    """An engine's 4xx response, with the engine's own status, type, code and param."""

    def __init__(self, status: int, body: ErrorBody, retry_after: float | None = None) -> None:
        super().__init__(body.message, param=body.param, retry_after=retry_after)
        self.status = status
        self.type = body.type
        self.code = body.code


class UpstreamFailed(EngineFailed):
    """An engine's 5xx response; ``upstream`` is the engine's status."""

    def __init__(self, message: str, upstream: int, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.upstream = upstream


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def type_of(status: int) -> str:
    """Return the ``type`` of OpenAI's errors with this status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_of(status: int, data: bytes, name: str, retry_after: float | None = None) -> PorticoError:
    """Return the error for a response of the engine of ``name``, from ``status`` and the body."""
    try:
        document: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data[:MAX_MESSAGE_CHARS].decode("utf-8", "replace").strip()
        # The text of an HTML page is useless to a program.
        document = {} if text.startswith("<") else {"message": text}
    return error_from_json(status, document, name, retry_after)


def error_from_json(status: int, document: Any, name: str, retry_after: float | None = None) -> PorticoError:
    """Return the error from a parsed body in OpenAI's format, as FastAPI's ``detail``, or as ``{"error": "text"}``."""
    error = document.get("error", document) if isinstance(document, dict) else document
    fields = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message") or fields.get("detail") or fields.get("error")
    text = message if isinstance(message, str) else orjson.dumps(message).decode() if message else ""
    text = text[:MAX_MESSAGE_CHARS] or f"The engine of '{name}' responded with status {status} and no reason."
    if 400 <= status < 500:
        kind = fields.get("type")
        code, param = fields.get("code"), fields.get("param")
        body = ErrorBody(
            text,
            kind if isinstance(kind, str) else type_of(status),
            # Some servers put the HTTP status into 'code'; clients expect a word.
            code if isinstance(code, str) and not code.isdigit() else None,
            param if isinstance(param, str) else None,
        )
        return EngineRefused(status, body, retry_after)
    if status == 503:
        return Unavailable(f"The engine of '{name}' is not available: {text}", retry_after=retry_after)
    return UpstreamFailed(f"The engine of '{name}' failed: {text}", status, retry_after)


def error_in(document: Any, name: str) -> PorticoError:
    """Return the error that an engine sent in a response with status 200."""
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return error_from_json(code if isinstance(code, int) and 400 <= code < 600 else 500, document, name)


def frame(error: PorticoError) -> bytes:
    """Return the error as a frame of a chat stream."""
    return b"data: " + orjson.dumps(error.body().to_json()) + b"\n\n"


_DESCRIBES = ("$ref", "additionalProperties", "allOf", "anyOf", "oneOf", "patternProperties", "properties")
"""Keywords with which a schema describes the contents of an object."""


def arguments_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object schema of a function's arguments. A function without declared parameters accepts none."""
    schema = {"type": "object", **(function.get("parameters") or {})}
    if any(schema.get(name) for name in _DESCRIBES):
        return schema
    return {**schema, "properties": {}, "additionalProperties": False}
