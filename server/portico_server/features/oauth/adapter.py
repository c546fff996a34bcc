"""The OAuth endpoints that programs call: metadata, registration, tokens and revocation. They require no key."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import orjson
from starlette.requests import Request

from portico_server.api.auth.oauth_clients import GRANT_TYPES, MAX_DOCUMENT_BYTES
from portico_server.api.auth.oauth_errors import OAuthError
from portico_server.api.auth.protected_resource import authorization_servers
from portico_server.api.errors import NotAllowedHere
from portico_server.api.exchange import JSON, Exchange
from portico_server.api.services import ApiServices
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.features.oauth.metadata import metadata

NO_STORE: Final = [*JSON, (b"cache-control", b"no-store"), (b"pragma", b"no-cache")]

MAX_FORM_BYTES: Final = 2**15
MAX_FIELDS: Final = 50

FORM_TYPE: Final = "application/x-www-form-urlencoded"


def require_server(services: ApiServices, base: str) -> None:
    """Raise `NotFound` unless the daemon at ``base`` is its own authorization server."""
    if base not in authorization_servers(services.settings, base, needs_key=services.auth.needs_key):
        raise NotFound(
            "This daemon grants no access to OAuth clients, because it requires no key or trusts another issuer.",
            code="unknown_url",
        )


def _issuer(exchange: Exchange, services: ApiServices, method: str) -> str:
    """Return the daemon's address as an issuer. Raises `NotFound` and `NotAllowedHere`."""
    issuer = exchange.base_url(services.settings)
    require_server(services, issuer)
    if exchange.scope["method"] not in (method, "HEAD" if method == "GET" else method):
        raise NotAllowedHere(exchange.scope["method"], exchange.scope["path"], method)
    return issuer


async def describe(exchange: Exchange, services: ApiServices) -> None:
    """Send the metadata of the authorization server (RFC 8414)."""
    await exchange.answer(200, orjson.dumps(metadata(_issuer(exchange, services, "GET"))))


async def register(exchange: Exchange, services: ApiServices) -> None:
    """Register a client (RFC 7591). The client is public, whatever authentication it requests."""
    _issuer(exchange, services, "POST")
    exchange.limit = MAX_DOCUMENT_BYTES
    try:
        document = await exchange.json()
    except InvalidRequest as error:
        raise OAuthError("invalid_client_metadata", error.message) from error
    client = exchange.scope.get("client")
    row = await services.oauth_clients.register(document, client[0] if client else "")
    answer = {
        "client_id": row.id,
        "client_id_issued_at": int(row.created_at),
        "client_name": row.name,
        "redirect_uris": row.redirect_uris,
        "grant_types": GRANT_TYPES,
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }
    await exchange.answer(201, orjson.dumps(answer), NO_STORE)


async def issue(exchange: Exchange, services: ApiServices) -> None:
    """Exchange a code or a refresh token for tokens (RFC 6749)."""
    await _answer_form(exchange, services, "answer_token_request")


async def revoke(exchange: Exchange, services: ApiServices) -> None:
    """Revoke the grant to which a token belongs (RFC 7009). Its calls and streams end."""
    await _answer_form(exchange, services, "answer_revocation")


async def _answer_form(exchange: Exchange, services: ApiServices, function: str) -> None:
    """Let a function of `portico_server.features.oauth.provider` answer a form."""
    _issuer(exchange, services, "POST")
    provider = await pools.LOADING.run(import_module, "portico_server.features.oauth.provider")
    exchange.limit = MAX_FORM_BYTES
    request = Request(exchange.scope, exchange.receive)
    if request.headers.get("content-type", "").partition(";")[0].strip() != FORM_TYPE:
        raise OAuthError("invalid_request", f"Send the parameters as {FORM_TYPE}.")
    form = await request.form(max_fields=MAX_FIELDS)
    if len(form) < len(form.multi_items()):
        raise OAuthError("invalid_request", "The request repeats a parameter; send each parameter once.")
    resource = form.get("resource")
    grant_provider = provider.GrantProvider(
        services.auth.grants, services.oauth_clients, resource if isinstance(resource, str) else None
    )
    response = await getattr(provider, function)(grant_provider, request)
    await response(exchange.scope, exchange.receive, exchange.send)
