"""What a request over MCP says of itself: who is calling, which the gateway leaves in its scope; whether it shows one
thing alone (``/mcp/stores/NAME``, ``/mcp/apps/NAME``); and at which place a list continues.
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

from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.core.servable import Card

_KEY = "portico.caller"


def caller_of(context: ServerRequestContext[Any]) -> Principal:
    """The caller of the HTTP request that carried this message: each one is checked again, session or not."""
    assert context.request is not None, "the protocol adapter is served over HTTP alone"
    caller: Principal = context.request.scope[_KEY]
    return caller


def bind(scope: Scope) -> None:
    """Tell the transport who is calling, so that a session answers only to the key that opened it."""
    caller: Principal = scope[_KEY]
    scope["user"] = AuthenticatedUser(
        AccessToken(token="", client_id=caller.id, scopes=sorted(caller.scopes))  # no secret
    )


def connection_of(context: ServerRequestContext[Any]) -> Connection:
    """The connection that a message came over: in the eras with sessions it lives as long as its session.

    The package hands handlers a proxy that lives for one message; the connection behind it has no public name.
    """
    return context.session._connection


async def ask_client(
    context: ServerRequestContext[Any], request: types.InputRequest, request_id: str
) -> dict[str, Any]:
    """Ask the client while it waits for the answer to its own request; its result.

    The package chooses ids of its own in every method that has a public name. Raises `MCPError`.
    """
    data = request.model_dump(by_alias=True, mode="json", exclude_none=True)
    outbound = context.session._request_outbound
    return await outbound.send_raw_request(data["method"], data.get("params"), {"request_id": request_id})


def extension_of(context: ServerRequestContext[Any], identifier: str) -> bool:
    """Whether the client of this request has declared an extension."""
    capabilities = context.session.client_capabilities
    return capabilities is not None and identifier in (capabilities.extensions or {})


_ENDPOINT_KEY: Final = "portico.mcp.only"
_KINDS: Final = {"stores": "store", "apps": "app"}


def key_of(path: str) -> str | None:
    """The registry key that a path below ``/mcp`` narrows to; ``None`` for ``/mcp`` itself.

    Raises `NotFound` for any other path.
    """
    remainder = path.removeprefix("/mcp").strip("/")
    if not remainder:
        return None
    group, _, name = remainder.partition("/")
    kind = _KINDS.get(group)
    if kind is None or not name or "/" in name:
        raise NotFound(
            f"There is no MCP endpoint at {path[:200]}. There are /mcp, /mcp/stores/NAME and /mcp/apps/NAME.",
            code="unknown_url",
        )
    return f"store/{unquote(name)}" if kind == "store" else unquote(name)


def narrow(scope: Scope, key: str | None) -> None:
    """Note in the request what alone it may see."""
    scope[_ENDPOINT_KEY] = key


def shows(context: ServerRequestContext[Any], card: Card) -> bool:
    """Whether the endpoint of this request shows that card."""
    only = only_of(context)
    return only is None or card.key == only


def is_narrow(context: ServerRequestContext[Any]) -> bool:
    """Whether the endpoint of this request shows one thing alone."""
    return only_of(context) is not None


def store_of(context: ServerRequestContext[Any]) -> str | None:
    """The one store whose files the endpoint of this request shows: the store itself, or that of an app over one.

    An app answers from the store of its own name, so its files are what its citations point to.
    """
    only = only_of(context)
    return None if only is None else only.removeprefix("store/")


def only_of(context: ServerRequestContext[Any]) -> str | None:
    """The registry key of the one thing that the endpoint of this request shows; ``None`` if it shows all."""
    assert context.request is not None, "the protocol adapter is served over HTTP alone"
    only: str | None = context.request.scope.get(_ENDPOINT_KEY)
    return only


T = TypeVar("T")


def page(items: Sequence[tuple[str, T]], cursor: str | None, size: int) -> tuple[list[T], str | None]:
    """Up to ``size`` items after the ``cursor``, and the cursor of the next page if there is one.

    ``items`` are sorted by their names, which the cursor is made of: a page begins where the last one ended, whatever
    has come or gone in between.
    """
    after = None if cursor is None else read(cursor)
    if after is not None and not isinstance(after, str):
        raise _foreign()
    remaining_items = [item for item in items if after is None or item[0] > after]
    page_items = remaining_items[:size]
    more = write(page_items[-1][0]) if len(remaining_items) > size else None
    return [item for _name, item in page_items], more


def write(place: Any) -> str:
    """A place, which is JSON, as an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read(cursor: str) -> Any:
    """The place that `write` was given. Raises `MCPError` for a cursor that is not ours."""
    try:
        return json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise _foreign() from error


def _foreign() -> MCPError:
    return MCPError(types.INVALID_PARAMS, "The cursor is not one that this server gave. Begin again.")
