"""Tokens of OpenID Connect issuers: which tokens are accepted, and their claims.

Sources: OpenID Connect Core and Discovery 1.0, RFC 7517 (keys), RFC 7519 (claims), RFC 8725 (best practices). The
first token triggers the import of PyJWT.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from importlib import import_module
from itertools import zip_longest
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import orjson

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, Unauthenticated, Unavailable
from portico_server.core.fetching import Fetcher, read_whole
from portico_server.core.names import has_controls, is_plain
from portico_server.core.rate_bucket import RateBucket
from portico_server.settings import Settings, comma_separated

logger = logging.getLogger(__name__)

_KEY_TYPES: Final = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Algorithms that may be allowed, with the key type and curve of each. All of them use a public key."""

_TOKEN_TYPES: Final = frozenset({"", "jwt", "at+jwt"})
"""``typ`` values of access and ID tokens. Other tokens of the same issuer, such as logout tokens, do not identify a
caller (RFC 8725, 3.11).
"""

MAX_TOKEN_CHARS: Final = 16_384
MAX_DOCUMENT_BYTES: Final = 2**20
MAX_KEYS: Final = 100
MAX_NAME_CHARS: Final = 100
MAX_SUBJECT_CHARS: Final = 255

MAX_TIME: Final = 2**40
"""Latest expiry of a token, in seconds since 1970. Later times count as this time."""

FETCH_TIMEOUT_S: Final = 5.0
MAX_FETCHES: Final = 6
"""Maximum number of fetches of an issuer's keys per minute, whatever tokens arrive."""

