"""The storage behind the MCP package's token handler: `Grants` in the form of its provider protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import AuthenticationError, ClientAuthenticator
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    TokenError,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyUrl
from starlette.requests import Request
from starlette.responses import Response

from portico_server.api.auth.grants import Grants, GrantTokens
from portico_server.api.auth.oauth_clients import OAuthClients
from portico_server.api.auth.oauth_errors import OAuthError
from portico_server.db.grants import ACCESS_LIFE_S, CODE_LIFE_S, GrantRow


class _Code(AuthorizationCode):
    row: GrantRow


class _RefreshToken(RefreshToken):
    row: GrantRow


class _AccessToken(AccessToken):
    row: GrantRow


class GrantProvider(OAuthAuthorizationServerProvider[_Code, _RefreshToken, _AccessToken]):
    """The provider for one request; ``resource`` is the resource that the request names, if any."""

    def __init__(self, grants: Grants, clients: OAuthClients, resource: str | None) -> None:
        self._grants = grants
        self._clients = clients
        self._resource = resource

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        row = await self._clients.find(client_id)
        if row is None:
            return None
        return OAuthClientInformationFull.model_validate(
            {"client_id": row.id, "token_endpoint_auth_method": "none"}
        )

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> _Code | None:
        row = await self._grants.of_code(authorization_code, client.client_id)
        if row is None:
            return None
        return _Code(
            code=authorization_code,
            scopes=list(row.scopes),
            expires_at=row.issued_at + CODE_LIFE_S,
            client_id=row.client_id,
            code_challenge=row.challenge,
            redirect_uri=AnyUrl(row.redirect_uri),
            redirect_uri_provided_explicitly=True,
            row=row,
        )

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: _Code
    ) -> OAuthToken:
        row = authorization_code.row
        self._check_resource(row)
        return _to_token(await self._grants.issue(row, row.scopes))

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> _RefreshToken | None:
        row = await self._grants.of_refresh_token(refresh_token, client.client_id)
        if row is None:
            return None
        return _RefreshToken(token=refresh_token, client_id=row.client_id, scopes=list(row.scopes), row=row)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: _RefreshToken, scopes: Sequence[str]
    ) -> OAuthToken:
        self._check_resource(refresh_token.row)
        return _to_token(await self._grants.issue(refresh_token.row, scopes, refresh_token.token))

    async def load_access_token(self, token: str) -> _AccessToken | None:
        row = await self._grants.of_access_token(token)
        if row is None:
            return None
        return _AccessToken(token=token, client_id=row.client_id, scopes=list(row.scopes), row=row)

    async def revoke_token(self, token: _AccessToken | _RefreshToken) -> None:
        await self._grants.revoke(token.row.id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> NoReturn:
        raise NotImplementedError("`OAuthClients` registers clients.")

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> NoReturn:
        raise NotImplementedError("The consent page authorizes clients.")

    def _check_resource(self, row: GrantRow) -> None:
        if self._resource is not None and self._resource.rstrip("/") != row.audience:
            raise TokenError("invalid_target", f"This grant is for the resource {row.audience}.")


def _to_token(tokens: GrantTokens | None) -> OAuthToken:
    if tokens is None:
        raise TokenError(
            "invalid_grant", "The code or the refresh token was already used, or access was revoked."
        )
    return OAuthToken(
        access_token=tokens.access,
        expires_in=int(ACCESS_LIFE_S),
        scope=" ".join(tokens.scopes),
        refresh_token=tokens.refresh,
    )


async def answer_token_request(provider: GrantProvider, request: Request) -> Response:
    """Exchange a code or a refresh token for tokens."""
    response: Response = await TokenHandler(provider, ClientAuthenticator(provider)).handle(request)
    return response


async def answer_revocation(provider: GrantProvider, request: Request) -> Response:
    """Revoke the grant to which a token belongs, if it is a grant of the client. The package's own handler requires a
    client secret, which public clients do not have.
    """
    try:
        client = await ClientAuthenticator(provider).authenticate_request(request)
    except AuthenticationError as error:
        raise OAuthError("invalid_client", error.message) from error
    token = str((await request.form()).get("token", ""))
    if not token:
        raise OAuthError("invalid_request", "The request has no token.")
    loaded_token = await provider.load_access_token(token) or await provider.load_refresh_token(client, token)
    if loaded_token is not None and loaded_token.client_id == client.client_id:
        await provider.revoke_token(loaded_token)
    return Response(headers={"Cache-Control": "no-store"})
