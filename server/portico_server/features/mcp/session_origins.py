"""The origins of foreign data that MCP clients have read, and the addresses in it. Later calls of tools follow their
rules for it.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final
from weakref import WeakKeyDictionary

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from portico_server.core.addresses import SeenAddresses
from portico_server.core.dataclass import dataclass
from portico_server.core.origins import Origins, is_receipt, join_origins, origin_of_tool
from portico_server.core.request import Result, SearchResult, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp.incoming import caller_of, connection_of
from portico_server.features.mcp.sessions import IDLE_TIMEOUT_S

MAX_KEYS: Final = 10_000
"""Maximum number of keys whose requests without a session have origins. The least recently used key is dropped."""


@dataclass(slots=True)
class ReadData:
    """What a client has read: the origins of the data, and the addresses in the data."""

    origins: Origins = ()
    addresses: SeenAddresses = field(default_factory=SeenAddresses)


class SessionOrigins:
    """What each session has read. Requests without a session share what their key has read, for as long as a session
    would last without use.
    """

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[Connection, ReadData] = WeakKeyDictionary()
        self._keys: OrderedDict[str, tuple[float, ReadData]] = OrderedDict()

    def of(self, context: ServerRequestContext[Any]) -> ReadData:
        """Return what the client of a request has read, to which its next reads are added."""
        if _has_session(context):
            return self._sessions.setdefault(connection_of(context), ReadData())
        key = caller_of(context).id
        expires_at, read_data = self._keys.get(key, (0.0, ReadData()))
        if expires_at <= time.monotonic():
            expires_at, read_data = time.monotonic() + IDLE_TIMEOUT_S, ReadData()
        self._keep(key, expires_at, read_data)
        return read_data

    def add(self, context: ServerRequestContext[Any], origins: Iterable[str], text: str = "") -> None:
        """Record what the client of a request reads: the origins of the data, and a ``text`` of it."""
        read_data = self.of(context)
        read_data.addresses.read(text)
        all_origins = join_origins(read_data.origins, origins)
        if all_origins and not _has_session(context):
            self._keep(caller_of(context).id, time.monotonic() + IDLE_TIMEOUT_S, read_data)
        read_data.origins = all_origins

    def _keep(self, key: str, expires_at: float, read_data: ReadData) -> None:
        self._keys[key] = expires_at, read_data
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


def text_of(result: Result) -> str:
    """Return the text of a result."""
    match result:
        case ToolResult(text=text, structured=structured):
            return text if structured is None else f"{text}\n{json.dumps(structured, default=str)}"
        case SearchResult(passages=passages):
            return "\n".join(passage.text for passage in passages)
        case _:
            return ""


def origins_of_call(card: Card, arguments: Mapping[str, Any]) -> Origins:
    """Return the origins of the foreign data in the result of a call. The answer of a model adds no origins."""
    match card.kind:
        case "tool" if card.labels.get("computed") is not True:
            return (origin_of_tool(card.name, arguments.get("url")),)
        case "store" | "app":
            return (f"{card.kind} {card.name}",)
        case _:
            return ()
