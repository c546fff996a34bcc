"""Schedules, and the journal of their due times.

`advance` claims a due time for one daemon in the same transaction that writes the runs, so that either both or neither
are stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, delete, func, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db import webhooks
from portico_server.db.database import after_commit
from portico_server.db.names import claim_of, lock
from portico_server.db.rows import Rows, may_have_another
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import runs, schedule_times, schedules

Cause: TypeAlias = Literal["time", "missed", "hand"]
"""The cause of a run: its time arrived (``time``), its time passed while no daemon was running (``missed``), or a user
requested the run (``hand``).
"""

RUN_KIND: Final = "schedule"
"""The run kind of scheduled runs."""

TOPIC: Final = "schedules"
"""Topic under which the database announces changes of the schedules."""

MAX_KEPT_TIMES: Final = 100
"""Maximum number of due times kept in a schedule's journal."""

MAX_DUE_ROWS: Final = 50
"""Maximum number of due schedules returned at a time."""

MAX_REASON_CHARS: Final = 500
"""Maximum length of the reason why a schedule is paused, in characters."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule. ``owner`` is ``None`` for a shared schedule; runs use the permissions of ``key``.

    ``paused`` is the reason why the schedule is paused; ``failures`` is the number of consecutive failures. Intervals
    are counted from ``anchor``; ``next_at`` is the next due time.
    """

    id: str
    name: str
    owner: str | None
    key: str
    kind: Literal["app", "store"]
    target: str
    input: Any
    cron: str | None
    every: str | None
    timezone: str
    missed: Literal["skip", "once", "all"]
    overlap: Literal["skip", "queue", "allow"]
    pause_after: int
    paused: str | None
    failures: int
    anchor: float
    next_at: float | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class ScheduleTime:
    """A due time of a schedule: its run and the run's outcome, or the reason why the due time was ``skipped``.

    ``status`` is ``None`` if the due time has no run, or if the run has been deleted.
    """

    id: int
    schedule_id: str
    due_at: float
    cause: Cause
    run_id: str | None
    skipped: str | None
    created_at: float
    status: str | None = None
    error: Mapping[str, Any] | None = None


_UNDER_WAY: Final = ("queued", "running", "waiting")

_SCHEDULES = Rows(schedules, ScheduleRow)

get = _SCHEDULES.get


def by_name(connection: Connection, name: str, owner: str | None) -> ScheduleRow | None:
    """Return the schedule of a name that belongs to exactly this owner; ``None`` as the owner means shared
    schedules.
    """
    return _SCHEDULES.first(connection, _SCHEDULES.select.where(schedules.c.claim == claim_of(owner, name)))


def visible(connection: Connection, owner: str | None, *, include_all: bool = False) -> list[ScheduleRow]:
    """Return the schedules of an owner and the shared schedules, or with ``include_all`` all schedules, sorted by
    name.
    """
    query = _SCHEDULES.select.order_by(schedules.c.name, schedules.c.id)
    if not include_all:
        query = query.where(or_(schedules.c.owner.is_(None), schedules.c.owner == owner))
    return _SCHEDULES.every(connection, query)


def add(connection: Connection, row: ScheduleRow, limit: int) -> bool:
    """Store a new schedule, unless its key already has ``limit`` schedules; return whether it was stored. Raises
    `Conflict` if the name is already in use.
    """
    _require_free(connection, row.name, row.owner)
    if not may_have_another(connection, limit, schedules.c.key == row.key):
        return False
    _SCHEDULES.add(connection, row, claim=claim_of(row.owner, row.name))
    after_commit(connection, TOPIC)
    return True


def _require_free(connection: Connection, name: str, owner: str | None) -> None:
    lock(connection, name)
    if by_name(connection, name, owner) is None and (
        owner is None or by_name(connection, name, None) is None
    ):
        return
    raise Conflict(
        f"The schedule '{name}' already exists. Choose another name, or change that schedule.",
        code="name_taken",
        param="name",
    )


def change(connection: Connection, row: ScheduleRow, values: Mapping[str, Any]) -> None:
    """Change ``values`` of a schedule. Raises `Conflict` if a new name is already in use."""
    values = dict(values)
    name = values.get("name", row.name)
    if name != row.name:
        _require_free(connection, name, row.owner)
        values["claim"] = claim_of(row.owner, name)
    connection.execute(
        update(schedules).where(schedules.c.id == row.id).values(**values, updated_at=time.time())
    )
    after_commit(connection, TOPIC)


def remove(connection: Connection, schedule_id: str) -> None:
    """Delete a schedule with its journal; active runs continue."""
    connection.execute(delete(schedules).where(schedules.c.id == schedule_id))


