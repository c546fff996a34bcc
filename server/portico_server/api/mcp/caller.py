"""Who is calling: the gateway knows, and leaves it in the HTTP request's scope."""

from __future__ import annotations

from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from starlette.types import Scope

from portico_server.core.principal import Principal

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


def extension_of(context: ServerRequestContext[Any], identifier: str) -> bool:
    """Whether the client of this request has declared an extension."""
    capabilities = context.session.client_capabilities
    return capabilities is not None and identifier in (capabilities.extensions or {})
