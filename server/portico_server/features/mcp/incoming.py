"""What an MCP request contains besides its message: the caller, which the gateway stores in the scope; the single
object that the endpoint shows, if any (``/mcp/stores/NAME``, ``/mcp/apps/NAME``); and the position at which a list
continues.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from starlette.types import Scope

from portico_server.api.exchange import Exchange
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.core.servable import Card

_KEY = "portico.caller"


def caller_of(context: ServerRequestContext[Any]) -> Principal:
    """Return the caller of the HTTP request that contains this message. The gateway authenticates each request, with
    or without a session.
    """
    assert context.request is not None, "the protocol adapter is served over HTTP only"
    caller: Principal = context.request.scope[_KEY]
    return caller


def base_url_of(context: ServerRequestContext[Any]) -> str:
    """Return the daemon's address as the client of this request sees it, without a trailing slash."""
    assert context.request is not None, "the protocol adapter is served over HTTP only"
    scope = context.request.scope
    exchange: Exchange | None = scope.get("portico.exchange")
    if exchange is None:  # the adapter is served without the gateway
        return str(context.request.base_url).rstrip("/")
    return exchange.base_url(scope["portico.services"].settings)


def bind(scope: Scope) -> None:
    """Pass the caller to the transport, so that a session answers only requests with the key that opened it."""
    caller: Principal = scope[_KEY]
    scope["user"] = AuthenticatedUser(
        AccessToken(token="", client_id=caller.id, scopes=sorted(caller.scopes))  # no secret
    )


def connection_of(context: ServerRequestContext[Any]) -> Connection:
    """Return the connection of a message. In protocol revisions with sessions, the connection lasts as long as its
    session.

    The ``mcp`` package gives handlers a proxy for one message; the connection behind the proxy has no public name.
    """
    return context.session._connection


async def ask_client(
    context: ServerRequestContext[Any], request: types.InputRequest, request_id: str
) -> dict[str, Any]:
    """Ask the client while it waits for the response to its own request. Return the client's result.

    Uses a private method, because every public method of the ``mcp`` package chooses the request id itself. Raises
    `MCPError`.
    """
    data = request.model_dump(by_alias=True, mode="json", exclude_none=True)
    outbound = context.session._request_outbound
    return await outbound.send_raw_request(data["method"], data.get("params"), {"request_id": request_id})


def extension_of(context: ServerRequestContext[Any], identifier: str) -> bool:
    """Return whether the client of this request has declared the extension."""
    capabilities = context.session.client_capabilities
    return capabilities is not None and identifier in (capabilities.extensions or {})


_ENDPOINT_KEY: Final = "portico.mcp.only"
_KINDS: Final = {"stores": "store", "apps": "app"}


def key_of(path: str) -> str | None:
    """Return the registry key that a path below ``/mcp`` selects; ``None`` for ``/mcp`` itself.

    Raise `NotFound` for any other path.
    """
    remainder = path.removeprefix("/mcp").strip("/")
    if not remainder:
        return None
    group, _, name = remainder.partition("/")
    kind = _KINDS.get(group)
    if kind is None or not name or "/" in name:
        raise NotFound(
            f"No MCP endpoint at {path[:200]}. Use /mcp, /mcp/stores/NAME or /mcp/apps/NAME.",
            code="unknown_url",
        )
    return f"store/{unquote(name)}" if kind == "store" else unquote(name)


def narrow(scope: Scope, key: str | None) -> None:
    """Record in the request scope the only registry key that the request may see."""
    scope[_ENDPOINT_KEY] = key


def shows(context: ServerRequestContext[Any], card: Card) -> bool:
    """Return whether the endpoint of this request shows the object with this card."""
    only = only_of(context)
    return only is None or card.key == only


def is_narrow(context: ServerRequestContext[Any]) -> bool:
    """Return whether the endpoint of this request shows a single object."""
    return only_of(context) is not None


def store_of(context: ServerRequestContext[Any]) -> str | None:
    """Return the store whose files the endpoint of this request shows: the store itself, or the store of an app.

    An app answers from the store with the same name, so its citations point to files in that store.
    """
    only = only_of(context)
    return None if only is None else only.removeprefix("store/")


def only_of(context: ServerRequestContext[Any]) -> str | None:
    """Return the registry key of the single object that the endpoint of this request shows; ``None`` if the endpoint
    shows all objects.
    """
    assert context.request is not None, "the protocol adapter is served over HTTP only"
    only: str | None = context.request.scope.get(_ENDPOINT_KEY)
    return only


T = TypeVar("T")


def page(items: Sequence[tuple[str, T]], cursor: str | None, size: int) -> tuple[list[T], str | None]:
    """Return up to ``size`` items after the ``cursor``, and the cursor of the next page if there is one.

    ``items`` are sorted by name. A cursor contains a name, so a page begins where the previous page ended, even if
    items were added or removed in between.
    """
    after = None if cursor is None else read(cursor)
    if after is not None and not isinstance(after, str):
        raise _foreign()
    remaining_items = [item for item in items if after is None or item[0] > after]
    page_items = remaining_items[:size]
    next_cursor = write(page_items[-1][0]) if len(remaining_items) > size else None
    return [item for _name, item in page_items], next_cursor


def write(place: Any) -> str:
    """Encode a JSON-compatible position as an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read(cursor: str) -> Any:
    """Return the position that `write` encoded. Raise `MCPError` for a cursor from another server."""
    try:
        return json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise _foreign() from error


def _foreign() -> MCPError:
    return MCPError(
        types.INVALID_PARAMS, "The cursor was not issued by this server. Start from the first page."
    )
