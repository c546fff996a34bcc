"""Schedules, and the journal of the times at which they were due.

`advance` takes a time for one daemon, in the transaction that writes the runs of it: both are there, or neither is.
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
from portico_server.db.rows import now as clock
from portico_server.db.schema import runs, schedule_times, schedules

Cause: TypeAlias = Literal["time", "missed", "hand"]
"""Why there is a run: it was time, it had been time while no daemon ran, or somebody asked for one."""

RUN_KIND: Final = "schedule"
"""The kind of the runs."""

TOPIC: Final = "schedules"
"""Under which the database says that there is something else to wait for."""

MAX_KEPT_TIMES: Final = 100
"""Times of one schedule that stay in its journal."""

MAX_DUE_ROWS: Final = 50
"""Schedules that are taken at once."""

MAX_REASON_CHARS: Final = 500
"""Characters of why a schedule is paused."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One schedule. ``owner`` is ``None`` for a shared one; it runs in the name of ``key``.

    ``paused`` says why it does not run; ``failures`` are those in a row so far. Intervals are counted from ``anchor``;
    ``next_at`` is when it is due next.
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
    """A time at which a schedule was due: its run with what became of it, or why it was ``skipped``.

    ``status`` is ``None`` where there is no run, or where it is forgotten by now.
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


def named(connection: Connection, name: str, owner: str | None) -> ScheduleRow | None:
    """The one that this owner has under a name; ``None``: the shared one."""
    return _SCHEDULES.first(connection, _SCHEDULES.select.where(schedules.c.claim == claim_of(owner, name)))


def visible(connection: Connection, owner: str | None, *, include_all: bool = False) -> list[ScheduleRow]:
    """Those of an owner and the shared ones, or all there are, by name."""
    query = _SCHEDULES.select.order_by(schedules.c.name, schedules.c.id)
    if not include_all:
        query = query.where(or_(schedules.c.owner.is_(None), schedules.c.owner == owner))
    return _SCHEDULES.every(connection, query)


def add(connection: Connection, row: ScheduleRow, limit: int) -> bool:
    """Write a new one; whether its key may have another, of ``limit``. Raises `Conflict` for a name that is taken."""
    _require_free(connection, row.name, row.owner)
    if not may_have_another(connection, limit, schedules.c.key == row.key):
        return False
    _SCHEDULES.add(connection, row, claim=claim_of(row.owner, row.name))
    after_commit(connection, TOPIC)
    return True


def _require_free(connection: Connection, name: str, owner: str | None) -> None:
    lock(connection, name)
    if named(connection, name, owner) is None and (owner is None or named(connection, name, None) is None):
        return
    raise Conflict(
        f"There is a schedule '{name}' already. Choose another name, or change that one.",
        code="name_taken",
        param="name",
    )


def change(connection: Connection, row: ScheduleRow, values: Mapping[str, Any]) -> None:
    """Give it other ``values``. Raises `Conflict` for a name that is taken."""
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
    """Forget it with its journal; runs under way continue."""
    connection.execute(delete(schedules).where(schedules.c.id == schedule_id))


def pause(connection: Connection, schedule_id: str, reason: str, *, is_announced: bool = True) -> None:
    """Let it run no more, and have webhooks hear of it; one that is paused keeps its reason."""
    pause_reason = connection.execute(
        update(schedules)
        .where(schedules.c.id == schedule_id, schedules.c.paused.is_(None))
        .values(paused=reason[:MAX_REASON_CHARS], next_at=None, updated_at=time.time())
        .returning(schedules.c.key)
    ).scalar()
    if is_announced:
        webhooks.announce(connection, pause_reason, "schedule.paused", schedule_id)


def due(connection: Connection) -> list[ScheduleRow]:
    """Those whose time has come, the one that waits longest first."""
    ready = schedules.c.next_at <= clock(connection)
    return _SCHEDULES.every(
        connection, _SCHEDULES.select.where(ready).order_by(schedules.c.next_at).limit(MAX_DUE_ROWS)
    )


def seconds_to_next(connection: Connection) -> float | None:
    """Seconds until one is due, 0 if one is; ``None`` if none will be."""
    next_at = connection.execute(select(func.min(schedules.c.next_at))).scalar()
    return None if next_at is None else max(0.0, float(next_at) - clock(connection))


def advance(connection: Connection, row: ScheduleRow, next_at: float | None) -> bool:
    """Take the time of ``row`` for whoever calls; whether nobody else has, or has changed the schedule."""
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
    """Runs of a schedule that have not ended, those that wait included."""
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
    """Write down what came of a time. The oldest beyond `MAX_KEPT_TIMES` are forgotten once their runs have ended."""
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
    """What came of the last times, the newest first."""
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
    """Count how a run ended, in the transaction that ends it: so many failures in a row pause its schedule."""
    of_run = select(schedule_times.c.schedule_id).where(schedule_times.c.run_id == run_id).scalar_subquery()
    condition = schedules.c.id == of_run
    if status == "completed":
        connection.execute(update(schedules).where(condition).values(failures=0))
    if status != "failed":
        return  # who cancels a run says nothing about the next one
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
