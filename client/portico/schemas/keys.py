"""API keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret; ``hint`` is the last four characters of it. ``limits`` are those that are set.

    ``filters``: which files of a store it may read, by the name or id of the store. ``stored_bytes``: what it keeps on
    the disk: files, parts of uploads, what its stores mirror, and artifacts. Who signs in by an issuer is listed too,
    from the first token on, with ``issuer`` and ``subject``; ``signed_in_at`` is when the newest token was issued,
    ``blocked_at`` since when they are kept out.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    hint: str
    created_at: float
    limits: Mapping[str, int]
    filters: Mapping[str, Mapping[str, Any]]
    stored_bytes: int = 0
    issuer: str = ""
    subject: str = ""
    signed_in_at: float | None = None
    blocked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Whoami:
    """``by``: what was shown. ``role``: what the token of somebody who signed in gives. ``expires_at``: when that
    expires, in seconds since 1970.
    """

    id: str
    name: str
    by: Literal["nothing", "key", "token", "page"]
    role: str
    scopes: tuple[str, ...]
    limits: Mapping[str, int]
    issuer: str
    subject: str
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey(Key):
    """A key that was just made. ``key`` is shown this once."""

    key: str


KEYS = Resource(
    "Keys",
    "/api/keys",
    "Who may call, and what.",
    {"key_id": "a key"},
    (
        Verb("list", "GET", list[Key]),
        Verb("add", "POST", NewKey),
        Verb("update", "PATCH {key_id}", Key),
        Verb("revoke", "DELETE {key_id}"),
        Verb("unblock", "POST {key_id}/unblock", Key),
    ),
    columns=(
        Column("ID"),
        Column("NAME"),
        Column("SCOPES"),
        Column("FILTERS", kind="pairs"),
        Column("LIMITS", kind="pairs"),
        Column("STORED", "stored_bytes", kind="bytes"),
        Column("MADE", "created_at", kind="moment"),
    ),
)
