"""The caller of a request: the owner of a key, issuer token or client secret, or a user who is signed in in a
browser.
"""

from __future__ import annotations

from urllib.parse import quote

from portico_server.api.auth import client_secrets, cookies
from portico_server.api.auth.credentials import hash_of, presented
from portico_server.api.auth.grants import ACCESS_PREFIX
from portico_server.api.auth.protected_resource import is_protected, metadata_url
from portico_server.api.auth.service import Auth
from portico_server.api.exchange import Exchange
from portico_server.api.services import ApiServices
from portico_server.core.errors import Unauthenticated
from portico_server.core.principal import Principal


class Callers:
    """Finds the caller of a request, and records in the exchange when the caller's token expires."""

    def __init__(self, services: ApiServices, auth: Auth) -> None:
        self._services = services
        self._auth = auth

    async def of_request(self, exchange: Exchange) -> Principal:
        """Return the caller. If the caller of an MCP endpoint is not authenticated, the error contains the address
        that explains how to obtain a key.
        """
        headers = exchange.headers
        try:
            if b"authorization" in headers or b"x-api-key" in headers:
                return await self._with_key(exchange, presented(exchange.scope["headers"]))
            return await self._without_key(exchange)
        except Unauthenticated as error:
            path = exchange.scope["path"]
            if is_protected(path):
                settings = self._services.settings
                base = exchange.base_url(settings)
                error.metadata = metadata_url(base, path)
                error.ask_for = settings.oidc_scopes if settings.oidc_issuer else ""
            raise

    async def of_socket(self, exchange: Exchange, *, takes_client_secret: bool) -> Principal:
        """Return the caller of a WebSocket. The WebSocket may pass its key as a subprotocol. If the key is a client
        secret, the WebSocket opens the secret's session.
        """
        scope = exchange.scope
        key = presented(scope["headers"]) or client_secrets.offered_key(scope.get("subprotocols", ()))
        if key is None:
            return await self._without_key(exchange, socket=True)
        if not takes_client_secret or not key.startswith(client_secrets.PREFIX):
            return await self._with_key(exchange, key)
        caller, scope["portico.session"], exchange.expires_at = client_secrets.open_secret(self._auth, key)
        return caller

    async def _with_key(self, exchange: Exchange, key: str | None) -> Principal:
        """Return the owner of a key, an access token or an issuer token. With a token, the call ends when the token
        expires.
        """
        if key is not None and key.startswith(ACCESS_PREFIX):
            return await self._with_grant(exchange, key)
        if not self._auth.identities.is_token(key):
            return self._auth.identify(key, proxy_sign=exchange.proxy_sign)
        signed_in = await self._auth.identities.sign_in(key)
        exchange.expires_at, exchange.role = signed_in.expires_at, signed_in.role
        return signed_in.caller

    async def _with_grant(self, exchange: Exchange, token: str) -> Principal:
        """Return the person who granted access to the client that sends an access token."""
        grants = self._auth.grants
        address = f"{exchange.base_url(self._services.settings)}{quote(exchange.scope['path'])}"
        grant = await grants.of_token(token, address)
        caller = grants.caller(grant)
        exchange.expires_at, exchange.sign_in = grant.expires_at or 0.0, grant.id
        return caller

    async def _without_key(self, exchange: Exchange, *, socket: bool = False) -> Principal:
        """Return the user who is signed in in the browser, if the request comes from the daemon's own page."""
        sign_ins = self._services.sign_ins
        scope = exchange.scope
        if b"cookie" in exchange.headers and sign_ins.clients:
            base = exchange.base_url(self._services.settings)
            secret = cookies.cookie(exchange.headers, cookies.SIGNED_IN, base)
            if secret and cookies.is_of_our_page(exchange.headers, scope["method"], base, socket=socket):
                return await self._signed_in(exchange, secret)
        return await self._with_key(exchange, None)

    async def _signed_in(self, exchange: Exchange, secret: str) -> Principal:
        async def renew() -> float:
            return (await self._services.sign_ins.caller(secret)).expires_at

        signed_in = await self._services.sign_ins.caller(secret)
        exchange.expires_at, exchange.role, exchange.renew = signed_in.expires_at, signed_in.role, renew
        exchange.sign_in = hash_of(secret)
        return signed_in.caller
