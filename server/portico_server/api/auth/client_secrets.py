"""Client secrets. With a client secret, a browser can open a Realtime session for a limited time on behalf of a key.

Secrets are not stored: each secret is signed and contains its session.
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
"""Prefix of the subprotocol in which a browser, which cannot send custom headers, passes its key."""

MIN_LIFE_S: Final = 10
MAX_LIFE_S: Final = 7_200
LIFE_S: Final = 600

MAX_SECRET_CHARS: Final = 7_500
"""Maximum length of a secret, in characters. A header that contains the secret must fit into a WebSocket header
line.
"""

MAX_BYTES: Final = 2**20
"""Maximum decompressed size of a secret's payload, in bytes, before its signature is verified."""


def minted(
    auth: Auth, caller: Principal, session: Mapping[str, Any], life_s: int, until: float = 0.0
) -> tuple[str, int]:
    """Return a new client secret of the caller for a session, and the time when the secret expires.

    ``until`` is the time when a signed-in caller's token expires; neither secret nor session outlasts the token. Raise
    `InvalidRequest` if the session is too large.
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
            "The session is too large for a client secret, which contains it: this secret would have "
            f"{len(value):,} characters, and at most {MAX_SECRET_CHARS:,} are allowed. Let the client send "
            "the rest of the session with session.update, or reference a prompt.",
            code="string_above_max_length",
            param="session",
        )
    return value, ends_at


def open_secret(auth: Auth, secret: str) -> tuple[Principal, dict[str, Any], float]:
    """Return a secret's caller, its session, and the time when the session ends (0 if it does not end). Raises
    `Unauthenticated`.
    """
    payload, signature = (_bytes(part) for part in secret.removeprefix(PREFIX).partition(".")[::2])
    if len(secret) > MAX_SECRET_CHARS:
        raise _unknown()
    try:
        # The payload names the key that must have signed the secret. Until the signature is verified, the
        # payload is not trusted and its size is limited.
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
            "This client secret has expired. The owner of the key can create a new client secret at POST "
            "/v1/realtime/client_secrets.",
            code="client_secret_expired",
        )
    caller = auth.keys.principal(owner)
    if rights not in (None, _rights(caller)):
        # A newer token defines the caller's current rights, which may exceed the rights of the token that
        # created this secret.
        raise Unauthenticated(
            "The rights of the creator of this client secret have changed. Create a new client secret at "
            "POST /v1/realtime/client_secrets.",
            code="invalid_client_secret",
        )
    return caller, session, until


def offered_key(subprotocols: Sequence[str]) -> str | None:
    """Return the key that a WebSocket's subprotocols contain, if any."""
    return next((word.removeprefix(OFFERED) for word in subprotocols if word.startswith(OFFERED)), None)


def _signature(auth: Auth, owner: str, payload: bytes) -> bytes:
    return hmac.digest(auth.signing_key(owner), payload, sha256)


def _rights(caller: Principal) -> str:
    return sha256(repr((sorted(caller.scopes), caller.filters, sorted(caller.groups))).encode()).hexdigest()


def _bytes(text: str) -> bytes:
    try:
        return from_base64url(text)
    except ValueError:
        raise _unknown() from None


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "Unknown client secret: it was altered in transit, its key was revoked, or the daemon that created "
        "it has stopped. The owner of the key can create a new client secret at POST "
        "/v1/realtime/client_secrets.",
        code="invalid_client_secret",
    )
