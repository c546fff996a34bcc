"""Authorization requests: a client sends a browser to ``/authorize``, where a person grants or denies access.

Sources: OAuth 2.1, RFC 7636 (PKCE), RFC 8707 (resource indicators), RFC 9207 (issuer in responses).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from portico_server.api.auth.grants import DEFAULT_SCOPES
from portico_server.api.auth.oauth_clients import OAuthClients
from portico_server.api.auth.oauth_errors import OAuthError, RedirectedError
from portico_server.api.auth.redirects import match_any, with_parameters
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import parse_scope
from portico_server.db.oauth_clients import ClientRow

MAX_QUERY_CHARS: Final = 16_384
MAX_PARAMETERS: Final = 50
MAX_STATE_CHARS: Final = 4_096
MAX_SCOPES: Final = 100

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""A SHA-256 in base64url."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A valid request of a client for access to ``audience``. ``challenge`` is the hash of the client's verifier."""

    client: ClientRow
    redirect_uri: str
    issuer: str
    state: str | None
    scopes: Sequence[str]
    audience: str
    challenge: str

    def answer(self, **parameters: str) -> str:
        """Return the address to which the browser returns with an answer."""
        return _location(self.redirect_uri, self.issuer, self.state, parameters)


def _location(redirect_uri: str, issuer: str, state: str | None, parameters: Mapping[str, str]) -> str:
    return with_parameters(
        redirect_uri, {**parameters, **({} if state is None else {"state": state}), "iss": issuer}
    )


async def read_request(query: str, issuer: str, clients: OAuthClients) -> AuthorizationRequest:
    """Return the authorization request in a query string. ``issuer`` is the daemon's address.

    Raise `RedirectedError` for an error that the client must learn, and `OAuthError` if the browser must not return to
    the client, because the client or its redirect address is unknown.
    """
    parameters = _parameters(query)
    client_id = parameters.get("client_id", "")
    if not client_id:
        raise OAuthError("invalid_request", "The request has no client_id.")
    client = await clients.get(client_id)
    redirect_uri = parameters.get("redirect_uri", "")
    if not redirect_uri and len(client.redirect_uris) == 1:
        redirect_uri = client.redirect_uris[0]
    if not match_any(client.redirect_uris, redirect_uri):
        raise OAuthError(
            "invalid_request",
            "The client has not registered this redirect_uri, so the browser cannot return to the client.",
        )
    state = parameters.get("state")
    try:
        _check_kind(parameters)
        audience, scopes = _audience(parameters.get("resource"), issuer), _scopes(parameters.get("scope"))
    except OAuthError as error:
        answer = {"error": str(error.code), "error_description": error.message}
        location = _location(redirect_uri, issuer, state, answer)
        raise RedirectedError(str(error.code), error.message, location) from error
    return AuthorizationRequest(
        client, redirect_uri, issuer, state, scopes, audience, parameters["code_challenge"]
    )


def _parameters(query: str) -> Mapping[str, str]:
    """Return the parameters of a query. Raise `OAuthError` if there are too many, or if one is repeated."""
    if len(query) > MAX_QUERY_CHARS:
        raise OAuthError("invalid_request", f"The query has more than {MAX_QUERY_CHARS:,} characters.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise OAuthError("invalid_request", "The query of the request is malformed.") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise OAuthError("invalid_request", "The request repeats a parameter; send each parameter once.")
    return parameters


def _check_kind(parameters: Mapping[str, str]) -> None:
    """Raise `OAuthError` unless a request asks for a code, with PKCE."""
    for name in ("request", "request_uri"):
        if name in parameters:
            raise OAuthError(f"{name}_not_supported", f"'{name}' is not supported; send plain parameters.")
    if "response_type" not in parameters:
        raise OAuthError("invalid_request", "The request has no response_type; expected 'code'.")
    if parameters["response_type"] != "code":
        raise OAuthError("unsupported_response_type", "The only response_type is 'code'.")
    if parameters.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "The only response_mode is 'query'.")
    if parameters.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "PKCE is required: send code_challenge_method=S256.")
    if not _CHALLENGE.fullmatch(parameters.get("code_challenge", "")):
        raise OAuthError(
            "invalid_request", "PKCE is required: code_challenge must be a SHA-256 in base64url."
        )
    if len(parameters.get("state", "")) > MAX_STATE_CHARS:
        raise OAuthError("invalid_request", f"'state' has more than {MAX_STATE_CHARS:,} characters.")


def _audience(resource: str | None, issuer: str) -> str:
    """Return the address at which the access token will be valid: one of this daemon's MCP endpoints, by default all
    of them. Raises `OAuthError`.
    """
    endpoint = f"{issuer}/mcp"
    audience = endpoint if resource is None else resource.rstrip("/")
    if audience != endpoint and not audience.startswith(f"{endpoint}/"):
        raise OAuthError("invalid_target", f"'resource' must be an MCP endpoint of this daemon: {endpoint}.")
    if not set("?#\\").isdisjoint(audience) or {".", ".."} & set(audience.split("/")):
        raise OAuthError("invalid_target", "'resource' must be an address without a query or a fragment.")
    return audience


def _scopes(scope: str | None) -> Sequence[str]:
    """Return the requested scopes, or the default scopes. Raise `OAuthError` if a scope does not exist."""
    scopes = tuple(dict.fromkeys((scope or "").split()))
    if len(scopes) > MAX_SCOPES:
        raise OAuthError("invalid_scope", f"The request has more than {MAX_SCOPES} scopes.")
    try:
        return tuple(map(parse_scope, scopes)) or DEFAULT_SCOPES
    except InvalidRequest as error:
        raise OAuthError("invalid_scope", error.message) from error