KEYS_TTL_S: Final = 3_600.0
"""Seconds after which keys are fetched again. The daemon accepts a key that its issuer has withdrawn for at most this
long.
"""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The claims of a verified token. Times are in seconds since 1970."""

    issuer: str
    subject: str
    name: str
    claims: Mapping[str, Any]
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class OidcClient:
    """The registration of this daemon as a client of an issuer. A client without a ``secret`` is a public client."""

    issuer: str
    id: str
    secret: str = field(default="", repr=False)


def page_clients(settings: Settings) -> Sequence[OidcClient]:
    """Return the clients with which users sign in through the web page."""
    client_lists = (comma_separated(settings.oidc_issuer), _in_order(settings.oidc_client_id))
    secrets = _in_order(settings.oidc_client_secret)
    return [
        OidcClient(issuer, client, secret)
        for issuer, client, secret in zip_longest(*client_lists, secrets, fillvalue="")
        if issuer and client
    ]


def terminal_clients(settings: Settings) -> Sequence[OidcClient]:
    """Return the clients with which users sign in from a terminal. They have no secret."""
    client_lists = (comma_separated(settings.oidc_issuer), _in_order(settings.oidc_cli_client_id))
    return [
        OidcClient(issuer, client)
        for issuer, client in zip_longest(*client_lists, fillvalue="")
        if issuer and client
    ]


def _in_order(text: str) -> Sequence[str]:
    """Return the words of a comma-separated list in order, including empty words."""
    return [word.strip() for word in text.split(",")] if text.strip() else []


def is_token(secret: str) -> bool:
    """Return whether a secret has the form of a signed token."""
    return secret.startswith("eyJ") and secret.count(".") == 2


class TokenVerifier:
    """Checks tokens of the issuers named in the settings."""

    def __init__(
        self, settings: Settings, fetcher: Fetcher, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        names = comma_separated(settings.oidc_issuer)
        self.issuers = {name: IssuerKeys(name, fetcher, now) for name in names}
        self._algorithms = comma_separated(settings.oidc_algorithms)
        self._audiences = [
            *(comma_separated(settings.oidc_audience) or comma_separated(settings.public_url.rstrip("/"))),
            *(client.id for client in (*page_clients(settings), *terminal_clients(settings))),
        ]

    def check(self) -> None:
        """Raise `InvalidRequest` for settings that would let nobody or anybody sign in."""
        for algorithm in self._algorithms:
            if algorithm not in _KEY_TYPES:
                raise InvalidRequest(
                    f"'{algorithm[:40]}' is not a supported token algorithm. Supported algorithms, all with "
                    f"a public key: {', '.join(_KEY_TYPES)}.",
                    param="oidc_algorithms",
                )
        for issuer in self.issuers:
            try:
                self._fetcher.check(issuer, secure=True)
            except InvalidRequest as error:
                raise InvalidRequest(
                    f"The issuer {issuer[:200]} cannot be used: {error.message} To allow a private host, "
                    "name it in the setting oidc_hosts (PORTICO_OIDC_HOSTS).",
                    code=error.code,
                    param="oidc_issuer",
                ) from error
        if self.issuers and not self._audiences:
            raise InvalidRequest(
                "The issuer also issues tokens for other audiences. Set oidc_audience "
                "(PORTICO_OIDC_AUDIENCE) to the 'aud' of the tokens for this daemon, or set public_url.",
                param="oidc_audience",
            )
        for name in ("oidc_client_id", "oidc_client_secret", "oidc_cli_client_id"):
            if len(_in_order(getattr(self._settings, name))) > len(self.issuers):
                raise InvalidRequest(
                    f"The setting {name} has more entries than oidc_issuer has issuers. Give one entry per "
                    "issuer, in the same order, separated by commas.",
                    param=name,
                )
        if self._settings.oidc_client_secret and not self._settings.oidc_client_id:
            raise InvalidRequest(
                "A client secret is set without a client id. Set oidc_client_id (PORTICO_OIDC_CLIENT_ID).",
                param="oidc_client_id",
            )
        terminal = terminal_clients(self._settings)
        client_ids = {(client.issuer, client.id) for client in page_clients(self._settings) if client.secret}
        for client in terminal:
            if has_controls(client.id) or len(client.id) > MAX_SUBJECT_CHARS:
                raise InvalidRequest(
                    f"A client id must have at most {MAX_SUBJECT_CHARS} characters, all of them printable.",
                    param="oidc_cli_client_id",
                )
            if (client.issuer, client.id) in client_ids:
                raise InvalidRequest(
                    f"The client '{client.id[:100]}' has a secret, which a terminal cannot keep. Register a "
                    "separate public client at the issuer for oidc_cli_client_id.",
                    param="oidc_cli_client_id",
                )
        if (terminal or page_clients(self._settings)) and "openid" not in self._settings.oidc_scopes.split():
            raise InvalidRequest(
                "Without the scope openid, an issuer does not identify the user who signs in. Add openid to "
                "oidc_scopes.",
                param="oidc_scopes",
            )

    async def verify(self, token: str) -> VerifiedToken:
        """Return the claims of a token. Raise `Unauthenticated` if it is invalid, or `Unavailable` if it cannot be
        checked now.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise _refusal(f"it has more than {MAX_TOKEN_CHARS:,} characters")
        header, claims = (_part(part) for part in token.split(".")[:2])
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise _refusal(f"its algorithm is not one of {', '.join(self._algorithms)}")
        kind = header.get("typ", "")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TOKEN_TYPES:
            raise _refusal("it is neither an access token nor an ID token")
        if "crit" in header or not isinstance(key_id, str | None):
            raise _refusal("its header cannot be parsed")
        issuer = claims.get("iss")  # trusted only after the signature is verified with this issuer's key
        keys = self.issuers.get(issuer) if isinstance(issuer, str) else None
        if keys is None:
            raise _refusal("its issuer is not configured for this daemon")
        key = await keys.find(key_id, algorithm)
        if "jwt" not in sys.modules:
            await pools.LOADING.run(import_module, "jwt")
        return self._verified(keys.issuer, _decode(token, key, algorithm, self._settings.oidc_leeway))

    def _verified(self, issuer: str, claims: Mapping[str, Any]) -> VerifiedToken:
        if claims["iss"] != issuer:
            raise _refusal("its issuer is not configured for this daemon")
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not any(isinstance(audience, str) and self._is_ours(audience) for audience in audiences):
            raise _refusal(
                "it is for another audience. The setting oidc_audience names the audience of this daemon"
            )
        subject = claims["sub"]
        if not 0 < len(subject) <= MAX_SUBJECT_CHARS:
            raise _refusal(f"its subject must have 1 to {MAX_SUBJECT_CHARS} characters")
        if has_controls(subject):
            raise _refusal("its subject contains a character that is not printable")
        now = time.time()
        issued_at = claims.get("iat", now)
        names = [claims.get(claim) for claim in ("preferred_username", "email", "name")]
        return VerifiedToken(
            issuer,
            subject,
            next((name for name in (*names, subject) if _is_name(name)), "somebody"),
            claims,
            min(float(issued_at), now),
            min(int(claims["exp"]), MAX_TIME) + self._settings.oidc_leeway,
        )

    def _is_ours(self, audience: str) -> bool:
        """Return whether tokens for this audience are for this daemon. If an audience of this daemon is an address,
        the MCP endpoints below that address are audiences too.
        """
        return any(
            audience.rstrip("/") == own_audience.rstrip("/")
            or (
                own_audience.startswith(("https://", "http://"))
                and f"{audience}/".startswith(f"{own_audience.rstrip('/')}/mcp/")
            )
            for own_audience in self._audiences
        )


