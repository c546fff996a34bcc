"""Signing in by an issuer in a browser: the daemon gets the tokens, the browser holds a random secret in a cookie.

Sources: OpenID Connect Core 1.0, RFC 6749 with RFC 9700 (what to guard against), RFC 7636 (PKCE), RFC 7009
(revocation), RFC 9207 (the issuer in an answer), RFC 6265bis (cookies).
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
"""Seconds in which somebody comes back from the issuer."""

MAX_PER_IDENTITY: Final = 20
"""Browsers in which one identity is signed in; the one longest unused makes way."""

MAX_KNOWN: Final = 10_000
"""Sign-ins in memory."""

READ_TTL_S: Final = 5.0
"""Seconds after which one is looked up again: it may have been ended at another daemon."""

USE_INTERVAL_S: Final = 60.0
"""Seconds after which a use is written down again."""

RENEW_AHEAD_S: Final = 60.0
"""Seconds before a token expires in which it is renewed; at most half of its life."""

RENEWAL_S: Final = 30.0
"""Seconds for which one daemon may be at it, and after which one that failed is tried again."""

MAX_PARAMETER_CHARS: Final = 4_096


class SignInFailed(PorticoError):
    """Somebody came back from an issuer and is not signed in. ``code`` says why, in one word that the page knows."""

    status = 400
    type = "invalid_request_error"


@dataclass(slots=True)
class _Known:
    """A sign-in in memory, with its tokens. ``read_at`` by the monotonic clock, other times in seconds since 1970."""

    row: SignInRow
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    renew_at: float
    read_at: float


class SignIns:
    """Who is signed in in which browser. What a sign-in may do is what its token may, checked as any token is.

    The browser's secret is kept nowhere: the database has its hash, and the tokens encrypted with a key made of it. So
    whoever has the database can neither call nor renew.
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
        """The issuers by which people sign in here."""
        self._known: OrderedDict[str, _Known] = OrderedDict()
        """By the hash of the browser's secret."""
        self._renewals: dict[str, asyncio.Task[_Known]] = {}
        self.ended: list[Callable[[str, str], Awaitable[None]]] = []
        """Called with an owner and the hash of a sign-in of theirs that has ended; it ends the calls of that."""
        auth.revoked.append(self._forget_all)

    async def start(self, issuer: str | None, back: str) -> tuple[str, str]:
        """The address of the issuer that somebody signs in at, and the secret that the browser keeps meanwhile.

        Nothing is kept here. Raises `InvalidRequest` for an issuer that is none, and `Unavailable`.
        """
        if not self.clients:
            raise NotFound(
                "Nobody signs in in the page of this daemon: its operator has not set oidc_client_id. Send a key.",
                code="sign_in_not_configured",
            )
        issuer_name = next(iter(self.clients)) if issuer is None and len(self.clients) == 1 else issuer
        client = self.clients.get(issuer_name or "")
        if client is None:
            raise InvalidRequest(
                f"Sign in by one of the issuers of this daemon: {', '.join(self.clients)}.", param="issuer"
            )
        secret = f"{secrets.token_urlsafe(32)}.{list(self.clients).index(str(issuer_name))}"
        return await client.address(secret, back), secret

    async def finish(self, secret: str, answer: Mapping[str, str], back: str) -> str:
        """The secret of a new sign-in, for a browser that was sent away with ``secret`` and came back with ``answer``.

        Raises `SignInFailed`, and logs why.
        """
        try:
            return await self._finish(secret, answer, back)
        except SignInFailed:
            raise
        except PorticoError as error:
            logger.warning("somebody could not sign in: %s", error.message)
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
                "This browser has not begun this sign-in, or it took too long.", code="expired"
            )
        client = self.clients[issuer]
        answered_issuer = answer.get("iss")
        if answered_issuer != issuer and (answered_issuer is not None or await client.requires_issuer()):
            raise SignInFailed("Another issuer has answered than was asked.", code="failed")
        if "error" in answer:
            is_denied = answer["error"] == "access_denied"
            logger.warning("the issuer %s lets nobody sign in: %r", issuer, answer["error"][:100])
            raise SignInFailed(
                "The issuer has not let you sign in.", code="denied" if is_denied else "failed"
            )
        code = answer.get("code", "")
        if not 0 < len(code) <= MAX_PARAMETER_CHARS:
            raise SignInFailed("The issuer has sent no code.", code="failed")
        tokens = await client.exchange(code, secret, back)
        verified_token = await self._verifier.verify(tokens.id_token)
        self._require_ours(verified_token, client, issuer)
        if verified_token.claims.get("nonce") != derived(secret, "nonce"):
            raise Unauthenticated("The issuer's token is for another sign-in.", code="invalid_token")
        signed_in = await self._auth.identities.sign_in(tokens.id_token)
        return await self._add(issuer, signed_in, tokens, verified_token)

    def _require_ours(self, verified_token: VerifiedToken, client: IssuerClient, issuer: str) -> None:
        """Raise `Unauthenticated` for a token that the issuer has given to another client."""
        audience = verified_token.claims["aud"]
        party = verified_token.claims.get("azp", client.id)
        if verified_token.issuer != issuer or client.id not in (audience, *audience) or party != client.id:
            raise Unauthenticated("The issuer's token is for another client.", code="invalid_token")

    async def _add(
        self, issuer: str, signed_in: SignedIn, tokens: IssuedTokens, verified_token: VerifiedToken
    ) -> str:
        secret = secrets.token_urlsafe(32)
        row = SignInRow(
            hash_of(secret), signed_in.caller.id, issuer, await _sealed(secret, tokens), 0, time.time()
        )
        over = await self._database.write(sign_ins.add, row, self._settings.sign_in_idle, MAX_PER_IDENTITY)
        for row_hash in over:
            await self._ended(row.owner, row_hash)
        self._keep(_known(row, tokens, verified_token))
        return secret

    async def caller(self, secret: str) -> SignedIn:
        """Whom the secret of a browser stands for, with the token of now. Raises `Unauthenticated` if the sign-in has
        ended, and otherwise as `Auth.sign_in` does.
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
        sign_in = self._known.get(row_hash)
        now = time.monotonic()
        if sign_in is not None and now - sign_in.read_at < READ_TTL_S:
            self._known.move_to_end(row_hash)
            return sign_in
        row = await self._database.read(sign_ins.get, row_hash, self._settings.sign_in_idle)
        if row is None:
            if sign_in is not None:
                await self._ended(sign_in.row.owner, row_hash)
            raise _over()
        if sign_in is None or sign_in.row.renewals != row.renewals:
            sign_in = await self._opened(secret, row)
        if row.used_at < time.time() - min(USE_INTERVAL_S, self._settings.sign_in_idle / 10):
            await self._database.write(sign_ins.use, row_hash)
        sign_in.read_at = now
        return self._keep(sign_in)

    async def _opened(self, secret: str, row: SignInRow) -> _Known:
        """A row of the database with its tokens, which its browser's secret opens."""
        tokens = await _unsealed(secret, row.sealed)
        return _known(row, tokens, await self._verified(tokens.id_token))

    async def _verified(self, token: str) -> VerifiedToken | None:
        try:
            return await self._verifier.verify(token)
        except Unauthenticated:  # it has expired, or the issuer has withdrawn its key
            return None

    def _keep(self, sign_in: _Known) -> _Known:
        self._known[sign_in.row.hash] = sign_in
        self._known.move_to_end(sign_in.row.hash)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return sign_in

    async def _renewed(self, secret: str, sign_in: _Known) -> _Known:
        """The sign-in with new tokens. It is everybody's who waits: one who leaves does not end it, since the issuer
        takes a refresh token once.
        """
        row_hash = sign_in.row.hash
        task = self._renewals.get(row_hash)
        if task is None:
            task = self._renewals[row_hash] = asyncio.create_task(
                self._renew(secret, sign_in), name="sign-in"
            )

            def ended(task: asyncio.Task[_Known]) -> None:
                self._renewals.pop(row_hash, None)
                if not task.cancelled():
                    task.exception()  # those who waited have it

            task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._renewals.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, secret: str, sign_in: _Known) -> _Known:
        """Ask the issuer for new tokens, one daemon at a time.

        While that fails, the old token counts until it expires. Raises `Unauthenticated` once the issuer gives no more,
        and `Unavailable`.
        """
        row = sign_in.row
        if not await self._database.write(sign_ins.begin_renewal, row.hash, row.renewals, RENEWAL_S):
            return await self._renewed_elsewhere(secret, sign_in)
        client = self.clients.get(row.issuer)
        try:
            if client is None:  # which the operator has taken out of the settings
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
            await self._database.write(sign_ins.renewed, row.hash, None)
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
        sealed_tokens = await _sealed(secret, issued_tokens)
        if not await self._database.write(sign_ins.renewed, row.hash, sealed_tokens):
            await self._ended(row.owner, row.hash)
            raise _over()
        renewed_sign_in = _known(
            replace(row, sealed=sealed_tokens, renewals=row.renewals + 1), issued_tokens, verified_token
        )
        if verified_token is None:  # an issuer that gives no other ID token: this one counts to its end
            renewed_sign_in.expires_at = renewed_sign_in.renew_at = sign_in.expires_at
        return self._keep(renewed_sign_in)

    async def _renewed_elsewhere(self, secret: str, sign_in: _Known) -> _Known:
        """The sign-in that another daemon renews: as it is while its token counts, or when that is done."""
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
                        return self._keep(await self._opened(secret, row))
                    await asyncio.sleep(RENEWAL_POLL_S)
        except TimeoutError:
            raise Unavailable(
                "Another daemon renews this sign-in. Try again soon.",
                code="issuer_unavailable",
                retry_after=1.0,
            ) from None

    async def end(self, secret: str) -> bool:
        """Sign out a browser, here and at the issuer; whether somebody was signed in in it."""
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
        await self._ended(row.owner, row.hash)

    async def _ended(self, owner: str, row_hash: str) -> None:
        self._known.pop(row_hash, None)
        for end in self.ended:
            await end(owner, row_hash)

    async def _forget_all(self, owner: str) -> None:
        for row_hash in [
            hashed_row_hash for hashed_row_hash, sign_in in self._known.items() if sign_in.row.owner == owner
        ]:
            del self._known[row_hash]


