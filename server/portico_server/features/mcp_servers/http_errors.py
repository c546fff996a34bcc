"""What the HTTP errors of an MCP server mean, as JSON-RPC errors that the ``mcp`` package passes on unchanged.

The package reads only the errors in a JSON-RPC body, and takes every other error as "Server returned an error
response". It does not start a new session for the one that the server has lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http.client import responses as PHRASES
from typing import Any, Final

import httpx2
import mcp_types as types
import orjson
from mcp.client.streamable_http import MCP_SESSION_ID

from portico_server.features.mcp_servers.error_codes import (
    HTTP_ERROR_CODE,
    SESSION_LOST_CODE,
    UNREACHABLE_CODE,
)
from portico_server.features.mcp_servers.readable import readable_message

_MAX_REASON_CHARS: Final = 1_000
_LOST: Final = re.compile(
    r"\bsession\b[^.;]{0,60}\b(?:not found|invalid|unknown|expired|not exist|terminated|closed|missing|required)"
    r"|\b(?:invalid|unknown|expired|missing|no valid|no such)\b[^.;]{0,20}\bsession\b|\bnot initialized\b",
    re.IGNORECASE,
)
"""Matches what SDKs say about a session that they do not know, whatever the status."""

_DESCRIPTION: Final = re.compile(r'error_description="((?:[^"\\]|\\.)*)"')
"""Matches the reason in the header ``WWW-Authenticate``."""


class HttpClient(httpx2.AsyncClient):
    """An HTTP client whose failed connections are responses. The ``mcp`` package ends a connection, with all its calls,
    when a request raises.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request. Return a response with `UNREACHABLE_CODE` if no connection can be made."""
        try:
            return await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            message = _message(UNREACHABLE_CODE, f"The server cannot be reached: {reason}")
            headers = {"Content-Type": "application/json"}
            return httpx2.Response(503, content=message, headers=headers, request=request)


def error_message(response: httpx2.Response, body: str) -> str:
    """Return the JSON-RPC message for a response with an error status and this body.

    The server's own JSON-RPC error is returned unchanged, except for a lost session and for a caller that is not
    authenticated.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    reason = _reason(response, document, body)
    status = response.status_code
    if MCP_SESSION_ID in response.request.headers and status < 500:
        is_unknown_session = status == 404 and code != types.METHOD_NOT_FOUND
        if is_unknown_session or _LOST.search(reason) is not None:
            return _message(SESSION_LOST_CODE, "The server has ended the session.")
    if isinstance(code, int) and status != 401:
        return readable_message(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}))
    answer = f"The server answered {status} {PHRASES.get(status, '')}".rstrip()
    text = f"{answer}: {reason}" if reason else f"{answer}."
    return _message(HTTP_ERROR_CODE, text, {"status": status})


def _message(code: int, message: str, data: Mapping[str, Any] | None = None) -> str:
    error = {"code": code, "message": message, **({} if data is None else {"data": data})}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error})


def _reason(response: httpx2.Response, document: Any, body: str) -> str:
    """Return the server's own sentence, or an empty text."""
    challenge = _DESCRIPTION.search(response.headers.get("WWW-Authenticate", ""))
    if challenge is not None:
        return challenge[1].replace('\\"', '"')[:_MAX_REASON_CHARS]
    if document is None:
        is_page = body.lstrip().startswith("<")
        return "" if is_page else " ".join(body.split())[:_MAX_REASON_CHARS]
    return next(_texts(document), "")[:_MAX_REASON_CHARS]


def _texts(document: Any) -> Iterator[str]:
    """Yield the texts of a JSON body that can be its reason, best first."""
    if isinstance(document, str) and document:
        yield document
    elif isinstance(document, Mapping):
        for name in ("error_description", "message", "detail", "title", "error"):
            yield from _texts(document.get(name))
