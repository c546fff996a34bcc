"""Client secrets: what a key gives to a browser, so that it opens a Realtime session for a while. Nothing is kept of
them: they are signed, and hold the session that they are for.
"""

from __future__ import annotations

import hmac
import time
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from portico_server.api.auth.oidc import base64url, from_base64url
from portico_server.api.auth.service import Auth
from portico_server.core.errors import Forbidden, InvalidRequest, Unauthenticated
from portico_server.core.principal import Principal

PREFIX: Final = "ek_"
OFFERED: Final = "openai-insecure-api-key."
"""What the subprotocol begins with in which a browser, which sends no headers of its own, offers its key."""

MIN_LIFE_S: Final = 10
MAX_LIFE_S: Final = 7_200
LIFE_S: Final = 600

MAX_SECRET_CHARS: Final = 7_500
"""A header with it has to fit into the line that WebSockets take."""

MAX_BYTES: Final = 2**20
"""Bytes that a secret may hold before its signature is known to be right."""


def minted(
    auth: Auth, caller: Principal, session: Mapping[str, Any], life_s: int, until: float = 0.0
) -> tuple[str, int]:
    """A secret of the caller's for a session, and when it ends. ``until``: when the token of a caller expires who
    signed in; neither secret nor session lasts longer. Raises `InvalidRequest` for too large a session.
    """
    ends_at = int(time.time()) + life_s
    claims: dict[str, Any] = {"key": caller.id, "ends": ends_at, "session": session}
    if until:
        ends_at = claims["ends"] = min(ends_at, int(until))
        claims |= {"until": until, "rights": _rights(caller)}
    payload = zlib.compress(orjson.dumps(claims), 9)
    value = f"{PREFIX}{base64url(payload)}.{base64url(_signature(auth, caller.id, payload))}"
    if len(value) > MAX_SECRET_CHARS:
        raise InvalidRequest(
            f"The session is too large for a client secret, which holds it: this one would have {len(value):,} "
            f"characters, and at most {MAX_SECRET_CHARS:,} fit. Let the client send the rest by session.update, or "
            "name a prompt.",
            code="string_above_max_length",
            param="session",
        )
    return value, ends_at


def opened(auth: Auth, secret: str) -> tuple[Principal, dict[str, Any], float]:
    """Whose secret it is, the session that it is for, and when that ends; 0 for no such moment. Raises
    `Unauthenticated`.
    """
    payload, signature = (_bytes(part) for part in secret.removeprefix(PREFIX).partition(".")[::2])
    if len(secret) > MAX_SECRET_CHARS:
        raise _unknown()
    try:
        # What is inside says whose signature it must be. It is believed once that is right, and is small until then.
        claims = orjson.loads(zlib.decompressobj().decompress(payload, MAX_BYTES))
        owner, ends_at, session = claims["key"], claims["ends"], claims["session"]
        until, rights = claims.get("until", 0.0), claims.get("rights")
        expected_signature = _signature(auth, owner, payload)
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, Forbidden):
        raise _unknown() from None
    if not hmac.compare_digest(signature, expected_signature):
        raise _unknown()
    if ends_at <= time.time():
        raise Unauthenticated(
            "This client secret has expired. Who has the key makes another one at POST /v1/realtime/client_secrets.",
            code="client_secret_expired",
        )
    caller = auth.keys.principal(owner)
    if rights not in (None, _rights(caller)):
        # What somebody may do now, another token says: it may be more than the one gave with which this was made.
        raise Unauthenticated(
            "What the one may do who made this client secret has changed since. Make another one at POST "
            "/v1/realtime/client_secrets.",
            code="invalid_client_secret",
        )
    return caller, session, until


def offered(subprotocols: Sequence[str]) -> str | None:
    """The key among the subprotocols of a WebSocket."""
    return next((word.removeprefix(OFFERED) for word in subprotocols if word.startswith(OFFERED)), None)


def _signature(auth: Auth, owner: str, payload: bytes) -> bytes:
    return hmac.digest(auth.signing_key(owner), payload, sha256)


def _rights(caller: Principal) -> str:
    return sha256(repr((sorted(caller.scopes), caller.filters)).encode()).hexdigest()


def _bytes(text: str) -> bytes:
    try:
        return from_base64url(text)
    except ValueError:
        raise _unknown() from None


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "This client secret is not known here: it was changed on the way, its key was revoked, or the daemon that made "
        "it has ended. Who has the key makes another one at POST /v1/realtime/client_secrets.",
        code="invalid_client_secret",
    )
