"""The key that a client presents."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from portico_server.core.errors import Unauthenticated
from portico_server.core.principal import Principal

PREFIX = "pk-"
"""Prefix of every key, so that secret scanners and people recognise keys."""

PLACEHOLDER = "local"
"""Placeholder that OpenAI clients, which require a key, may send to a daemon that needs none."""

OPERATOR = Principal("operator", frozenset({"admin"}))
"""The caller that presents the API key from the settings."""


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the key in raw HTTP headers: ``Authorization: Bearer KEY``, or ``x-api-key: KEY``.

    Raise `Unauthenticated` for another scheme, or if two different keys are sent.
    """
    credential: str | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated(
                    "The Authorization header must be 'Bearer pk-…'.", code="invalid_authorization_header"
                )
        elif name == b"x-api-key":
            key = value.decode("latin-1")
        else:
            continue
        key = key.strip()
        if credential and key and key != credential:
            raise Unauthenticated(
                "The request has two different API keys; send one.", code="invalid_authorization_header"
            )
        credential = key or credential
    return credential


def hash_of(secret: str) -> str:
    """Return the hash of a secret. The hash identifies the secret in memory and in the database."""
    return sha256(secret.encode()).hexdigest()
