"""Sessions: conversations with an app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


SESSIONS = Resource(
    "Sessions",
    "/api/sessions",
    "Conversations with apps and agents, including the memory of every agent in a tree.",
    {"session_id": "a session"},
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
    ),
    columns=(
        Column("APP"),
        Column("NAME"),
        Column("TITLE", width=60),
        Column("USED", "updated_at", kind="moment"),
        Column("ID"),
    ),
)
