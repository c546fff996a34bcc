"""Codes of JSON-RPC errors that Portico itself puts in the place of a server's response."""

from __future__ import annotations

from typing import Final

TOO_LARGE_CODE: Final = -32_099
"""The response is too large."""

SERVER_ERROR_CODE: Final = -32_098
"""The server sent an error whose code has a meaning for Portico or the ``mcp`` package. The error's data contain the
server's ``code`` and ``data``.
"""

HTTP_ERROR_CODE: Final = -32_097
"""The server sent an HTTP status instead of a JSON-RPC error. The error's data contain the ``status``."""

SESSION_LOST_CODE: Final = -32_096
"""The server did not run the request, because it does not know the session."""

UNREACHABLE_CODE: Final = -32_095
"""The request was not sent, because the server could not be reached."""

OWN_CODES: Final = range(TOO_LARGE_CODE, UNREACHABLE_CODE + 1)
