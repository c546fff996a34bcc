"""The requests of agents and their sessions, and how to read what comes back. See `portico._calls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from portico import _read as read
from portico._calls.call import Call, EventCall
from portico._events import RunEvents
from portico.errors import InvalidRequest
from portico.values import CheckedAgent, RunEvent, Session, SessionMessage

PAGE = 1000
"""Messages that are asked for at once."""


def agent_check(spec: Mapping[str, Any]) -> Call[CheckedAgent]:
    return Call("POST", "/api/agents/check", checked, json={"agent": dict(spec)})


def agent_run(
    spec: Mapping[str, Any],
    message: Any,
    session: tuple[str, str] | None,
    path: str,
    variables: Mapping[str, Any],
) -> EventCall[RunEvent]:
    """``session`` is an app and a name; ``path`` the place of the agent in the tree that the session belongs to."""
    body: dict[str, Any] = {"agent": dict(spec), "message": message}
    if session is not None:
        body["session"] = {"app": session[0], "name": session[1]}
    if path:
        body["path"] = path
    if variables:
        body["variables"] = dict(variables)
    return EventCall("POST", "/api/agents/run", RunEvents, json=body)


def sessions_list(app: str | None, name: str | None, search: str, limit: int) -> Call[list[Session]]:
    given = {"app": app, "name": name, "search": search or None}
    query = {key: value for key, value in given.items() if value is not None}
    return Call("GET", "/api/sessions", read.rows(session), query={**query, "limit": limit})


def session_open(app: str, name: str, title: str, metadata: Mapping[str, Any]) -> Call[Session]:
    body = {"app": app, "name": name, "title": title, "metadata": dict(metadata)}
    return Call("POST", "/api/sessions", session, json=body)


def session_get(session_id: str) -> Call[Session]:
    return Call("GET", _path(session_id), session)


def session_change(session_id: str, title: str | None, metadata: Mapping[str, Any] | None) -> Call[Session]:
    given = {"title": title, "metadata": None if metadata is None else dict(metadata)}
    body = {key: value for key, value in given.items() if value is not None}
    return Call("PATCH", _path(session_id), session, json=body)


def session_remove(session_id: str) -> Call[None]:
    return Call("DELETE", _path(session_id), read.nothing)


def session_messages(
    session_id: str, agent: str | None, after: int, limit: int
) -> Call[list[SessionMessage]]:
    query = {"after": after, "limit": limit, **({} if agent is None else {"agent": agent})}
    return Call("GET", _path(session_id, "/messages"), read.rows(message), query=query)


def session_add(session_id: str, messages: Sequence[Mapping[str, Any]], agent: str) -> Call[Session]:
    body = {"messages": [dict(item) for item in messages], "agent": agent}
    return Call("POST", _path(session_id, "/messages"), session, json=body)


def session_reset(session_id: str) -> Call[Session]:
    return Call("POST", _path(session_id, "/reset"), session)


def session_fork(session_id: str, name: str) -> Call[Session]:
    return Call("POST", _path(session_id, "/fork"), session, json={"name": name})


def session_state(session_id: str) -> Call[dict[str, Any]]:
    return Call("GET", _path(session_id, "/state"), dict)


def session_load(session_id: str, state: Mapping[str, Any]) -> Call[Session]:
    return Call("PUT", _path(session_id, "/state"), session, json=dict(state))


def session(value: Any) -> Session:
    return read.value_of(Session, value)


def message(value: Any) -> SessionMessage:
    return read.value_of(SessionMessage, value)


def checked(value: Any) -> CheckedAgent:
    return read.value_of(CheckedAgent, value)


def _path(session_id: str, rest: str = "") -> str:
    if session_id in ("", ".", ".."):
        raise InvalidRequest("Name a session by its id.", param="id")
    return f"/api/sessions/{quote(session_id, safe='')}{rest}"
