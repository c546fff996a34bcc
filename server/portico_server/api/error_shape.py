"""The formats in which protocol adapters write errors and keep-alives: each protocol has its own."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from portico_server.api.errors import body
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError


@dataclass(frozen=True, slots=True)
class Shape:
    """The error format of one protocol, identified by its ``name``.

    ``body`` returns the body of an error response, and ``frame`` the last frame of a failing stream. Both receive the
    error and the request id. ``ids`` names the headers that contain the request id. ``keep_alive`` is sent while a
    stream is quiet.
    """

    name: str
    status: Callable[[PorticoError], int]
    body: Callable[[PorticoError, str], bytes]
    frame: Callable[[PorticoError, str], bytes]
    ids: tuple[bytes, ...]
    keep_alive: bytes


def _status(error: PorticoError) -> int:
    return error.status


def _body(error: PorticoError, _request_id: str) -> bytes:
    return body(error)


def _frame(error: PorticoError, _request_id: str) -> bytes:
    return b"data: " + body(error) + b"\n\n"


OPENAI = Shape("OpenAI", _status, _body, _frame, (b"x-request-id",), b": keep-alive\n\n")
"""The error format for all paths that belong to no other protocol."""


_INVALID_REQUEST, _PARSE_ERROR = -32600, -32700
"""Error codes of JSON-RPC 2.0."""


def _rpc_body(error: PorticoError, _request_id: str) -> bytes:
    detail = error.body().to_json()["error"]
    data = {name: detail[name] for name in ("type", "code", "param") if detail.get(name) is not None}
    code = _PARSE_ERROR if error.code == "invalid_json" else _INVALID_REQUEST
    return orjson.dumps(
        {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": error.message, "data": data}}
    )


def _rpc_frame(error: PorticoError, request_id: str) -> bytes:
    return b"event: message\ndata: " + _rpc_body(error, request_id) + b"\n\n"


JSON_RPC = Shape("JSON-RPC", _status, _rpc_body, _rpc_frame, (b"x-request-id",), b": keep-alive\n\n")
"""MCP's error format for requests refused before their message is read: the JSON-RPC id is null."""
