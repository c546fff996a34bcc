"""Conversations that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._calls.sessions import (
    PAGE,
    session_add,
    session_change,
    session_fork,
    session_get,
    session_load,
    session_messages,
    session_open,
    session_remove,
    session_reset,
    session_state,
    sessions_list,
)
from portico.values import (
    Session,
    SessionMessage,
)


class Sessions(Group):
    """Conversations with apps and agents, with the memory of every agent of a tree."""

    async def list(
        self, app: str | None = None, *, name: str | None = None, search: str = "", limit: int = 100
    ) -> list[Session]:
        """The one used last first; of an app, of a name, or those in which ``search`` was said."""
        return await self._transport.send(sessions_list(app, name, search, limit))

    async def open(
        self, app: str, name: str = "", *, title: str = "", metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """The session of this name, made if there is none. Without a name it is called by its id."""
        return await self._transport.send(session_open(app, name, title, metadata or {}))

    async def get(self, session_id: str) -> Session:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(session_get(session_id))

    async def change(
        self, session_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """Change the title or the metadata; what is left out stays."""
        return await self._transport.send(session_change(session_id, title, metadata))

    async def messages(
        self, session_id: str, agent: str | None = None, *, after: int = 0, limit: int = PAGE
    ) -> Sequence[SessionMessage]:
        """What was said, in order; in the memory of one ``agent`` (its path, empty for the root) if it is given."""
        return await self._transport.send(session_messages(session_id, agent, after, limit))

    async def add(self, session_id: str, messages: Sequence[Mapping[str, Any]], agent: str = "") -> Session:
        """Put messages behind what was said, into the memory of ``agent``."""
        return await self._transport.send(session_add(session_id, messages, agent))

    async def reset(self, session_id: str) -> Session:
        """Forget all that was said, by every agent of the tree."""
        return await self._transport.send(session_reset(session_id))

    async def fork(self, session_id: str, name: str = "") -> Session:
        """A copy, which goes its own way from here."""
        return await self._transport.send(session_fork(session_id, name))

    async def state(self, session_id: str) -> dict[str, Any]:
        """The state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...]}``."""
        return await self._transport.send(session_state(session_id))

    async def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Put a state dict in the place of all that was said. Raises `InvalidRequest`; then nothing has changed."""
        return await self._transport.send(session_load(session_id, state))

    async def remove(self, session_id: str) -> None:
        """Remove a session with all that was said in it."""
        return await self._transport.send(session_remove(session_id))
