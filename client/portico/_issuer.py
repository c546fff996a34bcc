"""A client for OpenID Connect issuers: terminal sign-in, renewal and sign-out.

Data from a daemon or an issuer is not trusted: addresses, sizes, times and names are bounded, redirects are not
followed, and a response must belong to the sign-in in progress.

Sources: OpenID Connect Core and Discovery 1.0, RFC 9728 (daemon metadata), RFC 8628 (devices), RFC 8252 (loopback
redirects), RFC 7636 (PKCE), RFC 9207 (the issuer in a response), RFC 7009 (revocation).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx

from portico._proxies import certificate_error
from portico.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NotPortico,
    Unauthenticated,
    Unavailable,
)
from portico.loopback import is_loopback

METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
CALLBACK_PATH: Final = "/callback"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"

ANSWER_TIMEOUT_S: Final = 10.0
"""Timeout of one response, from the first byte to the last, in seconds."""

MAX_ANSWER_BYTES: Final = 2**18
MAX_URL_CHARS: Final = 2_000
MAX_TOKEN_CHARS: Final = 16_384
MAX_WORD_CHARS: Final = 255
MAX_OFFERS_COUNT: Final = 20

DEVICE_INTERVAL_S: Final = 5.0
"""Seconds between two polls for the user's consent if the issuer does not set an interval (RFC 8628, 3.2). Each
``slow_down`` response adds this number to the interval (3.5).
"""

MIN_DEVICE_INTERVAL_S: Final = 1.0
MAX_DEVICE_INTERVAL_S: Final = 60.0
MAX_WAIT_S: Final = 1_800.0
BROWSER_WAIT_S: Final = 600.0
MAX_LOST_ATTEMPTS: Final = 5
"""Maximum number of consecutive polls that can fail before sign-in is abandoned."""

REQUEST_TIMEOUT_S: Final = 5.0
MAX_REQUEST_BYTES: Final = 2**14
MAX_BROWSER_CONNECTIONS: Final = 16

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")

_SIGNED_IN_PAGE: Final = (
    b"<!doctype html><meta charset=utf-8><title>Portico</title>"
    b"<p>The terminal has its answer. You can close this window."
)


@dataclass(frozen=True, slots=True)
class SignInOffer:
    """The issuer, and the public client id, for signing in to a daemon."""

    issuer: str
    client_id: str
    scope: str


@dataclass(frozen=True, slots=True)
class IssuerPlaces:
    """Metadata of an issuer. An empty address means that the issuer has no such endpoint."""

    issuer: str
    token: str
    device: str = ""
    authorization: str = ""
    revocation: str = ""
    names_itself: bool = False
    """True if every authorization response of the issuer names the issuer (RFC 9207)."""


@dataclass(frozen=True, slots=True)
class GrantedTokens:
    """Tokens from an issuer: ``token`` is an ID token, ``subject`` is the subject of the ID token, and
    ``refresh_token`` is optional.
    """

    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    subject: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class SignInPrompt:
    """Where a person must go to sign in: ``address``, and for a device the ``code`` to enter there. ``link`` is an
    address that already includes the code.
    """

    address: str
    link: str
    code: str = ""


Show = Callable[[SignInPrompt], None]


def require_private(url: str) -> None:
    """Raise `InvalidRequest` if a token would travel to the daemon unencrypted."""
    found_url = httpx.URL(url)
    if found_url.scheme != "https" and not is_loopback(found_url.host):
        raise InvalidRequest(
            f"{url} does not use TLS: others on the network could read the token. Use its https address, or "
            "reach it through a tunnel to this machine.",
            param="url",
            code="insecure_url",
        )


async def offers(url: str) -> list[SignInOffer]:
    """Return the ways to sign in to a daemon from a terminal. Raises `InvalidRequest` if the daemon offers none."""
    require_private(url)
    async with _connected(url) as http:
        status, metadata = await _ask(http, "GET", url.rstrip("/") + METADATA_PATH, "the daemon")
    if status != 200 or not isinstance(metadata.get("resource"), str):
        raise NotPortico(
            f"{url} does not describe how to sign in (HTTP {status}). Is a Portico daemon running there?"
        )
    own_origin, resource_origin = _origin(url), _origin(metadata["resource"])
    if own_origin != resource_origin and not is_loopback(httpx.URL(url).host):
        raise InvalidRequest(
            f"The daemon at {url} identifies itself as {_short(metadata['resource'])}. Sign in at that "
            "address, with --url.",
            param="url",
            code="other_resource",
        )
    clients = metadata.get("portico_sign_in")
    rows = [row for row in clients if isinstance(row, dict)] if isinstance(clients, list) else []
    rows = [row for row in rows if row.get("terminal") is True][:MAX_OFFERS_COUNT]
    if not rows:
        raise InvalidRequest(
            f"Terminal sign-in is not available at {url}. Use a key: --key or PORTICO_API_KEY. The operator "
            "enables sign-in with 'oidc_issuer', 'oidc_cli_client_id' (a public client at that issuer) and "
            "'roles': see docs/security.md, \"Sign in from a terminal\".",
            code="sign_in_not_configured",
        )
    return [_offer(row, url) for row in rows]


def _offer(row: Mapping[str, Any], url: str) -> SignInOffer:
    issuer, client, scope = row.get("issuer"), row.get("client_id"), row.get("scope", "openid")
    is_here = is_loopback(httpx.URL(url).host)
    if not isinstance(issuer, str) or not _is_address(issuer, loopback=is_here):
        raise NotPortico(
            f"The daemon at {url} names the issuer '{_short(issuer)}'. An issuer must have an https "
            f"address{', or one of this machine' if is_here else ''}, so nothing is sent to it."
        )
    if not isinstance(client, str) or not 0 < len(client) <= MAX_WORD_CHARS or not client.isprintable():
        raise NotPortico(f"The daemon at {url} provides no usable client id for {issuer}.")
    if not isinstance(scope, str) or len(scope) > MAX_URL_CHARS or not _SCOPES.fullmatch(scope):
        raise NotPortico(f"The daemon at {url} provides no usable scopes for {issuer}.")
    return SignInOffer(issuer, client, scope if "openid" in scope.split() else f"openid {scope}")


async def discovered(issuer: str) -> IssuerPlaces:
    """Return the metadata of an issuer (OpenID Connect Discovery). Raises `Unavailable`, and `InvalidRequest` if the
    metadata name another issuer.
    """
    async with _connected(issuer) as http:
        status, metadata = await _ask(http, "GET", issuer.rstrip("/") + DISCOVERY_PATH, "the issuer")
    if status != 200:
        raise Unavailable(
            f"The issuer {issuer} does not describe how to sign in: HTTP {status}. Try again later."
        )
    if metadata.get("issuer") != issuer:
        raise InvalidRequest(
            f"The issuer {issuer} identifies itself as '{_short(metadata.get('issuer'))}', so signing in is "
            "refused. The operator of the daemon must write 'oidc_issuer' exactly as the issuer does.",
            code="other_issuer",
        )
    names = {
        "token": "token_endpoint",
        "device": "device_authorization_endpoint",
        "authorization": "authorization_endpoint",
        "revocation": "revocation_endpoint",
    }
    places: dict[str, Any] = {}
    for place, name in names.items():
        address = metadata.get(name, "")
        if address and not _is_address(address, loopback=is_loopback(httpx.URL(issuer).host)):
            raise InvalidRequest(
                f"The '{name}' of the issuer {issuer} is not an https address: nothing is sent to it.",
                code="insecure_issuer",
            )
        places[place] = address
    if not places["token"]:
        raise InvalidRequest(f"The issuer {issuer} has no 'token_endpoint'.", code="issuer_unusable")
    is_named = metadata.get("authorization_response_iss_parameter_supported") is True
    return IssuerPlaces(issuer, names_itself=is_named, **places)


async def sign_in(places: IssuerPlaces, offer: SignInOffer, show: Show) -> GrantedTokens:
    """Sign a person in, using ``show`` to tell them where to go. If the issuer supports device sign-in, any machine
    works; otherwise a browser on this machine is needed.
    """
    if places.device:
        return await _with_device(places, offer, show)
    if places.authorization:
        return await _with_browser(places, offer, show)
    raise InvalidRequest(
        f"The issuer {places.issuer} supports neither device nor browser sign-in.", code="issuer_unusable"
    )


async def _with_device(places: IssuerPlaces, offer: SignInOffer, show: Show) -> GrantedTokens:
    async with _connected(places.issuer) as http:
        form = {"client_id": offer.client_id, "scope": offer.scope}
        status, response = await _ask(http, "POST", places.device, "the issuer", form)
        if status != 200:
            raise _refusal(places, response, status)
        device, code = response.get("device_code"), response.get("user_code")
        address = response.get("verification_uri")
        is_here = is_loopback(httpx.URL(places.issuer).host)
        if (
            not isinstance(device, str)
            or not 0 < len(device) <= MAX_TOKEN_CHARS
            or not isinstance(code, str)
            or not 0 < len(code) <= MAX_WORD_CHARS
            or not code.isprintable()
            or not _is_address(address, loopback=is_here)
        ):
            raise _unusable(places, "returns no code and address for signing in")
        link = response.get("verification_uri_complete")
        show(SignInPrompt(address, link if _is_address(link, loopback=is_here) else address, code))
        interval = _seconds(response.get("interval"), DEVICE_INTERVAL_S, MAX_DEVICE_INTERVAL_S)
        life = _seconds(response.get("expires_in"), MAX_WAIT_S, MAX_WAIT_S)
        form = {"grant_type": DEVICE_GRANT, "device_code": device, "client_id": offer.client_id}
        response = await _agreed(http, places, form, max(MIN_DEVICE_INTERVAL_S, interval), life)
    return read_tokens(response, places.issuer, offer.client_id)


async def _agreed(
    http: httpx.AsyncClient, places: IssuerPlaces, form: Mapping[str, str], interval: float, life: float
) -> Mapping[str, Any]:
    """Poll at the issuer's interval until the person has agreed, and return the response. Raises `DeadlineExceeded`
    once the issuer's code has expired.
    """
    lost_count = 0
    try:
        async with asyncio.timeout(life):
            while True:
                await asyncio.sleep(interval)
                try:
                    status, response = await _ask(http, "POST", places.token, "the issuer", form)
                except Unavailable:
                    status, response = 503, {}
                if status == 200:
                    return response
                error = response.get("error")
                lost_count = lost_count + 1 if status >= 500 else 0
                if lost_count == MAX_LOST_ATTEMPTS:
                    raise _away(places.issuer)
                if status < 500 and status != 429 and error not in ("authorization_pending", "slow_down"):
                    raise _refusal(places, response, status)
                interval = next_interval(interval, error, is_lost=lost_count > 0 or status == 429)
    except TimeoutError:
        raise _expiry_error() from None


def next_interval(interval: float, error: object, *, is_lost: bool = False) -> float:
    """Return the seconds until the next poll: longer after ``slow_down``, and doubled after a failed poll."""
    if is_lost:
        return min(interval * 2, MAX_DEVICE_INTERVAL_S)
    return min(interval + DEVICE_INTERVAL_S, MAX_DEVICE_INTERVAL_S) if error == "slow_down" else interval


async def _with_browser(places: IssuerPlaces, offer: SignInOffer, show: Show) -> GrantedTokens:
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    browser = _Browser(state)
    server = await asyncio.start_server(browser.take, "127.0.0.1", 0, limit=MAX_REQUEST_BYTES)
    try:
        back = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{CALLBACK_PATH}"
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": offer.client_id,
            "redirect_uri": back,
            "scope": offer.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge.decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(places.authorization).query else "?"
        address = f"{places.authorization}{joint}{urlencode(query, quote_via=quote)}"
        show(SignInPrompt(address, address))
        try:
            async with asyncio.timeout(BROWSER_WAIT_S):
                answer = await browser.answer
        except TimeoutError:
            raise _expiry_error() from None
    finally:
        server.close()
    named_issuer = answer.get("iss")
    if named_issuer != places.issuer and (named_issuer is not None or places.names_itself):
        raise Unauthenticated("The response came from another issuer: sign-in failed.")
    if "error" in answer:
        raise _refusal(places, answer, 400)
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": back,
        "code_verifier": verifier,
        "client_id": offer.client_id,
    }
    async with _connected(places.issuer) as http:
        status, response = await _ask(http, "POST", places.token, "the issuer", form)
    if status != 200:
        raise _refusal(places, response, status)
    return read_tokens(response, places.issuer, offer.client_id, nonce=nonce)


class _Browser:
    """Waits for the browser to return from the issuer. A request without the expected ``state`` is ignored."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._connections_count = 0
        self.answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection, which can send one request."""
        self._connections_count += 1
        answer = None
        try:
            if self._connections_count <= MAX_BROWSER_CONNECTIONS:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    answer = self._answer_of(await reader.readuntil(b"\r\n\r\n"))
                    writer.write(_page(answer is not None))
                    await writer.drain()
        except (TimeoutError, OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # the request is not from a browser returning from the issuer
        finally:
            self._connections_count -= 1
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await writer.wait_closed()
            if answer is not None and not self.answer.done():
                self.answer.set_result(answer)

    def _answer_of(self, head: bytes) -> Mapping[str, str] | None:
        method, target, *_ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
        parts = urlsplit(target)
        if method != "GET" or parts.path != CALLBACK_PATH:
            return None
        given_values = {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=20).items()}
        if not hmac.compare_digest(given_values.get("state", "").encode(), self._state.encode()):
            return None
        return given_values if given_values.get("code") or "error" in given_values else None


def _page(is_taken: bool) -> bytes:
    status, body = ("200 OK", _SIGNED_IN_PAGE) if is_taken else ("404 Not Found", b"")
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def read_tokens(
    response: Mapping[str, Any], issuer: str, client_id: str, *, nonce: str | None = None
) -> GrantedTokens:
    """Return the tokens in a response. Raises `Unauthenticated` unless the ID token was issued for this client and
    this sign-in.

    The signature is not checked here, because the response was received directly from the issuer over TLS (OpenID
    Connect Core, 3.1.3.7). The daemon checks the signature.
    """
    token, refresh = response.get("id_token"), response.get("refresh_token", "")
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise Unauthenticated(
            f"The issuer {issuer} returned no ID token: sign-in failed.", code="no_id_token"
        )
    if (
        not isinstance(refresh, str)
        or len(refresh) > MAX_TOKEN_CHARS
        or not _PRINTABLE.fullmatch(refresh or "-")
    ):
        raise Unauthenticated(f"The issuer {issuer} returned a refresh token that cannot be sent.")
    claims = _claims(token)
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    subject, expires_at = claims.get("sub"), claims.get("exp")
    if (
        claims.get("iss") != issuer
        or client_id not in audiences
        or claims.get("azp", client_id) != client_id
        or not isinstance(subject, str)
        or not 0 < len(subject) <= MAX_WORD_CHARS
    ):
        raise Unauthenticated(f"The issuer {issuer} returned a token for somebody else.")
    if nonce is not None and claims.get("nonce") != nonce:
        raise Unauthenticated(f"The issuer {issuer} returned a token of another sign-in.")
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float) or not 0 < expires_at < 2**40:
        raise Unauthenticated(f"The issuer {issuer} does not say when its token expires.")
    return GrantedTokens(token, refresh, subject, float(expires_at))


def _claims(token: str) -> Mapping[str, Any]:
    part = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        claims = None
    return claims if isinstance(claims, dict) else {}


async def renew_tokens(issuer: str, client_id: str, refresh_token: str, subject: str) -> GrantedTokens | None:
    """Return new tokens for the same person, or ``None`` if the issuer returns no new ID token.

    Raises `Unauthenticated` if the issuer has ended the sign-in, and `Unavailable`.
    """
    places = await discovered(issuer)
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": client_id}
    async with _connected(issuer) as http:
        status, response = await _ask(http, "POST", places.token, "the issuer", form)
    if status == 429 or status >= 500:
        raise _away(issuer)
    if status != 200:
        raise Unauthenticated("The issuer has ended this sign-in.", code="sign_in_ended")
    if "id_token" not in response:
        return None
    tokens = read_tokens(response, issuer, client_id)
    if tokens.subject != subject:
        raise Unauthenticated("The issuer returned somebody else's token.", code="sign_in_ended")
    return tokens


async def revoke_tokens(issuer: str, client_id: str, refresh_token: str) -> bool:
    """Ask an issuer to end a sign-in. Return whether the issuer has a revocation endpoint and the request succeeded."""
    places = await discovered(issuer)
    if not places.revocation or not refresh_token:
        return False
    form = {"token": refresh_token, "token_type_hint": "refresh_token", "client_id": client_id}
    async with _connected(issuer) as http:
        status, _ = await _ask(http, "POST", places.revocation, "the issuer", form)
    return status == 200


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that keeps no state between uses, follows no redirects, and accepts no compressed response."""
    local = is_loopback(httpx.URL(url).host)
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    # Of the environment, only SSL_CERT_FILE and SSL_CERT_DIR count for this machine.
    verify = httpx.create_ssl_context() if local and url.startswith("https:") else True
    async with httpx.AsyncClient(
        headers=headers, timeout=ANSWER_TIMEOUT_S, verify=verify, trust_env=not local, follow_redirects=False
    ) as http:
        yield http


