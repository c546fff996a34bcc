"""API keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. ``hint``: the last four characters of the secret. ``limits``: the limits that are set.

    ``filters``: which files the key can read in each store, keyed by the store's name or id. ``groups``: the groups of
    the key at the sources of stores, as its newest token states them for a user who signs in. ``stored_bytes``: the
    size of the key's data on disk: files, parts of uploads, mirrors of its stores, and artifacts.

    Users who sign in through an issuer are listed as well, from their first token on, with ``issuer`` and ``subject``.
    ``signed_in_at`` is when the user's newest token was issued, ``blocked_at`` when the user was blocked.

    So is the access that people have granted to OAuth clients: ``parent`` is the id of the person's key, and ``name``
    the name of the client.
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
    parent: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Whoami:
    """The caller's identity. ``by``: the kind of credentials. ``role``: the role in the token of a signed-in user.
    ``expires_at``: when the token expires, in seconds since 1970.
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


@dataclass(frozen=True, slots=True)
class Consent:
    """What an OAuth client asks a person for. ``document``: the address of the client's metadata document, empty for a
    registered client. ``redirect``: where the browser returns to. ``audience``: where the access is valid.

    If the request is invalid, only ``error`` and ``location`` are set: the reason, and the address at which the client
    learns it.
    """

    name: str = ""
    document: str = ""
    redirect: str = ""
    audience: str = ""
    scopes: tuple[str, ...] = ()
    error: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class ConsentAnswer:
    """The answer of a person to an OAuth client. ``location``: the address to which the browser must return."""

    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey(Key):
    """A newly created key. ``key`` is its secret, which is shown only once."""

    key: str


KEYS = Resource(
    "Keys",
    "/api/keys",
    "Who can call the daemon, and what they can do.",
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
