"""Reads the list of tools that a client gets from the daemon's MCP endpoint."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx

from portico import __version__
from portico._proxies import certificate_error
from portico._transport import Address, failure
from portico.errors import ConnectionFailed, NotPortico

PROTOCOL_VERSION: Final = "2026-07-28"
"""A version of MCP that needs no session."""

TIMEOUT_S: Final = 30.0
MAX_PAGES: Final = 40
"""Maximum number of pages to read; a page has up to 250 tools."""

_META: Final = {
    "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "portico connect", "version": __version__},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_HEADERS: Final = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": PROTOCOL_VERSION,
    "mcp-method": "tools/list",
}


def listed_tools(address: Address) -> list[str]:
    """Return the names of the tools that the MCP endpoint lists for the key of ``address``. Raises `PorticoError`."""
    names: list[str] = []
    cursor: str | None = None
    with httpx.Client(**address.options(TIMEOUT_S)) as http:
        for _ in range(MAX_PAGES):
            page = _read_page(http, cursor)
            names += [tool["name"] for tool in page["tools"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                break
    return names


def _read_page(http: httpx.Client, cursor: str | None) -> dict[str, Any]:
    params = {"_meta": _META} | ({"cursor": cursor} if cursor is not None else {})
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}
    try:
        response = http.post("/mcp", json=request, headers=_HEADERS)
    except httpx.HTTPError as error:
        refusal = certificate_error(str(http.base_url), error)
        if refusal is not None:
            raise refusal from error
        raise ConnectionFailed(f"The MCP endpoint of {http.base_url} did not answer: {error}.") from error
    if response.status_code != httpx.codes.OK:
        raise failure(response)
    try:
        page: dict[str, Any] = json.loads(response.content)["result"]
        return {"tools": list(page["tools"]), "nextCursor": page.get("nextCursor")}
    except (ValueError, KeyError, TypeError) as error:
        raise NotPortico(f"The MCP endpoint of {http.base_url} returned no list of tools.") from error
