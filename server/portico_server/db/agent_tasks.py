"""Tasks that other agents gave to apps or models: each is a background response, stored with the messages of the
task.
"""

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
"""Maps the final status of a response to the state of its task."""

ANSWERABLE: Final = ("approval", "input")
"""Kinds of questions that the agent that sent the task may answer."""


@dataclass(frozen=True, slots=True)
class AgentTaskRow:
    """A task. ``id`` is the id of the task's response, ``app`` is the app that works on the task, and ``messages`` is
    JSON text.
    """

    id: str
    owner: str
    app: str
    context_id: str
    run_id: str
    messages: str
    created_at: float


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """A filter for tasks. ``since`` selects tasks changed at that time or later; ``after`` is the (time, id) of the
    last task on the previous page.
    """

    context_id: str = ""
    state: TaskState | None = None
    since: float | None = None
    after: tuple[float, str] | None = None


_TASKS = Rows(agent_tasks, AgentTaskRow)

add, get = _TASKS.add, _TASKS.get

_changed = func.coalesce(responses.c.finished_at, agent_tasks.c.created_at)


def of_run(connection: Connection, run_id: str) -> AgentTaskRow | None:
    """Return the task that a run works on."""
    return _TASKS.first(connection, _TASKS.select.where(agent_tasks.c.run_id == run_id))


def add_message(connection: Connection, task_id: str, message: Mapping[str, Any], limit: int) -> bool:
    """Append a message to a task, unless the task already has ``limit`` messages. Return whether it was appended."""
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
    """Return a page of tasks with the times of their last changes, most recently changed first; the number of tasks on
    all pages; and whether more tasks follow.
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
    """Return a time, given in seconds since 1970, in the A2A protocol's format."""
    iso_time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return iso_time.replace("+00:00", "Z")


def update_document(task_id: str, context_id: str, state: TaskState, moment: float) -> dict[str, Any]:
    """Return the A2A event that reports a change of a task's state."""
    status = {"state": f"TASK_STATE_{state.upper()}", "timestamp": timestamp(moment)}
    return {"statusUpdate": {"taskId": task_id, "contextId": context_id, "status": status}}