def pause(connection: Connection, schedule_id: str, reason: str, *, is_announced: bool = True) -> None:
    """Pause a schedule, and notify webhooks. If it is already paused, the earlier reason is kept."""
    pause_reason = connection.execute(
        update(schedules)
        .where(schedules.c.id == schedule_id, schedules.c.paused.is_(None))
        .values(paused=reason[:MAX_REASON_CHARS], next_at=None, updated_at=time.time())
        .returning(schedules.c.key)
    ).scalar()
    if is_announced:
        webhooks.announce(connection, pause_reason, "schedule.paused", schedule_id)


def due(connection: Connection) -> list[ScheduleRow]:
    """Return the due schedules, longest overdue first."""
    ready = schedules.c.next_at <= clock(connection)
    return _SCHEDULES.every(
        connection, _SCHEDULES.select.where(ready).order_by(schedules.c.next_at).limit(MAX_DUE_ROWS)
    )


def seconds_to_next(connection: Connection) -> float | None:
    """Return the seconds until the next schedule is due, 0 if one is due now; ``None`` if no schedule will become
    due.
    """
    next_at = connection.execute(select(func.min(schedules.c.next_at))).scalar()
    return None if next_at is None else max(0.0, float(next_at) - clock(connection))


def advance(connection: Connection, row: ScheduleRow, next_at: float | None) -> bool:
    """Claim the due time of ``row`` and set the next. Return false if another daemon has claimed it, or the schedule
    has changed.
    """
    result = connection.execute(
        update(schedules)
        .where(
            schedules.c.id == row.id,
            schedules.c.next_at == row.next_at,
            schedules.c.updated_at == row.updated_at,
        )
        .values(next_at=next_at)
    )
    return result.rowcount > 0


def count_under_way(connection: Connection, schedule_id: str) -> int:
    """Return the number of a schedule's runs that have not ended, including waiting runs."""
    connection.execute(select(schedules.c.id).where(schedules.c.id == schedule_id).with_for_update())
    condition = (schedule_times.c.schedule_id == schedule_id) & runs.c.status.in_(_UNDER_WAY)
    join = schedule_times.join(runs, runs.c.id == schedule_times.c.run_id)
    return connection.execute(select(func.count()).select_from(join).where(condition)).scalar_one()


def note(
    connection: Connection,
    schedule_id: str,
    due_at: float,
    cause: Cause,
    *,
    run_id: str | None = None,
    skip_reason: str | None = None,
) -> None:
    """Record the outcome of a due time. Records above `MAX_KEPT_TIMES` are deleted, oldest first, after their runs
    have ended.
    """
    values = {"due_at": due_at, "cause": cause, "run_id": run_id, "skipped": skip_reason}
    connection.execute(
        schedule_times.insert().values(schedule_id=schedule_id, created_at=time.time(), **values)
    )
    condition = schedule_times.c.schedule_id == schedule_id
    newest = select(schedule_times.c.id).where(condition).order_by(schedule_times.c.id.desc())
    last = connection.execute(newest.offset(MAX_KEPT_TIMES).limit(1)).scalar()
    if last is not None:
        living = select(runs.c.id).where(runs.c.id == schedule_times.c.run_id, runs.c.status.in_(_UNDER_WAY))
        old = condition & (schedule_times.c.id <= last) & ~living.exists()
        connection.execute(delete(schedule_times).where(old))


def times(connection: Connection, schedule_id: str, limit: int) -> list[ScheduleTime]:
    """Return the outcomes of the last due times, newest first."""
    query = (
        select(schedule_times, runs.c.status, runs.c.error)
        .select_from(schedule_times.outerjoin(runs, runs.c.id == schedule_times.c.run_id))
        .where(schedule_times.c.schedule_id == schedule_id)
        .order_by(schedule_times.c.id.desc())
        .limit(limit)
    )
    return [ScheduleTime(**row._mapping) for row in connection.execute(query)]


def count_end(
    connection: Connection, run_id: str, status: str, error: Mapping[str, Any] | None = None
) -> None:
    """Count the result of a run in the transaction that ends the run; after a number of consecutive failures, pause
    the schedule.
    """
    of_run = select(schedule_times.c.schedule_id).where(schedule_times.c.run_id == run_id).scalar_subquery()
    condition = schedules.c.id == of_run
    if status == "completed":
        connection.execute(update(schedules).where(condition).values(failures=0))
    if status != "failed":
        return  # a cancellation says nothing about whether the next run will fail
    row = connection.execute(
        update(schedules)
        .where(condition)
        .values(failures=schedules.c.failures + 1)
        .returning(schedules.c.id, schedules.c.failures, schedules.c.pause_after)
    ).first()
    if row is not None and 0 < row.pause_after <= row.failures:
        count = "The last run" if row.failures == 1 else f"The last {row.failures} runs"
        pause(
            connection, row.id, f"{count} failed: {(error or {}).get('message', 'the reason is not known')}"
        )
