# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.sessions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.sessions import Session, SessionMessage


class Sessions(Group):
    """Conversations with apps and agents, with the memory of every agent of a tree."""

    def open(
        self,
        app: str,
        name: str | None = None,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """The session of this name, made if there is none.

        A session to open. Without a ``name`` it is called by its id; one that is there already is left as it
        is.
        """
        return self._transport.request(
            "POST", "/api/sessions", Session, json=given(app=app, name=name, title=title, metadata=metadata)
        )

    def get(self, session_id: str) -> Session:
        """One session."""
        return self._transport.request("GET", at("api", "sessions", by_id(session_id, "a session")), Session)

    def rate(
        self,
        session_id: str,
        message: int,
        value: str,
        *,
        correction: str | None = None,
        note: str | None = None,
    ) -> SessionMessage:
        """Rate an answer, by the number of its message; a rating that it has is replaced.

        What you think of an answer. ``correction`` is the answer that you wanted: for ``corrected``, and only
        then.

        ``value``: ``good`` | ``bad`` | ``corrected``.
        """
        return self._transport.request(
            "PUT",
            at("api", "sessions", by_id(session_id, "a session"), "messages", str(message), "rating"),
            SessionMessage,
            json=given(value=value, correction=correction, note=note),
        )

    def unrate(self, session_id: str, message: int) -> None:
        """Take back what was thought of an answer."""
        return self._transport.request(
            "DELETE",
            at("api", "sessions", by_id(session_id, "a session"), "messages", str(message), "rating"),
            None,
        )

    def change(
        self, session_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """Change its title or its metadata.

        What is left out stays as it is.
        """
        return self._transport.request(
            "PATCH",
            at("api", "sessions", by_id(session_id, "a session")),
            Session,
            json=given(title=title, metadata=metadata),
        )

    def add(self, session_id: str, messages: Sequence[Any], agent: str | None = None) -> Session:
        """Put messages behind what was said, such as what an agent that works at a client has heard and
        answered.

        Messages for the memory of the agent at the path ``agent``, empty for the root: texts, parts or
        messages.
        """
        return self._transport.request(
            "POST",
            at("api", "sessions", by_id(session_id, "a session"), "messages"),
            Session,
            json=given(messages=messages, agent=agent),
        )

    def reset(self, session_id: str) -> Session:
        """Forget all that was said, by every agent of the tree."""
        return self._transport.request(
            "POST", at("api", "sessions", by_id(session_id, "a session"), "reset"), Session
        )

    def fork(self, session_id: str, name: str | None = None) -> Session:
        """A copy, which goes its own way from here.

        The name of the copy; called by its id without one.
        """
        return self._transport.request(
            "POST",
            at("api", "sessions", by_id(session_id, "a session"), "fork"),
            Session,
            json=given(name=name),
        )

    def state(self, session_id: str) -> dict[str, Any]:
        """The state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...], "writer.state":
        {...}}``.
        """
        return self._transport.request(
            "GET", at("api", "sessions", by_id(session_id, "a session"), "state"), dict[str, Any]
        )

    def remove(self, session_id: str) -> None:
        """Remove a session with all that was said in it."""
        return self._transport.request("DELETE", at("api", "sessions", by_id(session_id, "a session")), None)
