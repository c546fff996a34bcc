"""Questions that runs ask, and their answers. A row stays when it is answered, until its run is forgotten."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.question import QuestionKind, QuestionStatus
from portico_server.db import webhooks
from portico_server.db.agent_tasks import ANSWERABLE
from portico_server.db.rows import RowPage, chars_of, count_fitting
from portico_server.db.rows import now as clock
from portico_server.db.schema import questions, runs


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """One question. Times are seconds since 1970; ``lease_owner`` is the worker that has taken it."""

    id: str
    run_id: str
    key: str
    owner: str
    kind: QuestionKind
    name: str
    message: str
    created_at: float
    expires_at: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    answer_schema: Mapping[str, Any] | None = None
    status: QuestionStatus = "pending"
    accepted: bool | None = None
    value: Any = None
    note: str | None = None
    answered_by: str | None = None
    answered_at: float | None = None
    lease_owner: str | None = None
    lease_expires: float | None = None

    @property
    def effect(self) -> str:
        """What makes that which is done for it known as the same: ``RUN:PATH`` as for every effect of a flow. One
        without a key of its own is asked again each time.
        """
        if self.key == self.id or self.key.startswith(f"{self.run_id}:"):
            return self.key
        return f"{self.run_id}:{self.key}"

    def same(self, other: QuestionRow) -> bool:
        """Whether both ask the same: an answer to one must not count for something else."""
        mine, theirs = ((row.kind, row.name, dict(row.arguments), row.answer_schema) for row in (self, other))
        return mine == theirs


_COLUMNS = [questions.c[name] for name in QuestionRow.__dataclass_fields__]


def _row(found: Row[Any]) -> QuestionRow:
    # A value is kept as a list of one: SQLite would change the JSON of a bare number.
    values = dict(found._mapping)
    return QuestionRow(**{**values, "value": values["value"][0] if values["value"] else None})


def ask(connection: Connection, row: QuestionRow) -> QuestionRow:
    """Put a question, unless its run has put it before under this key: the row that stands.

    One that was answered, or still waits, is the one that stands; any other makes room for ``row``. While one waits,
    its durable run is ``waiting``, and what it began before counts as progress.
    """
    found = connection.execute(
        select(*_COLUMNS).where(questions.c.run_id == row.run_id, questions.c.key == row.key)
    ).first()
    known = _row(found) if found else None
    if known is not None and known.status in ("answered", "pending") and known.same(row):
        row = known
    else:
        if known is not None:
            status = "cancelled" if known.status == "pending" else known.status
            connection.execute(
                update(questions).where(questions.c.id == known.id).values(key=known.id, status=status)
            )
        values = {**asdict(row), "arguments": dict(row.arguments), "value": None}
        connection.execute(insert(questions).values(values))
        if row.kind in ANSWERABLE:
            webhooks.announce_question(connection, row.owner, row.run_id)
    if row.status == "pending":
        connection.execute(
            update(runs)
            .where(runs.c.id == row.run_id, runs.c.status == "running")
            .values(status="waiting", attempts=1)
        )
    return row


def resume_run(connection: Connection, run_id: str) -> None:
    """A durable run waits no longer."""
    connection.execute(
        update(runs).where(runs.c.id == run_id, runs.c.status == "waiting").values(status="running")
    )


def answer(
    connection: Connection, question_id: str, accepted: bool, value: Any, note: str, by: str
) -> QuestionRow | None:
    """Answer one that waits; the row with the answer, ``None`` if it does not wait any more."""
    now = time.time()
    changed = connection.execute(
        update(questions)
        .where(questions.c.id == question_id, questions.c.status == "pending", questions.c.expires_at > now)
        .values(
            status="answered", accepted=accepted, value=[value], note=note, answered_by=by, answered_at=now
        )
    )
    return get(connection, question_id) if changed.rowcount else None


def end(connection: Connection, question_id: str, status: QuestionStatus) -> QuestionRow | None:
    """Let one that waits end without an answer; the row as it then stands."""
    connection.execute(
        update(questions)
        .where(questions.c.id == question_id, questions.c.status == "pending")
        .values(status=status)
    )
    return get(connection, question_id)


def end_of_run(connection: Connection, run_id: str) -> list[str]:
    """The run has ended: what it still asks is asked no more. The ids of those questions."""
    waiting = and_(questions.c.run_id == run_id, questions.c.status == "pending")
    found = list(connection.execute(select(questions.c.id).where(waiting)).scalars())
    if found:
        connection.execute(update(questions).where(waiting).values(status="cancelled"))
    return found


def end_unnamed(connection: Connection, run_id: str) -> None:
    """A run begins again: what it asked without a key of its own it will ask again."""
    connection.execute(
        update(questions)
        .where(
            questions.c.run_id == run_id,
            questions.c.status == "pending",
            questions.c.key == questions.c.id,
        )
        .values(status="cancelled")
    )


def end_orphans(connection: Connection) -> int:
    """End the questions of runs that died with a daemon, when no other daemon can hold one. How many there were."""
    living = select(runs.c.id).where(runs.c.finished_at.is_(None))
    return connection.execute(
        update(questions)
        .where(questions.c.status == "pending", questions.c.run_id.not_in(living))
        .values(status="cancelled")
    ).rowcount


def get(connection: Connection, question_id: str) -> QuestionRow | None:
    """One question, or ``None``."""
    row = connection.execute(select(*_COLUMNS).where(questions.c.id == question_id)).first()
    return _row(row) if row else None


def arguments(connection: Connection, question_id: str) -> dict[str, Any] | None:
    """What one question is asked with, or ``None``."""
    found: dict[str, Any] | None = connection.execute(
        select(questions.c.arguments).where(questions.c.id == question_id)
    ).scalar()
    return found


def newest(
    connection: Connection,
    owner: str | None,
    *,
    status: QuestionStatus | None = None,
    run_id: str | None = None,
    limit: int = 100,
) -> RowPage[QuestionRow]:
    """Questions, newest first: all, or those of ``owner``. ``pending`` are those that can still be answered."""
    query = select(*_COLUMNS).order_by(questions.c.created_at.desc(), questions.c.id.desc())
    if owner is not None:
        query = query.where(questions.c.owner == owner)
    if run_id is not None:
        query = query.where(questions.c.run_id == run_id)
    if status is not None:
        query = query.where(questions.c.status == status)
    if status == "pending":
        query = query.where(questions.c.expires_at > time.time())
    count, more = count_fitting(connection, query, limit, chars_of(questions.c.arguments, questions.c.value))
    return RowPage(tuple(_row(row) for row in connection.execute(query.limit(count))), more)


def settled(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Which of ``ids`` wait no longer."""
    query = select(questions.c.id).where(questions.c.id.in_(ids), questions.c.status != "pending")
    return list(connection.execute(query).scalars())


