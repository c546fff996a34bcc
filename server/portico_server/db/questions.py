"""Questions that runs ask, and their answers. An answered question is stored until its run is deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.core.question import QuestionKind, QuestionStatus
from portico_server.db import webhooks
from portico_server.db.agent_tasks import ANSWERABLE
from portico_server.db.rows import RowPage, chars_of, count_fitting
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import questions, runs


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question. Times are seconds since 1970; ``lease_owner`` is the worker that has claimed the question."""

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
        """The key that identifies the effect of the answer: ``RUN:PATH``, as for every effect of a flow. A question
        without a key has a new effect each time it is asked.
        """
        if self.key == self.id or self.key.startswith(f"{self.run_id}:"):
            return self.key
        return f"{self.run_id}:{self.key}"

    def asks_same_as(self, question_row: QuestionRow) -> bool:
        """Return whether two rows contain the same question, because an answer must not be used for a different
        question.
        """
        own_fields, other_fields = (
            (row.kind, row.name, dict(row.arguments), row.answer_schema) for row in (self, question_row)
        )
        return own_fields == other_fields


_COLUMNS = [questions.c[name] for name in QuestionRow.__dataclass_fields__]


def _row(row: Row[Any]) -> QuestionRow:
    # A value is stored inside a list, because SQLite would change the JSON of a bare number.
    values = dict(row._mapping)
    return QuestionRow(**{**values, "value": values["value"][0] if values["value"] else None})


