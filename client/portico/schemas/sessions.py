"""Sessions: conversations with an app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation with ``app``. ``name`` is the name that the owner gave it. Times are in seconds since 1970."""

    id: str
    app: str
    name: str
    title: str
    metadata: Mapping[str, Any]
    owner: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMessage:
    """A message in an agent's memory. ``agent`` is the agent's path in the tree, empty for the root."""

    seq: int
    agent: str
    run: str | None
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PublicLink:
    """A link to a copy of a session as it was at ``created_at``. Anyone with the link can read the copy until
    ``expires_at``. Times are in seconds since 1970.
    """

    id: str
    session: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPublicLink(PublicLink):
    """A newly created link. ``path`` is its address on the daemon; it contains a secret and is shown only once."""

    path: str


@dataclass(frozen=True, slots=True)
class PublicPassage:
    """A passage that an answer cites as number ``rank``. ``text`` is empty if the key that created the link could not
    read the passage's file.
    """

    rank: int
    filename: str
    text: str


@dataclass(frozen=True, slots=True)
class PublicMessage:
    """A message of a published session. ``attachments`` counts the images and files that were left out."""

    role: Literal["user", "assistant"]
    text: str
    attachments: int
    passages: tuple[PublicPassage, ...]


@dataclass(frozen=True, slots=True)
class PublicSession:
    """The copy of a session that a public link shows."""

    title: str
    created_at: float
    expires_at: float
    messages: tuple[PublicMessage, ...]


SESSIONS = Resource(
    "Sessions",
    "/api/sessions",
    "Conversations with apps and agents, including the memory of every agent in a tree.",
    {"session_id": "a session", "link_id": "a public link"},
    (
        Verb("open", "POST", Session, positional=("name",)),
        Verb("get", "GET {session_id}", Session),
        Verb("rate", "PUT {session_id}/messages/{message}/rating", SessionMessage),
        Verb("unrate", "DELETE {session_id}/messages/{message}/rating"),
        Verb("change", "PATCH {session_id}", Session),
        Verb("add", "POST {session_id}/messages", Session, positional=("agent",)),
        Verb("reset", "POST {session_id}/reset", Session),
        Verb("fork", "POST {session_id}/fork", Session, positional=("name",)),
        Verb("state", "GET {session_id}/state", dict[str, Any]),
        Verb("remove", "DELETE {session_id}"),
        Verb("publish", "POST {session_id}/public-links", NewPublicLink),
        Verb("public_links", "GET {session_id}/public-links", list[PublicLink]),
        Verb("unpublish", "DELETE {session_id}/public-links/{link_id}"),
    ),
    columns=(
        Column("APP"),
        Column("NAME"),
        Column("TITLE", width=60),
        Column("USED", "updated_at", kind="moment"),
        Column("ID"),
    ),
)
