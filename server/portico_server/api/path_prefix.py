"""The path below which a proxy serves the daemon, such as ``/portico``: that of ``public_url``, or the one that a
trusted proxy reports. A proxy may pass the path on or remove it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from portico_server.api.exchange import Exchange, Scope
from portico_server.api.routes import ROUTES, Route, with_version
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest
from portico_server.http.forwarded import is_path_prefix
from portico_server.settings import Settings

WELL_KNOWN_FOLDER: Final = "/.well-known/"

_OWN_NAMES: Final = frozenset(
    ["metrics", *(route.path.split("/")[1].rstrip("*") for route in ROUTES if "/" in route.path)]
)
"""First parts of the daemon's own paths, which are therefore no prefix."""


def prefix_in(settings: Settings) -> str:
    """Return the path of ``public_url`` without a trailing slash. Raise `InvalidRequest` if it is no address."""
    public_url = settings.public_url.rstrip("/")
    if not public_url:
        return ""
    try:
        parts = urlsplit(public_url)
        is_site = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_site = False
    if not is_site or parts.query or parts.fragment or parts.username:
        raise InvalidRequest(
            f"'{public_url[:200]}' is not an address such as https://HOST or https://HOST/PATH.",
            param="public_url",
        )
    if parts.path and not is_prefix(parts.path):
        raise InvalidRequest(
            f"The daemon cannot be served below '{parts.path[:200]}'. Choose a path of letters, digits, '-', '.', '_' "
            "and '~' that does not begin like a path of the daemon, such as /v1 or /api.",
            param="public_url",
        )
    return parts.path


def is_prefix(path: str) -> bool:
    """Return whether the daemon can be served below a path: a plain path that does not begin like one of its own."""
    return is_path_prefix(path) and path.split("/")[1] not in _OWN_NAMES and with_version(path) is None


def without_prefix(scope: Scope, prefixes: tuple[str, ...]) -> Scope:
    """Return the scope of a request without a prefix of its path. RFC 8414 and RFC 9728 insert the name of a metadata
    document before the prefix. The path of the folder itself becomes empty.
    """
    path: str = scope["path"]
    document = ""
    if path.startswith(WELL_KNOWN_FOLDER):
        name, slash, inner_path = path.removeprefix(WELL_KNOWN_FOLDER).partition("/")
        document, path = WELL_KNOWN_FOLDER + name, slash + inner_path
    for prefix in prefixes:
        if path == prefix or path.startswith(f"{prefix}/"):
            return {**scope, "path": document + path[len(prefix) :], "portico.folder": prefix}
    return scope


async def _redirect(exchange: Exchange, _services: ApiServices) -> None:
    """Redirect to the folder: the addresses in the page are relative to it."""
    query = exchange.scope["query_string"]
    address = exchange.scope["portico.folder"].encode() + b"/" + (b"?" + query if query else b"")
    await exchange.answer(307, b"", [(b"location", address)])


FOLDER: Final = Route("", "Portico", handler=_redirect, needs_key=False)
"""The route for the prefix without a trailing slash."""
