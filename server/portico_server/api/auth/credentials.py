"""What a client presents as its key."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from portico_server.core.errors import Unauthenticated
from portico_server.core.principal import Principal

PREFIX = "pk-"
"""What every key begins with, so that secret scanners and people recognise one."""

PLACEHOLDER = "local"
"""What OpenAI clients, which insist on a key, may send to a daemon that needs none."""

OPERATOR = Principal("operator", frozenset({"admin"}))
"""Whoever holds the key from the settings."""


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in raw HTTP headers: ``Authorization: Bearer KEY``, or ``x-api-key: KEY``.

    Raises `Unauthenticated` for another scheme, and for two keys that differ.
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
                "Two different API keys were sent; send one.", code="invalid_authorization_header"
            )
        credential = key or credential
    return credential


def hash_of(secret: str) -> str:
    """By which a secret is known, here and in the database."""
    return sha256(secret.encode()).hexdigest()
