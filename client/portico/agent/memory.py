"""The memory of agents: reading from and writing to the daemon's sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico._async.sessions import Sessions as AsyncSessions
from portico._sync.sessions import Sessions
from portico.agent.message import Message
from portico.schemas.sessions import Session

_ID: Final = "conv_"
"""Prefix of session ids. Session names must not begin with it."""

_VERSION: Final = "portico_session"


def open_session(sessions: Sessions, app: str, name: str) -> Session:
    """Return the session with a name or id. If no session has the name, create it."""
    return sessions.get(name) if name.startswith(_ID) else sessions.open(app, name)


async def aopen_session(sessions: AsyncSessions, app: str, name: str) -> Session:
    """The asyncio version of `open_session`."""
    return await (sessions.get(name) if name.startswith(_ID) else sessions.open(app, name))


def find_session(sessions: Sessions, app: str, name: str) -> Session | None:
    """Return the session with a name or id. Return ``None`` if no session has the name, without creating it."""
    if not name.startswith(_ID) and not sessions.list(app, name=name, limit=1):
        return None
    return open_session(sessions, app, name)


def read_messages(sessions: Sessions, app: str, name: str, path: str) -> list[Message]:
    """Return the messages in an agent's memory, oldest first."""
    session = find_session(sessions, app, name)
    if session is None:
        return []
    return [Message.of(row.message) for row in sessions.messages(session.id, path, limit=None)]


def read_state(sessions: Sessions, app: str, name: str, path: str) -> dict[str, Any]:
    """Return the state dict of the agent at ``path`` and of the agents below it."""
    session = find_session(sessions, app, name)
    if session is None:
        return {}
    session_state = sessions.state(session.id)
    if not path:
        return session_state
    cut = len(path) + 1
    own_state = {key[cut:]: value for key, value in session_state.items() if key.startswith(f"{path}.")}
    return {_VERSION: session_state[_VERSION], **own_state} if _VERSION in session_state else own_state


def write_state(sessions: Sessions, app: str, name: str, path: str, state: Mapping[str, Any]) -> None:
    """Replace the memories of the agent at ``path`` and of the agents below it with a state dict."""
    session = open_session(sessions, app, name)
    if not path:
        sessions.load(session.id, state)
        return
    other_state = _without(sessions.state(session.id), path)
    version = {_VERSION: state[_VERSION]} if _VERSION in state else {}
    own_state = {f"{path}.{key}": value for key, value in state.items() if key != _VERSION}
    sessions.load(session.id, {**other_state, **own_state, **version})


def forget(sessions: Sessions, app: str, name: str, path: str) -> None:
    """Delete the memories of the agent at ``path`` and of the agents below it."""
    session = find_session(sessions, app, name)
    if session is None:
        return
    if path:
        sessions.load(session.id, _without(sessions.state(session.id), path))
    else:
        sessions.reset(session.id)


def _without(state: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not key.startswith(f"{path}.")}
