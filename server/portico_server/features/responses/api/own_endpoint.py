"""Recognition of this daemon's own MCP address among the ``mcp`` tools of a request.

The daemon calls such tools itself, with the caller's rights, instead of connecting to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from portico_server.api.auth.credentials import presented
from portico_server.api.auth.protected_resource import is_protected
from portico_server.api.exchange import Exchange
from portico_server.core.invalid import wrong
from portico_server.settings import Settings

_LOOPBACK: Final = ("127.0.0.1", "::1")
_PORTS: Final = {"http": 80, "https": 443}


def with_own_paths(body: dict[str, Any], exchange: Exchange, settings: Settings) -> dict[str, Any]:
    """Return the body with this daemon's address as a path, such as ``/mcp``, in the ``server_url`` of its tools.

    Credentials for this address are left out. Raises `InvalidRequest` if they are not those of the request itself.
    """
    tools = body.get("tools")
    if not isinstance(tools, list) or not any(map(_has_url, tools)):
        return body
    base = exchange.base_url(settings)
    own_tools = [
        _with_path(tool, path, f"tools[{number}]", exchange)
        if _has_url(tool) and (path := _own_path(tool["server_url"], base)) is not None
        else tool
        for number, tool in enumerate(tools)
    ]
    return {**body, "tools": own_tools}


def _has_url(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "mcp" and isinstance(tool.get("server_url"), str)


def _own_path(url: str, base: str) -> str | None:
    """Return the path of an address below the daemon's, or ``None`` if the address is not of this daemon."""
    if _site(url) != _site(base):
        return None
    path, prefix = urlsplit(url).path, urlsplit(base).path
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else None


def _site(url: str) -> tuple[str, int | None]:
    """Return host and port of an address. The scheme does not count: a proxy may add TLS."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return url, None
    return "localhost" if host in _LOOPBACK else host, port


def _with_path(tool: Mapping[str, Any], path: str, at: str, exchange: Exchange) -> dict[str, Any]:
    parts = urlsplit(tool["server_url"])
    if parts.username or parts.query or parts.fragment or not is_protected(path):
        wrong(
            f"{at}.server_url", "is on this daemon and must end in /mcp, /mcp/stores/NAME or /mcp/apps/NAME"
        )
    headers = tool.get("headers") or {}
    if not isinstance(headers, dict) or any(str(name).lower() != "authorization" for name in headers):
        wrong(f"{at}.headers", "can contain only 'Authorization' for an MCP endpoint of this daemon")
    own_key = presented(exchange.scope["headers"])
    for name, value in (
        ("headers", next(iter(headers.values()), None)),
        ("authorization", tool.get("authorization")),
    ):
        if value is not None and str(value).removeprefix("Bearer ") != own_key:
            wrong(
                f"{at}.{name}",
                "is not the key of this request: leave it out, the daemon uses the caller's rights",
            )
    kept_fields = {key: tool[key] for key in tool if key not in ("headers", "authorization")}
    return {**kept_fields, "server_url": path}
