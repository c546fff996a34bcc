# Made from portico/_async by scripts/twin: change it there.
"""Conversations that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from portico._sync.group import Group
from portico.values import (
    Session,
    SessionMessage,
)


class Sessions(Group):
    """Conversations with apps and agents, with the memory of every agent of a tree."""

    def list(
        self, app: str | None = None, *, name: str | None = None, search: str = "", limit: int = 100
    ) -> list[Session]:
        """The one used last first; of an app, of a name, or those in which ``search`` was said."""
        return self._transport.send(sessions_list(app, name, search, limit))

    def open(
        self, app: str, name: str = "", *, title: str = "", metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """The session of this name, made if there is none. Without a name it is called by its id."""
        return self._transport.send(session_open(app, name, title, metadata or {}))

    def get(self, session_id: str) -> Session:
        """One by id. Raises `NotFound`."""
        return self._transport.send(session_get(session_id))

    def change(
        self, session_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """Change the title or the metadata; what is left out stays."""
        return self._transport.send(session_change(session_id, title, metadata))

    def messages(
        self, session_id: str, agent: str | None = None, *, after: int = 0, limit: int = PAGE
    ) -> Sequence[SessionMessage]:
        """What was said, in order; in the memory of one ``agent`` (its path, empty for the root) if it is given."""
        return self._transport.send(session_messages(session_id, agent, after, limit))

    def add(self, session_id: str, messages: Sequence[Mapping[str, Any]], agent: str = "") -> Session:
        """Put messages behind what was said, into the memory of ``agent``."""
        return self._transport.send(session_add(session_id, messages, agent))

    def reset(self, session_id: str) -> Session:
        """Forget all that was said, by every agent of the tree."""
        return self._transport.send(session_reset(session_id))

    def fork(self, session_id: str, name: str = "") -> Session:
        """A copy, which goes its own way from here."""
        return self._transport.send(session_fork(session_id, name))

    def state(self, session_id: str) -> dict[str, Any]:
        """The state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...]}``."""
        return self._transport.send(session_state(session_id))

    def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Put a state dict in the place of all that was said. Raises `InvalidRequest`; then nothing has changed."""
        return self._transport.send(session_load(session_id, state))

    def remove(self, session_id: str) -> None:
        """Remove a session with all that was said in it."""
        return self._transport.send(session_remove(session_id))