def _known(row: SignInRow, tokens: IssuedTokens, verified_token: VerifiedToken | None) -> _Known:
    now = time.time()
    expires_at = 0.0 if verified_token is None else verified_token.expires_at
    renew_at = expires_at - min(RENEW_AHEAD_S, max(0.0, expires_at - now) / 2)
    return _Known(row, tokens.id_token, tokens.refresh_token, expires_at, renew_at, time.monotonic())


async def _fernet(secret: str) -> Any:
    fernet = await pools.LOADING.run(import_module, "cryptography.fernet")
    return fernet.Fernet(base64.urlsafe_b64encode(hmac.digest(secret.encode(), b"tokens", sha256)))


async def _sealed(secret: str, tokens: IssuedTokens) -> str:
    token_pair: Sequence[str] = [tokens.id_token, tokens.refresh_token]
    ciphertext: bytes = (await _fernet(secret)).encrypt(orjson.dumps(token_pair))
    return ciphertext.decode()


async def _unsealed(secret: str, sealed_tokens: str) -> IssuedTokens:
    fernet = await _fernet(secret)
    return IssuedTokens(*orjson.loads(fernet.decrypt(sealed_tokens.encode())))


def _over() -> Unauthenticated:
    return Unauthenticated("You are signed out. Sign in again, or send a key.", code="sign_in_ended")
