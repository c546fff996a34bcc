"""Browser sign-in through an issuer: the daemon gets the tokens, and the browser stores a random secret in a cookie.

Sources: OpenID Connect Core 1.0, RFC 6749 with RFC 9700 (threats), RFC 7636 (PKCE), RFC 7009 (revocation), RFC 9207
(the issuer in a response), RFC 6265bis (cookies).
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from hashlib import sha256
from importlib import import_module
from typing import Any, Final

import orjson

from portico_server.api.auth.credentials import hash_of
from portico_server.api.auth.identities import SignedIn
from portico_server.api.auth.issuer_client import (
    ASK_TIMEOUT_S,
    RENEWAL_POLL_S,
    IssuedTokens,
    IssuerClient,
    derived,
)
from portico_server.api.auth.oidc import (
    TokenVerifier,
    VerifiedToken,
    page_clients,
)
from portico_server.api.auth.service import Auth
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    PorticoError,
    Unauthenticated,
    Unavailable,
)
from portico_server.core.fetching import Fetcher
from portico_server.db import sign_ins
from portico_server.db.database import Database
from portico_server.db.sign_ins import SignInRow
from portico_server.settings import Settings

logger = logging.getLogger(__name__)

START: Final = "/api/sign-in"
CALLBACK: Final = f"{START}/callback"

START_LIFE_S: Final = 600
"""Seconds within which a user must return from the issuer."""

MAX_PER_IDENTITY: Final = 20
"""Maximum number of browsers in which one identity is signed in. Beyond it, the least recently used sign-in ends."""

MAX_KNOWN: Final = 10_000
"""Maximum number of sign-ins kept in memory."""

READ_TTL_S: Final = 5.0
"""Seconds after which a sign-in is read from the database again, because another daemon may have ended it."""

USE_INTERVAL_S: Final = 60.0
"""Minimum interval, in seconds, between two recorded uses of a sign-in."""

RENEW_AHEAD_S: Final = 60.0
"""Seconds before a token's expiry at which the token is renewed; at most half of the token's remaining lifetime."""

RENEWAL_S: Final = 30.0
"""Seconds that one daemon may take to renew a token, and after which a failed renewal is retried."""

MAX_PARAMETER_CHARS: Final = 4_096


class SignInFailed(PorticoError):
    """An error for a user who returned from an issuer without being signed in. ``code`` is the reason, as a word that
    the sign-in page understands.
    """

    status = 400
    type = "invalid_request_error"


@dataclass(slots=True)
class _Known:
    """A sign-in in memory, with its tokens. ``read_at`` is a time on the monotonic clock; the other times are in
    seconds since 1970.
    """

    row: SignInRow
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    renew_at: float
    read_at: float


class SignIns:
    """Tracks which user is signed in in which browser. A sign-in has the rights of its token, which is checked like
    any other token.

    The browser's secret is not stored: the database contains the secret's hash, and the tokens encrypted with a key
    derived from the secret. So access to the database is not enough to make calls or renew tokens.
    """

    def __init__(
        self, database: Database, settings: Settings, tokens: TokenVerifier, fetcher: Fetcher, auth: Auth
    ) -> None:
        self._database = database
        self._settings = settings
        self._verifier = tokens
        self._auth = auth
        self.clients = {
            client.issuer: IssuerClient(client, tokens, fetcher, settings.oidc_scopes)
            for client in page_clients(settings)
            if client.issuer in tokens.issuers
        }
        """This daemon's clients of the issuers with which users can sign in, keyed by issuer."""
        self._sign_ins: OrderedDict[str, _Known] = OrderedDict()
        """Sign-ins, keyed by the hash of the browser's secret."""
        self._renewals: dict[str, asyncio.Task[_Known]] = {}
        self.ended: list[Callable[[str, str], Awaitable[None]]] = []
        """Callbacks that receive the owner and the hash of an ended sign-in. Each callback ends calls that were made
        with that sign-in.
        """
        auth.revoked.append(self._forget_all)

    async def start(self, issuer: str | None, back: str) -> tuple[str, str]:
        """Return the issuer's sign-in address, and the secret that the browser keeps until the user returns.

        The daemon stores nothing. Raise `InvalidRequest` if the issuer is unknown, `NotFound` if no client is
        configured, or `Unavailable`.
        """
        if not self.clients:
            raise NotFound(
                "This daemon has no sign-in page: its operator has not set oidc_client_id. Send a key.",
                code="sign_in_not_configured",
            )
        issuer_name = next(iter(self.clients)) if issuer is None and len(self.clients) == 1 else issuer
        client = self.clients.get(issuer_name or "")
        if client is None:
            raise InvalidRequest(
                f"Sign in with one of this daemon's issuers: {', '.join(self.clients)}.", param="issuer"
            )
        secret = f"{secrets.token_urlsafe(32)}.{list(self.clients).index(str(issuer_name))}"
        return await client.address(secret, back), secret

    async def finish(self, secret: str, answer: Mapping[str, str], back: str) -> str:
        """Return the secret of a new sign-in, for a browser that left with ``secret`` and came back with the issuer's
        ``answer``.

        Raise `SignInFailed` and log the reason.
        """
        try:
            return await self._finish(secret, answer, back)
        except SignInFailed:
            raise
        except PorticoError as error:
            logger.warning("a sign-in failed: %s", error.message)
            error_codes = {"no_role": "no_role", "key_revoked": "blocked"}
            code = "issuer" if isinstance(error, Unavailable) else error_codes.get(error.code or "", "failed")
            raise SignInFailed(error.message, code=code) from error

    async def _finish(self, secret: str, answer: Mapping[str, str], back: str) -> str:
        number = secret.rpartition(".")[2]
        issuers = list(self.clients)
        issuer = issuers[int(number)] if number in map(str, range(len(issuers))) else ""
        state = answer.get("state", "")
        if not issuer or not hmac.compare_digest(state.encode(), derived(secret, "state").encode()):
            raise SignInFailed(
                "This browser did not start this sign-in, or the sign-in took too long.", code="expired"
            )
        client = self.clients[issuer]
        answered_issuer = answer.get("iss")
        if answered_issuer != issuer and (answered_issuer is not None or await client.requires_issuer()):
            raise SignInFailed(
                "The response comes from another issuer than the one the browser was sent to.", code="failed"
            )
        if "error" in answer:
            is_denied = answer["error"] == "access_denied"
            logger.warning("the issuer %s refused a sign-in: %r", issuer, answer["error"][:100])
            raise SignInFailed("The issuer refused the sign-in.", code="denied" if is_denied else "failed")
        code = answer.get("code", "")
        if not 0 < len(code) <= MAX_PARAMETER_CHARS:
            raise SignInFailed("The issuer sent no code.", code="failed")
        tokens = await client.exchange(code, secret, back)
        verified_token = await self._verifier.verify(tokens.id_token)
        self._require_ours(verified_token, client, issuer)
        if verified_token.claims.get("nonce") != derived(secret, "nonce"):
            raise Unauthenticated("The issuer's token is for another sign-in.", code="invalid_token")
        signed_in = await self._auth.identities.sign_in(tokens.id_token)
        return await self._add(issuer, signed_in, tokens, verified_token)

    def _require_ours(self, verified_token: VerifiedToken, client: IssuerClient, issuer: str) -> None:
        """Raise `Unauthenticated` if the issuer issued the token to another client."""
        audience = verified_token.claims["aud"]
        party = verified_token.claims.get("azp", client.id)
        if verified_token.issuer != issuer or client.id not in (audience, *audience) or party != client.id:
            raise Unauthenticated("The issuer's token is for another client.", code="invalid_token")

    async def _add(
        self, issuer: str, signed_in: SignedIn, tokens: IssuedTokens, verified_token: VerifiedToken
    ) -> str:
        secret = secrets.token_urlsafe(32)
        row = SignInRow(
            hash_of(secret), signed_in.caller.id, issuer, await _seal(secret, tokens), 0, time.time()
        )
        over = await self._database.write(sign_ins.add, row, self._settings.sign_in_idle, MAX_PER_IDENTITY)
        for row_hash in over:
            await self._end_sign_in(row.owner, row_hash)
        self._keep(_to_sign_in(row, tokens, verified_token))
        return secret

    async def caller(self, secret: str) -> SignedIn:
        """Return the caller for a browser's secret, with the current token. Raise `Unauthenticated` if the sign-in has
        ended, and otherwise as `Identities.sign_in` does.
        """
        sign_in = await self._find(secret)
        if sign_in.refresh_token and time.time() >= sign_in.renew_at:
            sign_in = await self._renewed(secret, sign_in)
        try:
            return await self._auth.identities.sign_in(sign_in.token)
        except Unauthenticated as error:
            await self._end(sign_in.row)
            raise _over() from error
        except Forbidden:
            await self._end(sign_in.row)
            raise

    async def _find(self, secret: str) -> _Known:
        row_hash = hash_of(secret)
        sign_in = self._sign_ins.get(row_hash)
        now = time.monotonic()
        if sign_in is not None and now - sign_in.read_at < READ_TTL_S:
            self._sign_ins.move_to_end(row_hash)
            return sign_in
        row = await self._database.read(sign_ins.get, row_hash, self._settings.sign_in_idle)
        if row is None:
            if sign_in is not None:
                await self._end_sign_in(sign_in.row.owner, row_hash)
            raise _over()
        if sign_in is None or sign_in.row.renewals != row.renewals:
            sign_in = await self._open_tokens(secret, row)
        if row.used_at < time.time() - min(USE_INTERVAL_S, self._settings.sign_in_idle / 10):
            await self._database.write(sign_ins.use, row_hash)
        sign_in.read_at = now
        return self._keep(sign_in)

    async def _open_tokens(self, secret: str, row: SignInRow) -> _Known:
        """Return a database row as a sign-in, with its tokens decrypted with the browser's secret."""
        tokens = await _unsealed(secret, row.sealed)
        return _to_sign_in(row, tokens, await self._verified(tokens.id_token))

    async def _verified(self, token: str) -> VerifiedToken | None:
        try:
            return await self._verifier.verify(token)
        except Unauthenticated:  # the token has expired, or the issuer has withdrawn its key
            return None

    def _keep(self, sign_in: _Known) -> _Known:
        self._sign_ins[sign_in.row.hash] = sign_in
        self._sign_ins.move_to_end(sign_in.row.hash)
        if len(self._sign_ins) > MAX_KNOWN:
            self._sign_ins.popitem(last=False)
        return sign_in

    async def _renewed(self, secret: str, sign_in: _Known) -> _Known:
        """Return the sign-in with new tokens.

        All waiting callers share one renewal. A caller that disconnects does not cancel the renewal, because the
        issuer accepts a refresh token only once.
        """
        row_hash = sign_in.row.hash
        task = self._renewals.get(row_hash)
        if task is None:
            task = self._renewals[row_hash] = asyncio.create_task(
                self._renew(secret, sign_in), name="sign-in"
            )

            def on_end(task: asyncio.Task[_Known]) -> None:
                self._renewals.pop(row_hash, None)
                if not task.cancelled():
                    task.exception()  # the waiting callers received the exception

            task.add_done_callback(on_end)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the renewals in progress."""
        tasks = list(self._renewals.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, secret: str, sign_in: _Known) -> _Known:
        """Request new tokens from the issuer, one daemon at a time.

        While renewal fails, the old token stays valid until it expires. Raise `Unauthenticated` once the issuer issues
        no more tokens, or `Unavailable`.
        """
        row = sign_in.row
        if not await self._database.write(sign_ins.begin_renewal, row.hash, row.renewals, RENEWAL_S):
            return await self._renewed_elsewhere(secret, sign_in)
        client = self.clients.get(row.issuer)
        try:
            if client is None:  # the operator removed the client from the settings
                raise _over()
            tokens = await client.renew(sign_in.refresh_token)
            verified_token = await self._verifier.verify(tokens.id_token) if tokens.id_token else None
            if verified_token is None and time.time() >= sign_in.expires_at:
                raise _over()
            if verified_token is not None:
                self._require_ours(verified_token, client, row.issuer)
                if (await self._auth.identities.sign_in(tokens.id_token)).caller.id != row.owner:
                    raise _over()
        except Unavailable:
            await self._database.write(sign_ins.end_renewal, row.hash, None)
            sign_in.renew_at = time.time() + RENEWAL_S
            if time.time() < sign_in.expires_at:
                return sign_in
            raise
        except (Unauthenticated, Forbidden):
            await self._end(row)
            raise
        issued_tokens = IssuedTokens(
            tokens.id_token or sign_in.token, tokens.refresh_token or sign_in.refresh_token
        )
        sealed_tokens = await _seal(secret, issued_tokens)
        if not await self._database.write(sign_ins.end_renewal, row.hash, sealed_tokens):
            await self._end_sign_in(row.owner, row.hash)
            raise _over()
        renewed_sign_in = _to_sign_in(
            replace(row, sealed=sealed_tokens, renewals=row.renewals + 1), issued_tokens, verified_token
        )
        if (
            verified_token is None
        ):  # the issuer sent no new ID token, so the old ID token stays valid until it expires
            renewed_sign_in.expires_at = renewed_sign_in.renew_at = sign_in.expires_at
        return self._keep(renewed_sign_in)

    async def _renewed_elsewhere(self, secret: str, sign_in: _Known) -> _Known:
        """Return a sign-in that another daemon is renewing: unchanged while its token is valid, otherwise after the
        renewal.
        """
        if time.time() < sign_in.expires_at:
            sign_in.renew_at = time.time() + READ_TTL_S
            return sign_in
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                while True:
                    row = await self._database.read(
                        sign_ins.get, sign_in.row.hash, self._settings.sign_in_idle
                    )
                    if row is None:
                        raise _over()
                    if row.renewals != sign_in.row.renewals:
                        return self._keep(await self._open_tokens(secret, row))
                    await asyncio.sleep(RENEWAL_POLL_S)
        except TimeoutError:
            raise Unavailable(
                "Another daemon is renewing this sign-in. Try again soon.",
                code="issuer_unavailable",
                retry_after=1.0,
            ) from None

    async def end(self, secret: str) -> bool:
        """Sign out a browser, in the daemon and at the issuer. Return whether a user was signed in."""
        row_hash = hash_of(secret)
        row = await self._database.read(sign_ins.get, row_hash, self._settings.sign_in_idle)
        if row is None:
            return False
        tokens = await _unsealed(secret, row.sealed)
        await self._end(row)
        client = self.clients.get(row.issuer)
        if client is not None:
            await client.revoke(tokens.refresh_token)
        return True

    async def _end(self, row: SignInRow) -> None:
        await self._database.write(sign_ins.end, row.hash)
        await self._end_sign_in(row.owner, row.hash)

    async def _end_sign_in(self, owner: str, row_hash: str) -> None:
        self._sign_ins.pop(row_hash, None)
        for end in self.ended:
            await end(owner, row_hash)

    async def _forget_all(self, owner: str) -> None:
        for row_hash in [
            hashed_row_hash
            for hashed_row_hash, sign_in in self._sign_ins.items()
            if sign_in.row.owner == owner
        ]:
            del self._sign_ins[row_hash]


def _to_sign_in(row: SignInRow, tokens: IssuedTokens, verified_token: VerifiedToken | None) -> _Known:
    now = time.time()
    expires_at = 0.0 if verified_token is None else verified_token.expires_at
    renew_at = expires_at - min(RENEW_AHEAD_S, max(0.0, expires_at - now) / 2)
    return _Known(row, tokens.id_token, tokens.refresh_token, expires_at, renew_at, time.monotonic())


async def _fernet(secret: str) -> Any:
    fernet = await pools.LOADING.run(import_module, "cryptography.fernet")
    return fernet.Fernet(base64.urlsafe_b64encode(hmac.digest(secret.encode(), b"tokens", sha256)))


async def _seal(secret: str, tokens: IssuedTokens) -> str:
    token_pair: Sequence[str] = [tokens.id_token, tokens.refresh_token]
    ciphertext: bytes = (await _fernet(secret)).encrypt(orjson.dumps(token_pair))
    return ciphertext.decode()


async def _unsealed(secret: str, sealed_tokens: str) -> IssuedTokens:
    fernet = await _fernet(secret)
    return IssuedTokens(*orjson.loads(fernet.decrypt(sealed_tokens.encode())))


def _over() -> Unauthenticated:
    return Unauthenticated("You are signed out. Sign in again, or send a key.", code="sign_in_ended")