class IssuerKeys:
    """The keys that one issuer publishes. Fetched keys stay in use while the issuer does not respond."""

    def __init__(self, issuer: str, fetcher: Fetcher, now: Callable[[], float]) -> None:
        self.issuer = issuer
        self._fetcher = fetcher
        self._now = now
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._document: Mapping[str, Any] | None = None
        self._due_at = now()
        self._bucket = RateBucket(MAX_FETCHES, 60.0, now())
        self._fetching = asyncio.Lock()
        self._fetches_count = 0
        self._problem: PorticoError | None = None
        """The error of the last fetch; ``None`` if the fetch succeeded."""

    async def find(self, key_id: str | None, algorithm: str) -> Mapping[str, Any]:
        """Return the issuer's key with which a token says it is signed. Raise `Unauthenticated`, or `Unavailable` if
        the keys cannot be fetched.
        """
        key = self._find(key_id, algorithm)
        if key is None or (self._now() >= self._due_at and not self._fetching.locked()):
            await self._renew()
            key = self._find(key_id, algorithm)
        if key is not None:
            return key
        if self._problem is not None:
            raise Unavailable(
                f"The keys of the issuer {self.issuer[:200]} cannot be fetched, so its new tokens cannot be "
                "checked. Try again soon, or send a key of this daemon.",
                code="issuer_unavailable",
                retry_after=60.0 / MAX_FETCHES,
            )
        raise _refusal("it is signed with a key that its issuer does not publish")

    def _find(self, key_id: str | None, algorithm: str) -> Mapping[str, Any] | None:
        """Return the matching key. Without an id, exactly one key must match."""
        family, curve = _KEY_TYPES[algorithm]
        fitting = [
            key
            for key in self._keys
            if key.get("kty") == family
            and key.get("crv") == curve
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
            and (key_id is None or key.get("kid") == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _renew(self) -> None:
        """Fetch the issuer's keys, unless another caller fetched them meanwhile or the issuer was asked too often."""
        before = self._fetches_count
        async with self._fetching:
            now = self._now()
            if self._fetches_count != before or self._bucket.wait(1, now) > 0:
                return
            self._bucket.take(1, now)
            try:
                self._keys = await self._fetch()
                self._problem = None
            except PorticoError as error:
                self._problem = error
                logger.warning("cannot fetch the keys of the issuer %s: %s", self.issuer, error.message)
            # After a failure, wait a minute and use the keys fetched earlier, so that calls do not wait for
            # every attempt.
            self._due_at = now + (KEYS_TTL_S if self._problem is None else 60.0)
            self._fetches_count += 1

    async def _fetch(self) -> Sequence[Mapping[str, Any]]:
        document = await self._fetch_document()
        keys = (await self._read(published_address(document, "jwks_uri"))).get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise Unavailable(f"The issuer does not publish a list of at most {MAX_KEYS} keys.")
        self._document = document
        return [key for key in keys if isinstance(key, dict)]

    async def document(self) -> Mapping[str, Any]:
        """Return the issuer's metadata, from the cache if possible. Raise `Unavailable` if it cannot be fetched."""
        if self._document is None or (self._now() >= self._due_at and not self._fetching.locked()):
            await self._renew()
        if self._document is None:
            raise Unavailable(
                f"The issuer {self.issuer[:200]} does not respond. Try again soon.",
                code="issuer_unavailable",
                retry_after=60.0 / MAX_FETCHES,
            )
        return self._document

    async def _fetch_document(self) -> Mapping[str, Any]:
        document = await self._read(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self.issuer:
            raise Unavailable(
                f"The issuer identifies itself as '{str(document.get('issuer'))[:200]}'; set oidc_issuer to "
                "exactly this value."
            )
        return document

    async def _read(self, url: str) -> Mapping[str, Any]:
        raw = await read_whole(self._fetcher, url, limit=MAX_DOCUMENT_BYTES, seconds=FETCH_TIMEOUT_S)
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise Unavailable(f"The document at {url[:200]} is not a JSON object.")
        return document


def published_address(document: Mapping[str, Any], name: str) -> str:
    """Return an address that the issuer publishes. Raises `Unavailable`."""
    address = document.get(name)
    if isinstance(address, str) and address.isascii() and address.isprintable():
        with suppress(ValueError):
            if urlsplit(address).scheme in ("https", "http"):
                return address
    raise Unavailable(f"The issuer does not publish a valid address as '{name}'.", code="issuer_unavailable")


def _part(text: str) -> Mapping[str, Any]:
    """Return the JSON object in a part of a token. Raises `Unauthenticated`."""
    try:
        part = orjson.loads(from_base64url(text))
    except ValueError:
        part = None
    if not isinstance(part, dict):
        raise _refusal("it cannot be parsed")
    return part


def _decode(token: str, key: Mapping[str, Any], algorithm: str, leeway: float) -> Mapping[str, Any]:
    """Return the claims of a token that is signed with ``key`` and currently valid. Raises `Unauthenticated`."""
    import jwt

    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(dict(key), algorithm),
            algorithms=[algorithm],
            leeway=leeway,
            options={
                "require": ["iss", "sub", "aud", "exp"],
                "verify_aud": False,  # `TokenVerifier` does
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("This token has expired. Sign in again.", code="token_expired") from None
    except jwt.ImmatureSignatureError:
        raise _refusal("it is not valid yet; the clocks may differ") from None
    except jwt.MissingRequiredClaimError as error:
        raise _refusal(f"it has no claim '{error.claim}'") from None
    except jwt.InvalidSignatureError:
        raise _refusal("its signature is invalid") from None
    except (jwt.PyJWTError, RecursionError, ValueError, TypeError, OverflowError):
        raise _refusal("its claims or its key cannot be parsed") from None
    return claims


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and 0 < len(name.strip()) <= MAX_NAME_CHARS and is_plain(name)


def _refusal(reason: str) -> Unauthenticated:
    return Unauthenticated(
        f"This token is not accepted: {reason}. Sign in again, or send a key.", code="invalid_token"
    )


def base64url(data: bytes) -> str:
    """Return data in base64url without padding, as used in tokens and URLs."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Return the data that a base64url text encodes, with or without padding. Raises `ValueError`."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
