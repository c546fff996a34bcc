"""This daemon as a client of an OpenID Connect issuer."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
from collections.abc import Mapping
from dataclasses import field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from portico_server.api.auth.oidc import (
    OidcClient,
    TokenVerifier,
    base64url,
    published_address,
)
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    InvalidRequest,
    PorticoError,
    Unauthenticated,
    Unavailable,
)
from portico_server.core.fetching import Fetcher

logger = logging.getLogger(__name__)

RENEWAL_POLL_S: Final = 0.25
ASK_TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 2**18
MAX_AT_ONCE: Final = 16
"""Maximum concurrent requests to one issuer; further requests wait."""


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """Tokens from an issuer. Each token may be empty."""

    id_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


class IssuerClient:
    """This daemon as a client of one issuer."""

    def __init__(self, client: OidcClient, tokens: TokenVerifier, fetcher: Fetcher, scopes: str) -> None:
        self._client = client
        self._keys = tokens.issuers[client.issuer]
        self._fetcher = fetcher
        self._scopes = scopes
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    @property
    def id(self) -> str:
        return self._client.id

    async def address(self, secret: str, back: str) -> str:
        """Return the issuer's sign-in address for the browser that has ``secret``. Raises `Unavailable`."""
        query = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": back,
            "scope": self._scopes,
            "state": derived(secret, "state"),
            "nonce": derived(secret, "nonce"),
            "code_challenge": base64url(sha256(derived(secret, "verifier").encode()).digest()),
            "code_challenge_method": "S256",
        }
        place = self._place(await self._keys.document(), "authorization_endpoint")
        return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(query, quote_via=quote)}"

    async def requires_issuer(self) -> bool:
        """Return whether the issuer's responses always name it (RFC 9207)."""
        return (await self._keys.document()).get("authorization_response_iss_parameter_supported") is True

    async def exchange(self, code: str, secret: str, back: str) -> IssuedTokens:
        """Exchange an authorization code for tokens. Raise `Unauthenticated` if the issuer refuses the code, or
        `Unavailable`.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": derived(secret, "verifier"),
        }
        return await self._tokens(form)

    async def renew(self, refresh_token: str) -> IssuedTokens:
        """Return new tokens. Raise `Unauthenticated` if the refresh token is no longer valid, or `Unavailable`."""
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def revoke(self, refresh_token: str) -> None:
        """Revoke a refresh token at the issuer, if the issuer has a revocation endpoint. Failures are logged."""
        try:
            document = await self._keys.document()
            if refresh_token and document.get("revocation_endpoint"):
                form = {"token": refresh_token, "token_type_hint": "refresh_token"}
                await self._ask("revocation_endpoint", form)
        except PorticoError as error:
            logger.warning(
                "the issuer %s did not revoke a refresh token: %s", self._client.issuer, error.message
            )

    async def _tokens(self, form: Mapping[str, str]) -> IssuedTokens:
        status, tokens = await self._ask("token_endpoint", form)
        if status != 200:
            error_text = str(tokens.get("error"))[:100]
            logger.warning(
                "the issuer %s issued no tokens: HTTP %d, %r", self._client.issuer, status, error_text
            )
            if status == 429 or status >= 500:
                raise self._unavailable()
            raise Unauthenticated("The issuer has ended this sign-in.", code="sign_in_ended")
        token_values = (tokens.get("id_token", ""), tokens.get("refresh_token", ""))
        if not all(isinstance(token, str) for token in token_values):
            raise self._unavailable()
        return IssuedTokens(*token_values)

    async def _ask(self, endpoint: str, form: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        """Post a form to an issuer's endpoint as this client. Return the status and the JSON object of the response."""
        document = await self._keys.document()
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        fields = dict(form)
        methods = document.get("token_endpoint_auth_methods_supported")
        if not self._client.secret:
            fields["client_id"] = self._client.id
        elif isinstance(methods, list) and "client_secret_basic" not in methods:
            fields |= {"client_id": self._client.id, "client_secret": self._client.secret}
        else:
            credentials = f"{quote(self._client.id, safe='')}:{quote(self._client.secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        data = bytearray()
        place = self._place(document, endpoint)
        body = urlencode(fields).encode()
        try:
            async with (
                asyncio.timeout(ASK_TIMEOUT_S),
                self._slots,
                self._fetcher.session() as session,
                session.open(
                    place, headers, seconds=ASK_TIMEOUT_S, method="POST", is_signed=True, body=body
                ) as arrival,
            ):
                async for block in arrival.body:
                    data += block
                    if len(data) > MAX_ANSWER_BYTES:
                        raise self._unavailable()
                status = arrival.status
        except (TimeoutError, PorticoError) as error:
            logger.warning("the issuer %s did not answer: %s", self._client.issuer, error)
            raise self._unavailable() from error
        try:
            found_document = orjson.loads(data)
        except orjson.JSONDecodeError:
            found_document = {}
        return status, found_document if isinstance(found_document, dict) else {}

    def _place(self, document: Mapping[str, Any], name: str) -> str:
        """Return an issuer's endpoint. Raise `Unavailable` if it is not safe to send secrets to the endpoint."""
        place = published_address(document, name)
        try:
            self._fetcher.check(place, secure=True)
        except InvalidRequest as error:
            raise Unavailable(
                f"The '{name}' of the issuer {self._client.issuer[:200]} cannot be used: {error.message}",
                code="issuer_unavailable",
            ) from error
        return place

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            f"The issuer {self._client.issuer[:200]} does not respond. Try again soon.",
            code="issuer_unavailable",
            retry_after=RENEWAL_POLL_S,
        )


def derived(secret: str, purpose: str) -> str:
    """Return a value derived from a secret that must not be exposed: a ``state``, ``nonce`` or ``verifier``."""
    return base64url(hmac.digest(secret.encode(), purpose.encode(), sha256))
