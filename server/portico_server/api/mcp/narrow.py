"""Endpoints that show one thing alone: ``/mcp/stores/NAME`` and ``/mcp/apps/NAME``."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from mcp.server.context import ServerRequestContext
from starlette.types import Scope

from portico_server.core.errors import NotFound
from portico_server.core.servable import Card

_KEY: Final = "portico.mcp.only"
_KINDS: Final = {"stores": "store", "apps": "app"}


def key_of(path: str) -> str | None:
    """The registry key that a path below ``/mcp`` narrows to; ``None`` for ``/mcp`` itself.

    Raises `NotFound` for any other path.
    """
    rest = path.removeprefix("/mcp").strip("/")
    if not rest:
        return None
    group, _, name = rest.partition("/")
    kind = _KINDS.get(group)
    if kind is None or not name or "/" in name:
        raise NotFound(
            f"There is no MCP endpoint at {path[:200]}. There are /mcp, /mcp/stores/NAME and /mcp/apps/NAME.",
            code="unknown_url",
        )
    return f"store/{unquote(name)}" if kind == "store" else unquote(name)


def narrow(scope: Scope, key: str | None) -> None:
    """Note in the request what alone it may see."""
    scope[_KEY] = key


def shows(context: ServerRequestContext[Any], card: Card) -> bool:
    """Whether the endpoint of this request shows that card."""
    only = _only(context)
    return only is None or card.key == only


def is_narrow(context: ServerRequestContext[Any]) -> bool:
    """Whether the endpoint of this request shows one thing alone."""
    return _only(context) is not None


def store_of(context: ServerRequestContext[Any]) -> str | None:
    """The one store whose files the endpoint of this request shows: the store itself, or that of an app over one.

    An app answers from the store of its own name, so its files are what its citations point to.
    """
    only = _only(context)
    return None if only is None else only.removeprefix("store/")


def _only(context: ServerRequestContext[Any]) -> str | None:
    assert context.request is not None, "the protocol adapter is served over HTTP alone"
    only: str | None = context.request.scope.get(_KEY)
    return only
