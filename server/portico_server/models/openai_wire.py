"""Parts of the OpenAI wire format that all engines share: errors and the arguments of functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from portico.wire import ErrorBody
from portico_server.core.errors import EngineFailed, PorticoError, Unavailable
from portico_server.core.words import whole_number

MAX_MESSAGE_CHARS = 2_000
"""Maximum length, in characters, of an engine's message that is passed on."""


PASSING_STATUSES = frozenset({502, 503, 504, 529})
"""Temporary failures of a server. A 500 is not among them: the call may have been carried out."""


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


_WORDS = ("message", "detail", "error", "msg", "error_msg", "error_message", "errorMessage", "status_msg")
"""Names of the field with the text of an error, the most specific one first."""

_ANSWERS = ("data", "results", "text")
"""Fields with the content of an answer other than ``choices``: of vectors and images, of rankings, and of speech."""

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
    """Return the error from a parsed body in OpenAI's format, as FastAPI's ``detail``, as ``{"error": "text"}``, or in
    another form with a text in one of ``_WORDS``.
    """
    if isinstance(document, list) and len(document) == 1:
        document = document[0]  # Gemini's
    error = document.get("error", document) if isinstance(document, dict) else document
    if error is True:
        error = _without_error(document)
    fields = error if isinstance(error, dict) else {"message": error}
    message = next((fields[name] for name in _WORDS if fields.get(name)), None)
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


def error_in(document: Any, name: str) -> PorticoError | None:
    """Return the error that an engine sent in a response with status 200, or ``None`` if the document has none.

    An ``error`` beside an answer is an error too. A message without ``error`` is one if the document has no answer.
    """
    if isinstance(document, list) and document:
        document = document[0]  # Gemini's
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if error:
        status = _status_in(error) or _status_in(document) or 500
        return error_from_json(status, document, name)
    if document.get("object") == "error" or document.get("type") == "error":
        return error_from_json(_status_in(document) or 500, _without_error(document), name)
    if document.get("choices") is not None or any(document.get(field) is not None for field in _ANSWERS):
        return None
    base_response = document.get("base_resp")  # MiniMax's
    if isinstance(base_response, dict) and base_response.get("status_code"):
        return error_from_json(_status_in(base_response) or 500, base_response, name)
    errors = document.get("errors")  # Cloudflare's
    if isinstance(errors, list) and errors:
        return error_from_json(_status_in(document) or 500, {"error": errors[0]}, name)
    if any(isinstance(document.get(field), str) and document[field] for field in _WORDS) or document.get(
        "detail"
    ):
        return error_from_json(_status_in(document) or 500, _without_error(document), name)
    return None


def _without_error(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "error"}


def _status_in(fields: Any) -> int | None:
    """Return the HTTP status that an error names, as a number or as digits."""
    if not isinstance(fields, dict):
        return None
    for field in ("code", "status", "status_code", "http_status"):
        value = fields.get(field)
        number = whole_number(value, 3) if isinstance(value, str) else value
        if isinstance(number, int) and 400 <= number < 600:
            return number
    return None


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
