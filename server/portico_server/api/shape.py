"""How a face tells errors, and that a stream is still alive: each protocol has its own form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portico_server.api import errors
from portico_server.core.errors import PorticoError


@dataclass(frozen=True, slots=True)
class Shape:
    """``body``, and ``frame`` for the last of a stream that fails, take the error and the request's id; ``ids`` names
    the headers that have that id; ``keep_alive`` is sent while a stream is quiet.
    """

    status: Callable[[PorticoError], int]
    body: Callable[[PorticoError, str], bytes]
    frame: Callable[[PorticoError, str], bytes]
    ids: tuple[bytes, ...]
    keep_alive: bytes


def _status(error: PorticoError) -> int:
    return error.status


def _body(error: PorticoError, _request_id: str) -> bytes:
    return errors.body(error)


def _frame(error: PorticoError, _request_id: str) -> bytes:
    return b"data: " + errors.body(error) + b"\n\n"


OPENAI = Shape(_status, _body, _frame, (b"x-request-id",), b": keep-alive\n\n")
"""The form of every path but those of another protocol."""
