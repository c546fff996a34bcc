"""Calls over MCP that became tasks, which clients must find after a crash of the daemon; and the sessions of MCP, which
they must find at every daemon on the database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, delete, select, true, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Rows, portions
from portico_server.db.rows import now as clock
from portico_server.db.schema import mcp_sessions, mcp_tasks, runs

TaskStatus: TypeAlias = Literal["working", "completed", "failed", "cancelled"]

LOST_MESSAGE: Final = "The daemon ended before this call had, and the call with it. Call again."


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task. ``owner`` is the id of the key that called, ``result`` what its call came to, as MCP has it.

    Times are seconds since 1970. The daemon that works on it holds it until ``lease_expires``.
    """

    id: str
    owner: str
    run_id: str
    created_at: float
    lease_expires: float = 0.0
    status: TaskStatus = "working"
    message: str = ""
    result: Mapping[str, Any] | None = None
    finished_at: float | None = None


_TASKS = Rows(mcp_tasks, TaskRow)

get = _TASKS.get


def begin(connection: Connection, row: TaskRow, lease_seconds: float, keep_seconds: float) -> None:
    """Write one that works from now on; those that ended longer ago than ``keep_seconds`` go."""
    forget(connection, keep_seconds)
    _TASKS.add(connection, replace(row, lease_expires=clock(connection) + lease_seconds))


def forget(connection: Connection, keep_seconds: float) -> None:
    """Remove those that ended longer ago."""
    connection.execute(delete(mcp_tasks).where(mcp_tasks.c.finished_at < time.time() - keep_seconds))


def end(
    connection: Connection, task_id: str, status: TaskStatus, message: str, result: Mapping[str, Any] | None
) -> None:
    """How one ended."""
    values = {"status": status, "message": message, "result": result, "finished_at": time.time()}
    connection.execute(update(mcp_tasks).where(mcp_tasks.c.id == task_id).values(values))


def renew(connection: Connection, ids: Sequence[str], lease_seconds: float) -> None:
    """Hold them for so long from now on."""
    until = clock(connection) + lease_seconds
    for portion in portions(ids):
        binary_expression = mcp_tasks.c.id.in_(portion)
        connection.execute(update(mcp_tasks).where(binary_expression).values(lease_expires=until))


def is_left(connection: Connection, task_id: str) -> bool:
    """Whether one is at work whose daemon is gone."""
    query = select(mcp_tasks.c.lease_expires).where(
        mcp_tasks.c.id == task_id, mcp_tasks.c.status == "working"
    )
    expires = connection.execute(query).scalar()
    return expires is not None and expires < clock(connection)


def lose(connection: Connection, *, include_all: bool) -> int:
    """Let those fail whose daemon is gone: ``include_all`` one at work, or those whose lease has run out. How many.

    Not those whose run is durable: it is taken up again.
    """
    now = time.time()
    condition = true() if include_all else mcp_tasks.c.lease_expires < clock(connection)
    return connection.execute(
        update(mcp_tasks)
        .where(mcp_tasks.c.status == "working", condition, mcp_tasks.c.run_id.not_in(select(runs.c.id)))
        .values(status="failed", message=LOST_MESSAGE, finished_at=now)
    ).rowcount


@dataclass(frozen=True, slots=True)
class McpSessionRow:
    """A session of MCP. ``owner`` is the id of the key that began it.

    ``requests``: what opens it, and what the client has set since, each as the client sent it. ``used_at``: seconds
    since 1970 by the clock of the database, a minute late at most.
    """

    id: str
    owner: str
    requests: Mapping[str, Any]
    used_at: float = 0.0


_SESSIONS = Rows(mcp_sessions, McpSessionRow)


def open_session(connection: Connection, row: McpSessionRow, idle_s: float, max_per_owner: int) -> None:
    """Write a new one. Those that nobody has used for so long go, and the oldest of an owner who has too many."""
    now = clock(connection)
    used_at = mcp_sessions.c.used_at
    connection.execute(delete(mcp_sessions).where(used_at < now - idle_s))
    query = select(mcp_sessions.c.id).where(mcp_sessions.c.owner == row.owner)
    surplus = connection.execute(query.order_by(used_at.desc()).offset(max_per_owner - 1)).scalars().all()
    for portion in portions(surplus):
        connection.execute(delete(mcp_sessions).where(mcp_sessions.c.id.in_(portion)))
    _SESSIONS.add(connection, replace(row, used_at=now))


def get_session(connection: Connection, session_id: str, idle_s: float) -> McpSessionRow | None:
    """One that was used in so many seconds."""
    row = _SESSIONS.get(connection, session_id)
    return None if row is None or row.used_at < clock(connection) - idle_s else row


def renew_sessions(connection: Connection, ids: Sequence[str]) -> None:
    """They were used just now."""
    now = clock(connection)
    for portion in portions(ids):
        binary_expression = mcp_sessions.c.id.in_(portion)
        connection.execute(update(mcp_sessions).where(binary_expression).values(used_at=now))


def change_session(
    connection: Connection, session_id: str, name: str, request: Mapping[str, Any] | None, max_requests: int
) -> None:
    """Keep a request of a session under a name, or nothing of that name; no more than so many requests."""
    condition = mcp_sessions.c.id == session_id
    found_requests = connection.execute(
        select(mcp_sessions.c.requests).where(condition).with_for_update()
    ).scalar()
    if found_requests is None:
        return
    requests = {key: value for key, value in found_requests.items() if key != name}
    if request is not None and len(requests) < max_requests:
        requests[name] = dict(request)
    connection.execute(update(mcp_sessions).where(condition).values(requests=requests))


def end_session(connection: Connection, session_id: str) -> None:
    """Remove one."""
    connection.execute(delete(mcp_sessions).where(mcp_sessions.c.id == session_id))