def ask(connection: Connection, row: QuestionRow) -> QuestionRow:
    """Store a question, unless its run has already asked it with the same key; return the row that is now valid.

    An existing row is valid if it contains the same question and is answered or still waiting; otherwise ``row``
    replaces it. While a question waits, its durable run is ``waiting``, and the work done before counts as progress.
    Raises `Conflict` if the durable run has ended.
    """
    end_query = select(runs.c.finished_at).where(runs.c.id == row.run_id).with_for_update(key_share=True)
    if connection.execute(end_query).scalar() is not None:  # another daemon may have cancelled the run
        raise Conflict("The run that asks this question has ended.", code="question_cancelled")
    found_row = connection.execute(
        select(*_COLUMNS).where(questions.c.run_id == row.run_id, questions.c.key == row.key)
    ).first()
    question_row = _row(found_row) if found_row else None
    if (
        question_row is not None
        and question_row.status in ("answered", "pending")
        and question_row.asks_same_as(row)
    ):
        row = question_row
    else:
        if question_row is not None:
            status = "cancelled" if question_row.status == "pending" else question_row.status
            connection.execute(
                update(questions)
                .where(questions.c.id == question_row.id)
                .values(key=question_row.id, status=status)
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
    """Mark a durable run as no longer waiting."""
    connection.execute(
        update(runs).where(runs.c.id == run_id, runs.c.status == "waiting").values(status="running")
    )


def answer(
    connection: Connection, question_id: str, is_accepted: bool, value: Any, note: str, by: str
) -> QuestionRow | None:
    """Answer a waiting question; return the row with the answer, or ``None`` if the question no longer waits."""
    now = time.time()
    result = connection.execute(
        update(questions)
        .where(questions.c.id == question_id, questions.c.status == "pending", questions.c.expires_at > now)
        .values(
            status="answered", accepted=is_accepted, value=[value], note=note, answered_by=by, answered_at=now
        )
    )
    return get(connection, question_id) if result.rowcount else None


def end(connection: Connection, question_id: str, status: QuestionStatus) -> QuestionRow | None:
    """End a waiting question without an answer; return its current row."""
    connection.execute(
        update(questions)
        .where(questions.c.id == question_id, questions.c.status == "pending")
        .values(status=status)
    )
    return get(connection, question_id)


def end_of_run(connection: Connection, run_id: str) -> list[str]:
    """End the waiting questions of a run that has ended; return their ids."""
    condition = and_(questions.c.run_id == run_id, questions.c.status == "pending")
    question_ids = list(connection.execute(select(questions.c.id).where(condition)).scalars())
    if question_ids:
        connection.execute(update(questions).where(condition).values(status="cancelled"))
    return question_ids


def end_unnamed(connection: Connection, run_id: str) -> None:
    """End the questions without a key that a restarting run had asked, because the run will ask them again."""
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
    """End the questions of runs that ended with their daemon; return the number of questions. Call this only if no
    other daemon owns a run.
    """
    living = select(runs.c.id).where(runs.c.finished_at.is_(None))
    return connection.execute(
        update(questions)
        .where(questions.c.status == "pending", questions.c.run_id.not_in(living))
        .values(status="cancelled")
    ).rowcount


def get(connection: Connection, question_id: str) -> QuestionRow | None:
    """Return a question, or ``None``."""
    row = connection.execute(select(*_COLUMNS).where(questions.c.id == question_id)).first()
    return _row(row) if row else None


def arguments(connection: Connection, question_id: str) -> dict[str, Any] | None:
    """Return the arguments of a question, or ``None``."""
    found_arguments: dict[str, Any] | None = connection.execute(
        select(questions.c.arguments).where(questions.c.id == question_id)
    ).scalar()
    return found_arguments


def newest(
    connection: Connection,
    owner: str | None,
    *,
    status: QuestionStatus | None = None,
    run_id: str | None = None,
    limit: int = 100,
) -> RowPage[QuestionRow]:
    """Return questions, newest first: all, or only those of ``owner``. With the status ``pending``, return only
    questions that can still be answered.
    """
    query = select(*_COLUMNS).order_by(questions.c.created_at.desc(), questions.c.id.desc())
    if owner is not None:
        query = query.where(questions.c.owner == owner)
    if run_id is not None:
        query = query.where(questions.c.run_id == run_id)
    if status is not None:
        query = query.where(questions.c.status == status)
    if status == "pending":
        query = query.where(questions.c.expires_at > time.time())
    count, has_more = count_fitting(
        connection, query, limit, chars_of(questions.c.arguments, questions.c.value)
    )
    return RowPage(tuple(_row(row) for row in connection.execute(query.limit(count))), has_more)


def settled_ids(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return those of ``ids`` whose questions no longer wait."""
    query = select(questions.c.id).where(questions.c.id.in_(ids), questions.c.status != "pending")
    return list(connection.execute(query).scalars())


def claim(
    connection: Connection,
    worker: str,
    lease_seconds: float,
    *,
    names: Sequence[str],
    served_names: Sequence[str] = (),
    owner: str,
    run_id: str | None = None,
    limit: int = 1,
) -> list[QuestionRow]:
    """Claim the oldest function questions that no worker has claimed, or whose worker's lease has expired.

    Only questions for ``owner`` with a name in ``names`` can be claimed, and questions for any owner with a name in
    ``served_names``.
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
                questions.c.name.in_(served_names),
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
    """Renew a worker's leases on ``ids``; return those that the worker no longer owns."""
    if not ids:
        return []
    condition = and_(
        questions.c.id.in_(ids), questions.c.lease_owner == worker, questions.c.status == "pending"
    )
    kept_ids = set(connection.execute(select(questions.c.id).where(condition)).scalars())
    connection.execute(
        update(questions).where(condition).values(lease_expires=clock(connection) + lease_seconds)
    )
    return [question_id for question_id in ids if question_id not in kept_ids]


def release(connection: Connection, worker: str, keep: Sequence[str] = ()) -> None:
    """Release the unanswered questions that a worker has claimed, except those in ``keep``."""
    connection.execute(
        update(questions)
        .where(
            questions.c.lease_owner == worker,
            questions.c.status == "pending",
            questions.c.id.not_in(keep),
        )
        .values(lease_owner=None, lease_expires=None)
    )
