"""MCP calls that became tasks, which clients must find again after a crash of the daemon, and MCP sessions, which
clients must find on every daemon that uses the database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, delete, select, true, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Rows, portions
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import mcp_sessions, mcp_tasks, runs

TaskStatus: TypeAlias = Literal["working", "completed", "failed", "cancelled"]

LOST_MESSAGE: Final = "The daemon stopped before this call had finished. Call again."


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task. ``owner`` is the id of the key that made the call; ``result`` is the call's result in MCP's format.

    Times are seconds since 1970. Until ``lease_expires``, the daemon that works on the task owns it.
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
    """Store a task that starts now, and delete tasks that ended more than ``keep_seconds`` ago."""
    forget(connection, keep_seconds)
    _TASKS.add(connection, replace(row, lease_expires=clock(connection) + lease_seconds))


def forget(connection: Connection, keep_seconds: float) -> None:
    """Delete tasks that ended more than ``keep_seconds`` ago."""
    connection.execute(delete(mcp_tasks).where(mcp_tasks.c.finished_at < time.time() - keep_seconds))


def end(
    connection: Connection, task_id: str, status: TaskStatus, message: str, result: Mapping[str, Any] | None
) -> None:
    """Record how a task ended."""
    values = {"status": status, "message": message, "result": result, "finished_at": time.time()}
    connection.execute(update(mcp_tasks).where(mcp_tasks.c.id == task_id).values(values))


def renew(connection: Connection, ids: Sequence[str], lease_seconds: float) -> None:
    """Renew the leases of tasks, so that they expire in ``lease_seconds``."""
    until = clock(connection) + lease_seconds
    for portion in portions(ids):
        binary_expression = mcp_tasks.c.id.in_(portion)
        connection.execute(update(mcp_tasks).where(binary_expression).values(lease_expires=until))


def is_left(connection: Connection, task_id: str) -> bool:
    """Return whether a task is unfinished and its daemon no longer renews its lease."""
    query = select(mcp_tasks.c.lease_expires).where(
        mcp_tasks.c.id == task_id, mcp_tasks.c.status == "working"
    )
    expires = connection.execute(query).scalar()
    return expires is not None and expires < clock(connection)


def lose(connection: Connection, *, include_all: bool) -> int:
    """Fail unfinished tasks: all with ``include_all``, otherwise those whose lease has expired. Return their number.

    Tasks with a durable run are excluded, because the run is resumed.
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
    """An MCP session. ``owner`` is the id of the key that started the session.

    ``requests`` are the opening request and the client's later settings, stored as received and keyed by name.
    ``used_at`` is in seconds since 1970 by the database's clock, and is updated with a delay of up to a minute.
    """

    id: str
    owner: str
    requests: Mapping[str, Any]
    used_at: float = 0.0


_SESSIONS = Rows(mcp_sessions, McpSessionRow)


def open_session(connection: Connection, row: McpSessionRow, idle_s: float, max_per_owner: int) -> None:
    """Store a new session. Delete sessions that have been idle for ``idle_s`` seconds, and the owner's sessions above
    the limit that have been unused for the longest time.
    """
    now = clock(connection)
    used_at = mcp_sessions.c.used_at
    connection.execute(delete(mcp_sessions).where(used_at < now - idle_s))
    query = select(mcp_sessions.c.id).where(mcp_sessions.c.owner == row.owner)
    surplus = connection.execute(query.order_by(used_at.desc()).offset(max_per_owner - 1)).scalars().all()
    for portion in portions(surplus):
        connection.execute(delete(mcp_sessions).where(mcp_sessions.c.id.in_(portion)))
    _SESSIONS.add(connection, replace(row, used_at=now))


def get_session(connection: Connection, session_id: str, idle_s: float) -> McpSessionRow | None:
    """Return a session that was used within the last ``idle_s`` seconds, or ``None``."""
    row = _SESSIONS.get(connection, session_id)
    return None if row is None or row.used_at < clock(connection) - idle_s else row


def renew_sessions(connection: Connection, ids: Sequence[str]) -> None:
    """Set the time at which sessions were last used to now."""
    now = clock(connection)
    for portion in portions(ids):
        binary_expression = mcp_sessions.c.id.in_(portion)
        connection.execute(update(mcp_sessions).where(binary_expression).values(used_at=now))


def change_session(
    connection: Connection, session_id: str, name: str, request: Mapping[str, Any] | None, max_requests: int
) -> None:
    """Store a session's request under a name, or delete it if ``request`` is ``None``. A session stores at most
    ``max_requests`` requests.
    """
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
    """Delete a session."""
    connection.execute(delete(mcp_sessions).where(mcp_sessions.c.id == session_id))
