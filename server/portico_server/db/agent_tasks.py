"""Tasks that other agents gave to one of ours: each is a response in the background, and what was said to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import orjson
from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Rows, chars_of, count_fitting
from portico_server.db.schema import agent_tasks, questions, responses

TaskState: TypeAlias = Literal["submitted", "working", "input_required", "completed", "failed", "canceled"]

ENDED_STATES: Final[Mapping[str, TaskState]] = {
    "completed": "completed",
    "incomplete": "completed",
    "failed": "failed",
    "cancelled": "canceled",
}
"""What a task is when its response has ended so."""

ANSWERABLE: Final = ("approval", "input")
"""Kinds of questions that whoever gave the task may answer."""


@dataclass(frozen=True, slots=True)
class AgentTaskRow:
    """One task. ``id`` is that of its response, ``app`` whose work it is, ``messages`` JSON text."""

    id: str
    owner: str
    app: str
    context_id: str
    run_id: str
    messages: str
    created_at: float


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks are listed. ``since``: changed then or later; ``after``: behind this moment and id."""

    context_id: str = ""
    state: TaskState | None = None
    since: float | None = None
    after: tuple[float, str] | None = None


_TASKS = Rows(agent_tasks, AgentTaskRow)

add, get = _TASKS.add, _TASKS.get

_changed = func.coalesce(responses.c.finished_at, agent_tasks.c.created_at)


def of_run(connection: Connection, run_id: str) -> AgentTaskRow | None:
    """The task that a run works on."""
    return _TASKS.first(connection, _TASKS.select.where(agent_tasks.c.run_id == run_id))


def add_message(connection: Connection, task_id: str, message: Mapping[str, Any], limit: int) -> bool:
    """Put a message behind those that it has; whether it may have another, of ``limit``."""
    row = get(connection, task_id)
    if row is None:
        return True
    messages = orjson.loads(row.messages)
    if len(messages) >= limit:
        return False
    text = orjson.dumps([*messages, dict(message)]).decode()
    connection.execute(update(agent_tasks).where(agent_tasks.c.id == task_id).values(messages=text))
    return True


def page(
    connection: Connection, owner: str, app: str, task_filter: TaskFilter, limit: int
) -> tuple[Sequence[tuple[AgentTaskRow, float]], int, bool]:
    """Tasks with the moments of their last change, the newest first, as many as a page has room for; how many there are
    on all pages, and whether others follow.
    """
    query = _TASKS.select.add_columns(_changed.label("changed_at")).join(
        responses, responses.c.id == agent_tasks.c.id
    )
    query = query.where(agent_tasks.c.owner == owner, agent_tasks.c.app == app)
    if task_filter.context_id:
        query = query.where(agent_tasks.c.context_id == task_filter.context_id)
    if task_filter.state is not None:
        query = query.where(_is_in(task_filter.state))
    if task_filter.since is not None:
        query = query.where(_changed >= task_filter.since)
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    if task_filter.after is not None:
        moment, last = task_filter.after
        query = query.where(or_(_changed < moment, and_(_changed == moment, agent_tasks.c.id < last)))
    query = query.order_by(_changed.desc(), agent_tasks.c.id.desc())
    chars = chars_of(agent_tasks.c.messages, responses.c.document)
    count, has_more = count_fitting(connection, query, limit, chars)
    rows = []
    for row in connection.execute(query.limit(count)):
        values = dict(row._mapping)
        moment = values.pop("changed_at")
        rows.append((AgentTaskRow(**values), float(moment)))
    return rows, total, has_more


def _is_in(state: TaskState) -> ColumnElement[bool]:
    asks = exists().where(
        questions.c.run_id == agent_tasks.c.run_id,
        questions.c.status == "pending",
        questions.c.kind.in_(ANSWERABLE),
    )
    match state:
        case "submitted":
            return responses.c.status == "queued"
        case "working":
            return (responses.c.status == "in_progress") & ~asks
        case "input_required":
            return responses.c.finished_at.is_(None) & asks
    return responses.c.status.in_([name for name, end_state in ENDED_STATES.items() if end_state == state])


def timestamp(seconds: float) -> str:
    """A point in time, in seconds since 1970, as the protocol writes it."""
    iso_time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return iso_time.replace("+00:00", "Z")


def update_document(task_id: str, context_id: str, state: TaskState, moment: float) -> dict[str, Any]:
    """The event of the protocol that says what has become of a task."""
    status = {"state": f"TASK_STATE_{state.upper()}", "timestamp": timestamp(moment)}
    return {"statusUpdate": {"taskId": task_id, "contextId": context_id, "status": status}}