async def _ask(
    http: httpx.AsyncClient, method: str, url: str, whom: str, form: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, Any]]:
    """Send a request and return the status and the JSON object in the response. Return an empty object for any other
    body. Raises `Unavailable`, and `NotPortico` for a certificate that is not accepted.
    """
    data = bytearray()
    address = _short(url)
    try:
        async with (
            asyncio.timeout(ANSWER_TIMEOUT_S),
            http.stream(method, url, data=None if form is None else dict(form)) as answer,
        ):
            if answer.is_redirect:
                raise Unavailable(f"{address} redirects, but redirects from {whom} are not followed.")
            async for block in answer.aiter_raw():
                data += block
                if len(data) > MAX_ANSWER_BYTES:
                    raise Unavailable(
                        f"The response of {address} exceeds {MAX_ANSWER_BYTES:,} bytes and was not read."
                    )
    except TimeoutError:
        raise Unavailable(
            f"{address} did not respond within {ANSWER_TIMEOUT_S:g} s. Try again later."
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        refusal = certificate_error(address, error)
        if refusal is not None:
            raise refusal from error
        reason = str(error) or type(error).__name__
        raise Unavailable(f"{address} does not respond: {_short(reason)}. Is {whom} up?") from error
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    return answer.status_code, document if isinstance(document, dict) else {}


def _is_address(value: object, *, loopback: bool) -> TypeGuard[str]:
    """Return whether a value is an https URL that can be shown and opened; with ``loopback``, URLs of this machine
    also pass.
    """
    if not isinstance(value, str) or len(value) > MAX_URL_CHARS or not _PRINTABLE.fullmatch(value):
        return False
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        return False
    if not url.host or url.userinfo or url.fragment:
        return False
    return url.scheme == "https" or (loopback and url.scheme == "http" and is_loopback(url.host))


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        found_url = httpx.URL(url)
    except httpx.InvalidURL:
        return "", "", None
    return found_url.scheme, found_url.host, found_url.port


def _seconds(value: object, default: float, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return default
    return float(min(value, limit))  # an integer can be too large to convert to a float


def _short(value: object) -> str:
    """Return untrusted text shortened for use in a message."""
    return "".join(char if char.isprintable() else " " for char in str(value)[:200])


def _refusal(places: IssuerPlaces, response: Mapping[str, Any], status: int) -> Exception:
    error = response.get("error")
    if error == "access_denied":
        return Forbidden("You or the issuer declined: sign-in failed.", code="denied")
    if error == "expired_token":
        return _expiry_error()
    if status >= 500:
        return _away(places.issuer)
    description = response.get("error_description")
    reason = f": {_short(description)}" if isinstance(description, str) and description else ""
    return InvalidRequest(
        f"The issuer {places.issuer} refused the sign-in "
        f"({_short(error) if error else f'HTTP {status}'}{reason}). The operator must check at the issuer that "
        "the client of 'oidc_cli_client_id' is public, may use this way of signing in, and has these scopes.",
        code="sign_in_refused",
    )


def _expiry_error() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The sign-in was not approved in time: the code has expired. Run 'portico login' again.",
        code="expired",
    )


def _away(issuer: str) -> Unavailable:
    return Unavailable(f"The issuer {issuer} does not respond. Try again later.", code="issuer_unavailable")


def _unusable(places: IssuerPlaces, reason: str) -> Unavailable:
    return Unavailable(f"The issuer {places.issuer} {reason}.", code="issuer_unusable")
