# Generated from portico._async by scripts/sdk: change it there.
"""Conversations that are kept, and what agents keep of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._read import Page
from portico._request import at, by_id, given
from portico._sync.calls import facts as calls_facts
from portico._sync.calls import sessions as calls_sessions
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

    def list(
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
        found: dict[str, Session] = {}
        while len(found) < limit:
            wanted = min(limit - len(found), MAX_PAGE_SESSIONS)
            query = given(app=app, name=name, search=search or None, after=after, limit=wanted)
            page = self._transport.request("GET", "/api/sessions", Page[Session], query=query)
            # One that is used meanwhile moves: it may come twice.
            known = len(found)
            found |= {session.id: session for session in page.data if session.id not in found}
            if not page.has_more or len(found) == known:
                break
            after = page.data[-1].id
        return list(found.values())

    def messages(
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
        path, found = self._at(session_id, "messages"), list[SessionMessage]()
        while limit is None or len(found) < limit:
            wanted = MAX_PAGE_MESSAGES if limit is None else min(limit - len(found), MAX_PAGE_MESSAGES)
            query = given(after=after, limit=wanted, agent=agent)
            page = self._transport.request("GET", path, Page[SessionMessage], query=query)
            found += page.data
            if not page.has_more:
                break
            after = found[-1].seq
        return found

    def ratings(
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
        found: list[Rating] = []
        while len(found) < limit:
            wanted = min(limit - len(found), MAX_PAGE_MESSAGES)
            query = given(app=app, model=model, value=value, after=after, limit=wanted)
            page = self._transport.request("GET", "/api/ratings", Page[Rating], query=query)
            found += page.data
            if not page.has_more:
                break
            after = found[-1].id
        return found

    def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Put a state dict in the place of all that was said. Raises `InvalidRequest`; then nothing has changed."""
        return self._transport.request("PUT", self._at(session_id, "state"), Session, json=dict(state))

    def _at(self, session_id: str, *more: str) -> str:
        return at("api", "sessions", by_id(session_id, "a session"), *more)


class Facts(calls_facts.Facts):
    """The long-term memory: facts of our own, each with where it was learnt."""

    def list(
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
        return self._transport.request("GET", path, list[Fact], query=query)
