"""Durable runs and their events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, or_, select, update

from portico_server.db.schema import run_events, runs

RunStatus = Literal["queued", "running", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One durable run."""

    id: str
    kind: str
    name: str
    owner: str
    status: RunStatus
    payload: Mapping[str, Any]
    result: Any
    error: Mapping[str, Any] | None
    attempts: int
    created_at: float
    started_at: float | None
    finished_at: float | None


_COLUMNS = [runs.c[name] for name in RunRow.__dataclass_fields__]


def ensure(
    connection: Connection, run_id: str, kind: str, name: str, owner: str, payload: Mapping[str, Any]
) -> str:
    """Queue a run, unless one of this kind and name waits already; the id of the one that waits."""
    waiting = connection.execute(
        select(runs.c.id).where(runs.c.kind == kind, runs.c.name == name, runs.c.status == "queued")
    ).scalar()
    if waiting is not None:
        return str(waiting)
    connection.execute(
        insert(runs).values(
            id=run_id,
            kind=kind,
            name=name,
            owner=owner,
            status="queued",
            payload=dict(payload),
            created_at=time.time(),
        )
    )
    return run_id


def claim(
    connection: Connection, kinds: Sequence[str], lease_owner: str, lease_seconds: float
) -> RunRow | None:
    """Take the oldest run that waits, or whose lease has run out, of one of ``kinds``.

    A run whose (kind, name) is being worked on under a living lease is left alone: one worker per name.
    """
    now = time.time()
    living = (
        select(runs.c.kind + "\n" + runs.c.name)
        .where(runs.c.status == "running", runs.c.lease_expires >= now)
        .scalar_subquery()
    )
    row = connection.execute(
        select(*_COLUMNS)
        .where(
            runs.c.kind.in_(kinds),
            or_(
                runs.c.status == "queued",
                (runs.c.status == "running") & (runs.c.lease_expires < now),
            ),
            (runs.c.kind + "\n" + runs.c.name).not_in(living),
        )
        .order_by(runs.c.created_at)
        .limit(1)
    ).first()
    if row is None:
        return None
    connection.execute(
        update(runs)
        .where(runs.c.id == row.id)
        .values(
            status="running",
            started_at=now,
            attempts=row.attempts + 1,
            lease_owner=lease_owner,
            lease_expires=now + lease_seconds,
        )
    )
    return RunRow(**{**row._mapping, "status": "running", "started_at": now, "attempts": row.attempts + 1})


def renew(connection: Connection, run_ids: Sequence[str], lease_owner: str, lease_seconds: float) -> None:
    """Keep the leases on ``run_ids``."""
    connection.execute(
        update(runs)
        .where(runs.c.id.in_(run_ids), runs.c.lease_owner == lease_owner)
        .values(lease_expires=time.time() + lease_seconds)
    )


def release_all(connection: Connection) -> int:
    """Give up every lease, when no other daemon can hold one (one daemon per SQLite file). How many there were."""
    return connection.execute(
        update(runs).where(runs.c.status == "running").values(status="queued", lease_owner=None)
    ).rowcount


def finish(
    connection: Connection,
    run_id: str,
    status: RunStatus,
    result: Any = None,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Record how a run ended."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            status=status,
            result=result,
            error=dict(error) if error else None,
            finished_at=time.time(),
            lease_owner=None,
            lease_expires=None,
        )
    )


def cancel_queued(connection: Connection, run_id: str, error: Mapping[str, Any]) -> bool:
    """End a run that has not begun; whether it was still waiting."""
    changed = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.status == "queued")
        .values(status="cancelled", error=dict(error), finished_at=time.time())
    )
    return changed.rowcount > 0


def requeue(connection: Connection, run_id: str) -> None:
    """Put an interrupted run back in the queue."""
    connection.execute(
        update(runs).where(runs.c.id == run_id).values(status="queued", lease_owner=None, lease_expires=None)
    )


def append_events(
    connection: Connection, run_id: str, events: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Journal numbered events."""
    now = time.time()
    connection.execute(
        insert(run_events),
        [{"run_id": run_id, "seq": seq, "created_at": now, "event": dict(event)} for seq, event in events],
    )


def events(connection: Connection, run_id: str, after: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """Journalled events with a number above ``after``, in order."""
    rows = connection.execute(
        select(run_events.c.seq, run_events.c.event)
        .where(run_events.c.run_id == run_id, run_events.c.seq > after)
        .order_by(run_events.c.seq)
        .limit(limit)
    )
    return [(row.seq, row.event) for row in rows]


def last_event(connection: Connection, run_id: str) -> int:
    """The number of the last journalled event, 0 if there is none."""
    found = connection.execute(
        select(run_events.c.seq)
        .where(run_events.c.run_id == run_id)
        .order_by(run_events.c.seq.desc())
        .limit(1)
    ).scalar()
    return int(found or 0)


def get(connection: Connection, run_id: str) -> RunRow | None:
    """One run, or ``None``."""
    row = connection.execute(select(*_COLUMNS).where(runs.c.id == run_id)).first()
    return RunRow(**row._mapping) if row else None


def newest(connection: Connection, limit: int, owner: str | None = None) -> list[RunRow]:
    """The newest runs first; of one owner if given."""
    query = select(*_COLUMNS).order_by(runs.c.created_at.desc()).limit(limit)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    return [RunRow(**row._mapping) for row in connection.execute(query)]
