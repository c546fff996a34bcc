"""The authorization server's own metadata (RFC 8414)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.auth.grants import DEFAULT_SCOPES
from portico_server.api.auth.oauth_clients import GRANT_TYPES

WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
AUTHORIZE: Final = "/authorize"
EXCHANGE: Final = "/token"
REGISTER: Final = "/register"
REVOKE: Final = "/revoke"


def metadata(issuer: str) -> Mapping[str, Any]:
    """Return the metadata of the daemon as an authorization server; ``issuer`` is the daemon's address."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}{AUTHORIZE}",
        "token_endpoint": f"{issuer}{EXCHANGE}",
        "registration_endpoint": f"{issuer}{REGISTER}",
        "revocation_endpoint": f"{issuer}{REVOKE}",
        "scopes_supported": DEFAULT_SCOPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": GRANT_TYPES,
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "client_id_metadata_document_supported": True,
        "authorization_response_iss_parameter_supported": True,
    }
