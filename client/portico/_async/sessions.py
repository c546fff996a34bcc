"""Conversations that are kept, and what agents keep of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.calls import facts as calls_facts
from portico._async.calls import sessions as calls_sessions
from portico._read import Page
from portico._request import at, by_id, given
from portico.errors import InvalidRequest
from portico.schemas.facts import Fact
from portico.schemas.ratings import Rating
from portico.schemas.sessions import Session, SessionMessage

MAX_PAGE_MESSAGES = 1000
"""Messages that are asked for at once."""

MAX_PAGE_SESSIONS = 1000
"""Sessions that are asked for at once."""


class Sessions(calls_sessions.Sessions):
    """Conversations with apps and agents, with the memory of every agent of a tree."""

    async def list(
        self,
        app: str | None = None,
        *,
        name: str | None = None,
        search: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> list[Session]:
        """The one used last first; of an app, of a name, in which ``search`` was said, behind the session ``after``.
        At most ``limit`` of them, whatever a page holds.
        """
        sessions: dict[str, Session] = {}
        while len(sessions) < limit:
            page_size = min(limit - len(sessions), MAX_PAGE_SESSIONS)
            query = given(app=app, name=name, search=search or None, after=after, limit=page_size)
            page = await self._transport.request("GET", "/api/sessions", Page[Session], query=query)
            # One that is used meanwhile moves: it may come twice.
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
        """What was said, in order; in the memory of one ``agent`` (its path, empty for the root) if it is given.

        Behind the message number ``after``, and at most ``limit`` of them (``None``: all), whatever a page holds.
        """
        path, session_messages = self._at(session_id, "messages"), list[SessionMessage]()
        while limit is None or len(session_messages) < limit:
            page_size = (
                MAX_PAGE_MESSAGES if limit is None else min(limit - len(session_messages), MAX_PAGE_MESSAGES)
            )
            query = given(after=after, limit=page_size, agent=agent)
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
        """Rated answers, the oldest first; of an app, by a model, of one value, or behind the rating ``after``.

        At most ``limit`` of them, whatever a page holds.
        """
        ratings: list[Rating] = []
        while len(ratings) < limit:
            page_size = min(limit - len(ratings), MAX_PAGE_MESSAGES)
            query = given(app=app, model=model, value=value, after=after, limit=page_size)
            page = await self._transport.request("GET", "/api/ratings", Page[Rating], query=query)
            ratings += page.data
            if not page.has_more:
                break
            after = ratings[-1].id
        return ratings

    async def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Put a state dict in the place of all that was said. Raises `InvalidRequest`; then nothing has changed."""
        return await self._transport.request("PUT", self._at(session_id, "state"), Session, json=dict(state))

    def _at(self, session_id: str, *parts: str) -> str:
        return at("api", "sessions", by_id(session_id, "a session"), *parts)


class Facts(calls_facts.Facts):
    """The long-term memory: facts of our own, each with where it was learnt."""

    async def list(
        self,
        *,
        store: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        limit: int = 100,
    ) -> list[Fact]:
        """The newest first; of a store, learnt by an agent, or all that was learnt in a ``session`` (its id)."""
        path = "/api/facts"
        if session is not None:
            if store is not None or agent is not None:
                raise InvalidRequest(
                    "Ask for the facts of a session, or of a store and an agent.", param="session"
                )
            path = at("api", "sessions", session, "facts")
        query = given(store=store, agent=agent, limit=limit)
        return await self._transport.request("GET", path, list[Fact], query=query)
