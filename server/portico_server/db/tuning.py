"""Fine-tuning jobs and what happened to them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, func, insert, select, update

from portico_server.db import runs
from portico_server.db.files import RowPage
from portico_server.db.schema import tuning_events, tuning_jobs

EventKind: TypeAlias = Literal["message", "metrics", "checkpoint"]


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job. ``run_id`` is the durable run that does the work."""

    id: str
    owner: str | None
    run_id: str
    base: str
    spec: Mapping[str, Any]
    state: Mapping[str, Any]
    status: str
    error: Mapping[str, Any] | None
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of a job, numbered from 1."""

    job_id: str
    seq: int
    kind: EventKind
    level: str
    message: str
    step: int | None
    data: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has no number yet."""

    kind: EventKind
    message: str
    level: str = "info"
    step: int | None = None
    data: Mapping[str, Any] | None = None


_COLUMNS = [tuning_jobs.c[name] for name in JobRow.__dataclass_fields__]
_EVENT_COLUMNS = [tuning_events.c[name] for name in EventRow.__dataclass_fields__]


def create(connection: Connection, row: JobRow, kind: str, events: Sequence[NewEvent]) -> None:
    """Write a new job with its first events, and queue its run, which is of ``kind``."""
    values = {name: getattr(row, name) for name in JobRow.__dataclass_fields__}
    connection.execute(insert(tuning_jobs).values(values))
    _append(connection, row.id, events)
    runs.ensure(connection, row.run_id, kind, row.id, row.owner or "", {"job": row.id})


def resume(connection: Connection, job_id: str, run_id: str, event: NewEvent) -> bool:
    """Queue a paused job once more; whether its run had ended, so that it could be."""
    if not runs.requeue_ended(connection, run_id):
        return False
    return move(connection, job_id, "queued", since=("paused",), events=[event])


def get(connection: Connection, job_id: str) -> JobRow | None:
    """The job of that id."""
    row = connection.execute(select(*_COLUMNS).where(tuning_jobs.c.id == job_id)).first()
    return JobRow(**row._mapping) if row else None


def page(
    connection: Connection,
    owner: str | None,
    *,
    after: JobRow | None = None,
    limit: int = 20,
    metadata: Mapping[str, str] | None = None,
) -> RowPage[JobRow]:
    """The newest jobs first: all, or those of ``owner`` and shared ones; with all of ``metadata`` if it is given."""
    query = select(*_COLUMNS).order_by(tuning_jobs.c.id.desc())
    if owner is not None:
        query = query.where((tuning_jobs.c.owner == owner) | tuning_jobs.c.owner.is_(None))
    if after is not None:
        query = query.where(tuning_jobs.c.id < after.id)
    for name, value in (metadata or {}).items():
        query = query.where(tuning_jobs.c.spec["metadata"][name].as_string() == value)
    rows = [JobRow(**row._mapping) for row in connection.execute(query.limit(limit + 1))]
    return RowPage(tuple(rows[:limit]), len(rows) > limit)


def unfinished(connection: Connection) -> set[str]:
    """The ids of those that have not ended, or ended in an error: their files on the disk are worth something."""
    query = select(tuning_jobs.c.id).where(
        tuning_jobs.c.finished_at.is_(None) | (tuning_jobs.c.status == "failed")
    )
    return set(connection.execute(query).scalars())


def move(
    connection: Connection,
    job_id: str,
    status: str,
    *,
    since: Sequence[str],
    events: Sequence[NewEvent] = (),
    state: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    ended: bool = False,
) -> bool:
    """Give a job another status, if it has one of ``since``; whether it had. ``state`` is added to what is known."""
    row = get(connection, job_id)
    if row is None or row.status not in since:
        return False
    connection.execute(
        update(tuning_jobs)
        .where(tuning_jobs.c.id == job_id)
        .values(
            status=status,
            state={**row.state, **(state or {})},
            error=dict(error) if error else None,
            finished_at=time.time() if ended else None,
        )
    )
    _append(connection, job_id, events)
    return True


def note(
    connection: Connection,
    job_id: str,
    events: Sequence[NewEvent] = (),
    state: Mapping[str, Any] | None = None,
) -> str:
    """Add events, and to what is known of a job; the status that it has. Nothing is added to one that is gone."""
    row = get(connection, job_id)
    if row is None:
        return ""
    if state:
        connection.execute(
            update(tuning_jobs).where(tuning_jobs.c.id == job_id).values(state={**row.state, **state})
        )
    _append(connection, job_id, events)
    return row.status


def _append(connection: Connection, job_id: str, events: Sequence[NewEvent]) -> None:
    if not events:
        return
    last = connection.execute(
        select(func.max(tuning_events.c.seq)).where(tuning_events.c.job_id == job_id)
    ).scalar()
    now = time.time()
    connection.execute(
        insert(tuning_events),
        [
            {
                "job_id": job_id,
                "seq": number,
                "kind": event.kind,
                "level": event.level,
                "message": event.message,
                "step": event.step,
                "data": dict(event.data or {}),
                "created_at": now,
            }
            for number, event in enumerate(events, int(last or 0) + 1)
        ],
    )


def rewind(connection: Connection, job_id: str, step: int) -> None:
    """Forget the metrics and checkpoints behind ``step``, which an attempt that was cut off wrote; it is done again."""
    connection.execute(
        tuning_events.delete().where(
            tuning_events.c.job_id == job_id,
            tuning_events.c.kind.in_(("metrics", "checkpoint")),
            tuning_events.c.step > step,
        )
    )


def newest(
    connection: Connection, job_id: str, kinds: Sequence[str], *, before: int | None = None, limit: int = 20
) -> RowPage[EventRow]:
    """Events of some kinds, the newest first, those before the number ``before``."""
    query = select(*_EVENT_COLUMNS).where(tuning_events.c.job_id == job_id, tuning_events.c.kind.in_(kinds))
    if before is not None:
        query = query.where(tuning_events.c.seq < before)
    rows = connection.execute(query.order_by(tuning_events.c.seq.desc()).limit(limit + 1))
    found = [EventRow(**row._mapping) for row in rows]
    return RowPage(tuple(found[:limit]), len(found) > limit)


def following(connection: Connection, job_id: str, after: int, limit: int) -> list[EventRow]:
    """Events with a number above ``after``, in order."""
    rows = connection.execute(
        select(*_EVENT_COLUMNS)
        .where(tuning_events.c.job_id == job_id, tuning_events.c.seq > after)
        .order_by(tuning_events.c.seq)
        .limit(limit)
    )
    return [EventRow(**row._mapping) for row in rows]
