"""Stored conversations, and the memories of agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.calls import facts as calls_facts
from portico._async.calls import sessions as calls_sessions
from portico._read import Page
from portico._request import at, by_id, without_none
from portico.errors import InvalidRequest
from portico.schemas.facts import Fact
from portico.schemas.ratings import Rating
from portico.schemas.sessions import Session, SessionMessage

MAX_PAGE_MESSAGES = 1000
"""Maximum number of messages per request."""

MAX_PAGE_SESSIONS = 1000
"""Maximum number of sessions per request."""


class Sessions(calls_sessions.Sessions):
    """Conversations with apps and agents, including the memory of every agent in a tree."""

    async def list(
        self,
        app: str | None = None,
        *,
        name: str | None = None,
        search: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> list[Session]:
        """List the sessions, most recently used first.

        Optional filters: an app, a ``name``, and a text to ``search`` for. If ``after`` is given, the list starts
        after that session. Returns at most ``limit`` sessions, regardless of the page size.
        """
        sessions: dict[str, Session] = {}
        while len(sessions) < limit:
            page_size = min(limit - len(sessions), MAX_PAGE_SESSIONS)
            query = without_none(app=app, name=name, search=search or None, after=after, limit=page_size)
            page = await self._transport.request("GET", "/api/sessions", Page[Session], query=query)
            # A session that is used between two requests changes position, so it may appear twice.
            known_count = len(sessions)
            sessions |= {session.id: session for session in page.data if session.id not in sessions}
            if not page.has_more or len(sessions) == known_count:
                break
            after = page.data[-1].id
        return list(sessions.values())

    async def messages(
        self,
        session_id: str,
        agent: str | None = None,
        *,
        after: int = 0,
        limit: int | None = MAX_PAGE_MESSAGES,
    ) -> Sequence[SessionMessage]:
        """Return the messages in order. If ``agent`` is given (its path, empty for the root), return the messages in
        its memory.

        Returns at most ``limit`` messages (``None``: all) after the message number ``after``, regardless of the page
        size.
        """
        path, session_messages = self._at(session_id, "messages"), list[SessionMessage]()
        while limit is None or len(session_messages) < limit:
            page_size = (
                MAX_PAGE_MESSAGES if limit is None else min(limit - len(session_messages), MAX_PAGE_MESSAGES)
            )
            query = without_none(after=after, limit=page_size, agent=agent)
            page = await self._transport.request("GET", path, Page[SessionMessage], query=query)
            session_messages += page.data
            if not page.has_more:
                break
            after = session_messages[-1].seq
        return session_messages

    async def ratings(
        self,
        *,
        app: str | None = None,
        model: str | None = None,
        value: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[Rating]:
        """Return rated answers, oldest first.

        Optional filters: an app, a model and a value. If ``after`` is given, the list starts after that rating.
        Returns at most ``limit`` ratings, regardless of the page size.
        """
        ratings: list[Rating] = []
        while len(ratings) < limit:
            page_size = min(limit - len(ratings), MAX_PAGE_MESSAGES)
            query = without_none(app=app, model=model, value=value, after=after, limit=page_size)
            page = await self._transport.request("GET", "/api/ratings", Page[Rating], query=query)
            ratings += page.data
            if not page.has_more:
                break
            after = ratings[-1].id
        return ratings

    async def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Replace the whole history with a state dict. If the state is invalid, raise `InvalidRequest` and change
        nothing.
        """
        return await self._transport.request("PUT", self._at(session_id, "state"), Session, json=dict(state))

    def _at(self, session_id: str, *parts: str) -> str:
        return at("api", "sessions", by_id(session_id, "a session"), *parts)


class Facts(calls_facts.Facts):
    """Long-term memory: the caller's facts, each with its origin."""

    async def list(
        self,
        *,
        store: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        versions: bool = False,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Fact]:
        """List facts, newest first: the facts that an ``agent`` saved in a store, or all facts learned in a ``session``
        (its id). With ``versions``, each fact is followed by its former versions.

        At most ``limit`` facts, not counting former versions, are listed after the fact with the id ``after``.
        """
        path = "/api/facts"
        if session is not None:
            if store is not None or agent is not None:
                raise InvalidRequest("Give a session, or a store and an agent.", param="session")
            path = at("api", "sessions", session, "facts")
        query = without_none(store=store, agent=agent, versions=versions or None, after=after, limit=limit)
        return await self._transport.request("GET", path, list[Fact], query=query)
