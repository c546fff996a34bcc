"""Rows of the questions that guard stores."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from portico_server.core.dataclass import dataclass
from portico_server.db.enforcement import require_enforced
from portico_server.db.rows import Rows
from portico_server.db.schema import guard_questions, stores


@dataclass(frozen=True, slots=True)
class GuardQuestionRow:
    """A question, and its answer: text that ``passage`` quotes from ``file``, any passage of ``file``, or ``facts``.

    ``author`` is the key that wrote it. ``passes`` and ``hit_files`` are the last judgement: whether the answer was
    among the hits, and the ids of the files with the hits.
    """

    id: str
    store_id: str
    author: str
    question: str
    file: str
    passage: str
    facts: Sequence[str]
    created_at: float
    passes: bool = False
    hit_files: Sequence[str] = ()


_QUESTIONS = Rows(guard_questions, GuardQuestionRow)


def add(connection: Connection, rows: Sequence[GuardQuestionRow], limit: int) -> bool:
    """Add questions to a store, unless it would then have more than ``limit``. Return whether they were added.

    Raise `Conflict` if the store holds changes, and an older daemon would serve them.
    """
    rule = select(stores.c.guard).where(stores.c.id.in_({row.store_id for row in rows}))
    if connection.execute(rule).scalar() == "hold":
        require_enforced(connection, "guard")
    if rows and len(of_store(connection, rows[0].store_id)) + len(rows) > limit:
        return False
    _QUESTIONS.add(connection, *rows)
    return True


def of_store(connection: Connection, store_id: str) -> list[GuardQuestionRow]:
    """Return the questions of a store, oldest first."""
    query = _QUESTIONS.select.where(guard_questions.c.store_id == store_id)
    return _QUESTIONS.every(connection, query.order_by(guard_questions.c.created_at, guard_questions.c.id))


def remove(connection: Connection, store_id: str, question_id: str) -> bool:
    """Remove a question. Return whether the store had it."""
    condition = (guard_questions.c.store_id == store_id) & (guard_questions.c.id == question_id)
    return connection.execute(delete(guard_questions).where(condition)).rowcount > 0
