"""Metadata of a protected resource (RFC 9728), from which MCP clients learn how to authenticate.

The gateway imports this module, so it stays light: the endpoints are in
`portico_server.api.protected_resource_endpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from portico_server.api.auth.grants import DEFAULT_SCOPES
from portico_server.api.auth.oidc import page_clients, terminal_clients
from portico_server.core.errors import NotFound
from portico_server.core.principal import SCOPES_HELP
from portico_server.settings import Settings, comma_separated

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


def is_protected(path: str) -> bool:
    """Return whether a path belongs to the MCP protocol adapter."""
    return path == "/mcp" or path.startswith("/mcp/")


def metadata_url(base: str, path: str) -> str:
    """Return the address of the metadata of the resource at ``path``."""
    return f"{base}{WELL_KNOWN}{quote(path)}"


def authorization_servers(settings: Settings, base: str, *, needs_key: bool) -> Sequence[str]:
    """Return the issuers of access tokens: those in the settings, otherwise the daemon itself if it requires a key.
    ``base`` is the daemon's address.
    """
    servers = comma_separated(settings.authorization_servers or settings.oidc_issuer)
    return servers or ([base] if needs_key else [])


def metadata(settings: Settings, base: str, path: str, *, needs_key: bool) -> Mapping[str, Any]:
    """Return the metadata of the resource at ``path``: an MCP endpoint, or the whole daemon if the path is empty.

    ``authorization_servers`` is omitted, as the RFC allows, if callers need no key. Raises `NotFound`.
    """
    if path not in ("", "/") and not is_protected(path):
        raise NotFound(f"No protected resource at {path[:200]}; use /mcp.", code="unknown_url")
    servers = authorization_servers(settings, base, needs_key=needs_key)
    scopes: Sequence[str] = SCOPES_HELP.partition(";")[0].split(", ")
    if base in servers:
        scopes = DEFAULT_SCOPES
    elif settings.oidc_issuer:
        scopes = settings.oidc_scopes.split()
    return {
        "resource": f"{base}{quote(path.rstrip('/'))}",
        **({"authorization_servers": servers} if servers else {}),
        "bearer_methods_supported": ["header"],
        "scopes_supported": scopes,
        "resource_name": "Portico",
        **({"portico_sign_in": _sign_in(settings)} if settings.oidc_issuer else {}),
    }


def _sign_in(settings: Settings) -> Sequence[Mapping[str, Any]]:
    """Return the issuers through which users can sign in, each with the daemon's client for the web page or for
    terminals.
    """
    return [
        *(
            {"issuer": oidc_client.issuer, "client_id": oidc_client.id, "page": True}
            for oidc_client in page_clients(settings)
        ),
        *(
            {
                "issuer": oidc_client.issuer,
                "client_id": oidc_client.id,
                "terminal": True,
                "scope": settings.oidc_scopes,
            }
            for oidc_client in terminal_clients(settings)
        ),
    ]
