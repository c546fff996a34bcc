"""Fine-tuning jobs and their events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from sqlalchemy import Connection, func, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db import runs, webhooks
from portico_server.db.rows import RowPage, Rows, json_bytes
from portico_server.db.runs import NewRun
from portico_server.db.schema import tuning_events, tuning_jobs

EventKind: TypeAlias = Literal["message", "metrics", "checkpoint"]

JobStatus: TypeAlias = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class JobRow(Generic[S]):
    """A job. ``run_id`` is the durable run that does the work; ``spec`` is the request as JSON.

    ``state`` contains data that become known later: recipe, tokens, end, name of the trained model.
    """

    id: str
    owner: str | None
    run_id: str
    base: str
    spec: S
    state: Mapping[str, Any]
    status: JobStatus
    error: Mapping[str, Any] | None
    created_at: float
    finished_at: float | None


JobJson: TypeAlias = JobRow[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event without a number."""

    kind: EventKind
    message: str
    level: str = "info"
    step: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow(NewEvent):
    """An event of a job, numbered from 1."""

    job_id: str
    seq: int
    created_at: float


_JOBS: Rows[JobJson] = Rows(tuning_jobs, JobRow)
_EVENTS = Rows(tuning_events, EventRow)

get = _JOBS.get

_WORKING = tuning_jobs.c.finished_at.is_(None) & (tuning_jobs.c.status != "paused")


def create(connection: Connection, row: JobJson, run: NewRun, events: Sequence[NewEvent]) -> None:
    """Store a new job with its first events, and queue its run."""
    _JOBS.add(connection, row, bytes=json_bytes(row.spec))
    _append(connection, row.id, events)
    runs.ensure(connection, run)


def resume(connection: Connection, job_id: str, run_id: str, event: NewEvent) -> bool:
    """Queue a paused job again. Return false, without a change, if its run has not ended."""
    if not runs.requeue_ended(connection, run_id):
        return False
    return move(connection, job_id, "queued", since=("paused",), events=[event])


def page(
    connection: Connection,
    owner: str | None,
    *,
    after: JobJson | None = None,
    limit: int = 20,
    metadata: Mapping[str, str] | None = None,
) -> RowPage[JobJson]:
    """Return jobs, newest first: all, or only those of ``owner`` and shared ones; with ``metadata``, only jobs that
    have all of these entries.
    """
    query = _JOBS.select.order_by(tuning_jobs.c.id.desc())
    if owner is not None:
        query = query.where((tuning_jobs.c.owner == owner) | tuning_jobs.c.owner.is_(None))
    if after is not None:
        query = query.where(tuning_jobs.c.id < after.id)
    for name, value in (metadata or {}).items():
        query = query.where(tuning_jobs.c.spec["metadata"][name].as_string() == value)
    return _JOBS.page(connection, query, limit)


def unfinished(connection: Connection) -> set[str]:
    """Return the ids of jobs whose files on disk are still useful: jobs that have not ended, or that have failed."""
    query = select(tuning_jobs.c.id).where(
        tuning_jobs.c.finished_at.is_(None) | (tuning_jobs.c.status == "failed")
    )
    return set(connection.execute(query).scalars())


def working(connection: Connection) -> list[JobJson]:
    """Return the jobs that have not ended and are not paused."""
    return _JOBS.every(connection, _JOBS.select.where(_WORKING))


def working_of(connection: Connection, owner: str) -> list[str]:
    """Return the ids of a key's jobs that have not ended and are not paused."""
    query = select(tuning_jobs.c.id).where(_WORKING, tuning_jobs.c.owner == owner)
    return list(connection.execute(query).scalars())


def move(
    connection: Connection,
    job_id: str,
    status: str,
    *,
    since: Sequence[str],
    events: Sequence[NewEvent] = (),
    state: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    has_ended: bool = False,
) -> bool:
    """Change a job's status if its current status is in ``since``. Return whether it changed. ``state`` is merged into
    the job's state.
    """
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
            finished_at=time.time() if has_ended else None,
        )
    )
    _append(connection, job_id, events)
    if has_ended:
        webhooks.announce(connection, row.owner, f"fine_tuning.job.{status}", job_id)
    return True


def note(
    connection: Connection,
    job_id: str,
    events: Sequence[NewEvent] = (),
    state: Mapping[str, Any] | None = None,
) -> str:
    """Add events to a job and merge ``state`` into its state; return the job's status. Does nothing if the job no
    longer exists.
    """
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
            {**asdict(event), "job_id": job_id, "seq": number, "created_at": now}
            for number, event in enumerate(events, int(last or 0) + 1)
        ],
    )


def rewind(connection: Connection, job_id: str, step: int) -> None:
    """Delete the metrics and checkpoints that an interrupted attempt wrote after ``step``, because the training
    repeats these steps.
    """
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
    """Return events of some kinds with a number below ``before``, newest first."""
    query = _EVENTS.select.where(tuning_events.c.job_id == job_id, tuning_events.c.kind.in_(kinds))
    if before is not None:
        query = query.where(tuning_events.c.seq < before)
    return _EVENTS.page(connection, query.order_by(tuning_events.c.seq.desc()), limit)


def following(connection: Connection, job_id: str, after: int, limit: int) -> list[EventRow]:
    """Return events with a number above ``after``, in order."""
    query = _EVENTS.select.where(tuning_events.c.job_id == job_id, tuning_events.c.seq > after)
    return _EVENTS.every(connection, query.order_by(tuning_events.c.seq).limit(limit))
