"""The formats of errors and keep-alives in Ollama's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.api.error_shape import Shape
from portico_server.core.errors import PorticoError
from portico_server.features.ollama.answer import chat_fields, generate_fields, json_line


def _body(error: PorticoError, _request_id: str) -> bytes:
    return orjson.dumps({"error": error.message, "code": error.code, "param": error.param})


def _frame(error: PorticoError, request_id: str) -> bytes:
    return _body(error, request_id) + b"\n"


def _shape(quiet_fields: Mapping[str, Any]) -> Shape:
    # Programs parse every line as JSON, so a blank line would break them.
    quiet = json_line(quiet_fields)
    return Shape("Ollama", lambda error: error.status, _body, _frame, (b"x-request-id",), quiet)


SHAPE: Final = _shape({**chat_fields("", "", []), "done": False})
"""The format of errors and keep-alives at ``/api/chat`` and other paths."""

GENERATE_SHAPE: Final = _shape({**generate_fields("", "", []), "done": False})
"""The format of errors and keep-alives at ``/api/generate``."""

STATUS_SHAPE: Final = _shape({"status": "waiting"})
"""The format of errors and keep-alives at ``/api/pull``."""