def claim(
    connection: Connection,
    worker: str,
    lease_seconds: float,
    *,
    names: Sequence[str],
    served: Sequence[str] = (),
    owner: str,
    run_id: str | None = None,
    limit: int = 1,
) -> list[QuestionRow]:
    """Take the oldest function questions that nobody works on, or whose worker has gone silent.

    Those called one of ``names`` and asked for ``owner``, and those called one of ``served``, whoever asks.
    """
    now = clock(connection)
    rows = connection.execute(
        select(*_COLUMNS)
        .where(
            questions.c.kind == "function",
            questions.c.status == "pending",
            questions.c.expires_at > time.time(),
            or_(questions.c.lease_expires.is_(None), questions.c.lease_expires < now),
            or_(
                and_(questions.c.name.in_(names), questions.c.owner == owner),
                questions.c.name.in_(served),
            ),
            *([questions.c.run_id == run_id] if run_id is not None else []),
        )
        .order_by(questions.c.created_at, questions.c.id)
        .limit(limit)
    ).all()
    lease: dict[str, Any] = {"lease_owner": worker, "lease_expires": now + lease_seconds}
    if rows:
        ids = [row.id for row in rows]
        connection.execute(update(questions).where(questions.c.id.in_(ids)).values(lease))
    return [replace(_row(row), **lease) for row in rows]


def renew(connection: Connection, ids: Sequence[str], worker: str, lease_seconds: float) -> list[str]:
    """Keep a worker's leases; those of ``ids`` that are not that worker's any more."""
    if not ids:
        return []
    held = and_(questions.c.id.in_(ids), questions.c.lease_owner == worker, questions.c.status == "pending")
    kept = set(connection.execute(select(questions.c.id).where(held)).scalars())
    connection.execute(update(questions).where(held).values(lease_expires=clock(connection) + lease_seconds))
    return [each for each in ids if each not in kept]


def release(connection: Connection, worker: str, keep: Sequence[str] = ()) -> None:
    """What a worker has taken and not answered is anybody's, save those in ``keep``."""
    connection.execute(
        update(questions)
        .where(
            questions.c.lease_owner == worker,
            questions.c.status == "pending",
            questions.c.id.not_in(keep),
        )
        .values(lease_owner=None, lease_expires=None)
    )
