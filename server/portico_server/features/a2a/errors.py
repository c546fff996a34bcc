"""Errors of the Agent2Agent protocol: JSON-RPC errors, and ``google.rpc.Status`` over plain HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.api.error_shape import Shape
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError

DOMAIN: Final = "a2a-protocol.org"
_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
_BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of error: its JSON-RPC code, its name, its HTTP status and its gRPC status."""

    code: int
    reason: str
    http: int
    status: str


_INVALID_PARAMS: Final = ErrorKind(-32602, "INVALID_PARAMS", 400, "INVALID_ARGUMENT")
_KINDS: Final[Mapping[str, ErrorKind]] = {
    "task_not_found": ErrorKind(-32001, "TASK_NOT_FOUND", 404, "NOT_FOUND"),
    "push_config_not_found": ErrorKind(-32001, "TASK_NOT_FOUND", 404, "NOT_FOUND"),
    "task_not_cancelable": ErrorKind(-32002, "TASK_NOT_CANCELABLE", 400, "FAILED_PRECONDITION"),
    "task_not_waiting": ErrorKind(-32004, "UNSUPPORTED_OPERATION", 400, "FAILED_PRECONDITION"),
    "content_type_not_supported": ErrorKind(-32005, "CONTENT_TYPE_NOT_SUPPORTED", 400, "INVALID_ARGUMENT"),
    "no_extended_card": ErrorKind(-32004, "UNSUPPORTED_OPERATION", 400, "FAILED_PRECONDITION"),
    "version_not_supported": ErrorKind(-32009, "VERSION_NOT_SUPPORTED", 400, "FAILED_PRECONDITION"),
    "unknown_method": ErrorKind(-32601, "METHOD_NOT_FOUND", 404, "NOT_FOUND"),
    "invalid_rpc": ErrorKind(-32600, "INVALID_REQUEST", 400, "INVALID_ARGUMENT"),
    "invalid_json": ErrorKind(-32700, "INVALID_REQUEST", 400, "INVALID_ARGUMENT"),
}
"""Error kinds, keyed by Portico's error code. Section 5.4 of the specification defines the JSON-RPC codes."""

_BY_STATUS: Final[Mapping[int, str]] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def kind_of(error: PorticoError) -> ErrorKind:
    """Return the protocol's error kind for a Portico error."""
    error_kind = _KINDS.get(error.code or "")
    if error_kind is not None:
        return error_kind
    if isinstance(error, InvalidRequest):
        return _INVALID_PARAMS
    if error.status == 409:
        return ErrorKind(-32004, "UNSUPPORTED_OPERATION", 400, "FAILED_PRECONDITION")
    if isinstance(error, NotFound):
        return ErrorKind(-32602, "INVALID_PARAMS", 404, "NOT_FOUND")
    code = -32603 if error.status >= 500 else -32600
    status = _BY_STATUS.get(error.status, "INTERNAL")
    return ErrorKind(code, (error.code or "internal_error").upper(), error.status, status)


def _details(error: PorticoError, kind: ErrorKind) -> list[dict[str, Any]]:
    about = {"code": error.code, "param": error.param}
    metadata = {name: str(value) for name, value in about.items() if value}
    details: list[dict[str, Any]] = [
        {"@type": _INFO, "reason": kind.reason, "domain": DOMAIN, "metadata": metadata}
    ]
    if error.param and kind.code == _INVALID_PARAMS.code:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _BAD_REQUEST, "fieldViolations": [violation]})
    return details


def rpc_error(error: PorticoError, request_id: Any = None) -> dict[str, Any]:
    """Return the JSON-RPC response for an error."""
    kind = kind_of(error)
    body = {"code": kind.code, "message": error.message, "data": _details(error, kind)}
    return {"jsonrpc": "2.0", "id": request_id, "error": body}


def rpc_status(error: PorticoError) -> int:
    """Return the HTTP status of a JSON-RPC error: 200 if the protocol maps the error to 400 or 404 and the model
    exists, otherwise the error's own status.
    """
    return 200 if kind_of(error).http in (400, 404) and error.code != "model_not_found" else error.status


def http_error(error: PorticoError) -> dict[str, Any]:
    """Return an error as a ``google.rpc.Status``."""
    kind = kind_of(error)
    details = _details(error, kind)
    return {"error": {"code": kind.http, "status": kind.status, "message": error.message, "details": details}}


def _http_body(error: PorticoError, _request_id: str) -> bytes:
    return orjson.dumps(http_error(error))


def _rpc_body(error: PorticoError, _request_id: str) -> bytes:
    return orjson.dumps(rpc_error(error))


_IDS: Final = (b"x-request-id",)
_KEEP_ALIVE: Final = b": keep-alive\n\n"

RPC: Final = Shape(
    "A2A, JSON-RPC",
    rpc_status,
    _rpc_body,
    lambda error, _id: b"data: " + orjson.dumps(rpc_error(error)) + b"\n\n",
    _IDS,
    _KEEP_ALIVE,
)
"""Error format over JSON-RPC, for requests refused before their message is read."""

HTTP: Final = Shape(
    "A2A",
    lambda error: kind_of(error).http,
    _http_body,
    lambda error, _id: b"data: " + orjson.dumps(http_error(error)) + b"\n\n",
    _IDS,
    _KEEP_ALIVE,
)
"""Error format over plain HTTP."""
