# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.sessions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, by_id, without_none
from portico.schemas.sessions import NewPublicLink, PublicLink, Session, SessionMessage


class Sessions(Group):
    """Conversations with apps and agents, including the memory of every agent in a tree."""

    async def open(
        self,
        app: str,
        name: str | None = None,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Return the session with this name, creating it if it does not exist.

        A session to open. Without a ``name``, the session's id becomes its name. If the session exists, it
        stays unchanged.
        """
        return await self._transport.request(
            "POST",
            "/api/sessions",
            Session,
            json=without_none(app=app, name=name, title=title, metadata=metadata),
        )

    async def get(self, session_id: str) -> Session:
        """Return a session."""
        return await self._transport.request(
            "GET", at("api", "sessions", by_id(session_id, "a session")), Session
        )

    async def rate(
        self,
        session_id: str,
        message: int,
        value: str,
        *,
        correction: str | None = None,
        note: str | None = None,
    ) -> SessionMessage:
        """Rate an answer, identified by its message number. A new rating replaces the existing rating.

        Your rating of an answer. ``correction`` is the answer that you wanted; it is required for the rating
        ``corrected`` and not allowed for other ratings.

        ``value``: ``good`` | ``bad`` | ``corrected``.
        """
        return await self._transport.request(
            "PUT",
            at("api", "sessions", by_id(session_id, "a session"), "messages", str(message), "rating"),
            SessionMessage,
            json=without_none(value=value, correction=correction, note=note),
        )

    async def unrate(self, session_id: str, message: int) -> None:
        """Remove the rating of an answer."""
        return await self._transport.request(
            "DELETE",
            at("api", "sessions", by_id(session_id, "a session"), "messages", str(message), "rating"),
            None,
        )

    async def change(
        self, session_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """Change the title or metadata of a session.

        Changes to a session. Omitted fields stay unchanged.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "sessions", by_id(session_id, "a session")),
            Session,
            json=without_none(title=title, metadata=metadata),
        )

    async def add(self, session_id: str, messages: Sequence[Any], agent: str | None = None) -> Session:
        """Append messages to a session, such as messages of an agent that a client runs.

        Messages for the memory of the agent at the path ``agent``, which is empty for the root agent: texts,
        parts or messages.
        """
        return await self._transport.request(
            "POST",
            at("api", "sessions", by_id(session_id, "a session"), "messages"),
            Session,
            json=without_none(messages=messages, agent=agent),
        )

    async def reset(self, session_id: str) -> Session:
        """Delete all messages of a session, for all agents in its tree."""
        return await self._transport.request(
            "POST", at("api", "sessions", by_id(session_id, "a session"), "reset"), Session
        )

    async def fork(self, session_id: str, name: str | None = None) -> Session:
        """Copy a session. The copy is independent from then on.

        The name of the copied session; by default the copy's id.
        """
        return await self._transport.request(
            "POST",
            at("api", "sessions", by_id(session_id, "a session"), "fork"),
            Session,
            json=without_none(name=name),
        )

    async def state(self, session_id: str) -> dict[str, Any]:
        """Return the state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...],
        "writer.state": {...}}``.
        """
        return await self._transport.request(
            "GET", at("api", "sessions", by_id(session_id, "a session"), "state"), dict[str, Any]
        )

    async def remove(self, session_id: str) -> None:
        """Delete a session and all its messages."""
        return await self._transport.request(
            "DELETE", at("api", "sessions", by_id(session_id, "a session")), None
        )

    async def publish(self, session_id: str, *, days: int | None = None) -> NewPublicLink:
        """Create a link with which anyone can read a copy of the session, without a key.

        The copy contains the questions and answers up to now, without attachments, tool calls and reasoning.
        Passages that the caller may not read have no text. The link ends when it expires, or when the link,
        the session or the caller's key is removed.

        The link expires after this number of ``days``.

        ``days``: (default: ``30``).
        """
        return await self._transport.request(
            "POST",
            at("api", "sessions", by_id(session_id, "a session"), "public-links"),
            NewPublicLink,
            json=without_none(days=days),
        )

    async def public_links(self, session_id: str) -> Sequence[PublicLink]:
        """List the valid public links of a session, oldest first."""
        return await self._transport.request(
            "GET", at("api", "sessions", by_id(session_id, "a session"), "public-links"), list[PublicLink]
        )

    async def unpublish(self, session_id: str, link_id: str) -> None:
        """Remove a public link of a session."""
        return await self._transport.request(
            "DELETE",
            at(
                "api",
                "sessions",
                by_id(session_id, "a session"),
                "public-links",
                by_id(link_id, "a public link"),
            ),
            None,
        )
