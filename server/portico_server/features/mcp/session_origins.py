"""The origins of foreign data that MCP clients have read. Later calls of acting tools follow their rules for it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from portico_server.core.origins import Origins, is_receipt, join_origins, origin_of_tool
from portico_server.core.request import Result, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp.incoming import caller_of, connection_of
from portico_server.features.mcp.sessions import IDLE_TIMEOUT_S

MAX_KEYS: Final = 10_000
"""Maximum number of keys whose requests without a session have origins. The least recently used key is dropped."""


class SessionOrigins:
    """The origins per session. Requests without a session share those of their key, for as long as a session would
    last without use.
    """

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[Connection, Origins] = WeakKeyDictionary()
        self._keys: OrderedDict[str, tuple[float, Origins]] = OrderedDict()

    def of(self, context: ServerRequestContext[Any]) -> Origins:
        """Return the origins of what the client of a request has read."""
        if _has_session(context):
            return self._sessions.get(connection_of(context), ())
        key = caller_of(context).id
        expires_at, origins = self._keys.get(key, (0.0, ()))
        return origins if expires_at > time.monotonic() else ()

    def add(self, context: ServerRequestContext[Any], origins: Iterable[str]) -> None:
        """Record the origins of what the client of a request reads."""
        all_origins = join_origins(self.of(context), origins)
        if not all_origins:
            return
        if _has_session(context):
            self._sessions[connection_of(context)] = all_origins
            return
        key = caller_of(context).id
        self._keys[key] = time.monotonic() + IDLE_TIMEOUT_S, all_origins
        self._keys.move_to_end(key)
        while len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)


def _has_session(context: ServerRequestContext[Any]) -> bool:
    """Return whether a request belongs to a session, whose connection lasts longer than the request."""
    assert context.request is not None, "the protocol adapter is served over HTTP only"
    headers = context.request.headers
    version = headers.get("mcp-protocol-version", "")
    return MCP_SESSION_ID_HEADER in headers and version in ("", *HANDSHAKE_PROTOCOL_VERSIONS)


def is_receipt_of(card: Card, result: Result) -> bool:
    """Return whether a result is a receipt; see `is_receipt`."""
    read_only = card.labels.get("read_only") is True
    return isinstance(result, ToolResult) and is_receipt(result.text, read_only) and not result.artifacts


def origins_of_call(card: Card, arguments: Mapping[str, Any]) -> Origins:
    """Return the origins of the foreign data in the result of a call. The answer of a model adds no origins."""
    match card.kind:
        case "tool" if card.labels.get("computed") is not True:
            return (origin_of_tool(card.name, arguments.get("url")),)
        case "store" | "app":
            return (f"{card.kind} {card.name}",)
        case _:
            return ()
