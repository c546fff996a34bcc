"""Results of the test that decides whether a model writes answers in its own words."""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, insert, select

from portico_server.core.dataclass import dataclass
from portico_server.db.schema import answer_tests


@dataclass(frozen=True, slots=True)
class AnswerTestRow:
    """A test result: ``correct`` of ``total`` questions; ``model`` is the name that the model had during the test."""

    identity: str
    model: str
    correct: int
    total: int
    tested_at: float


def answer_test(connection: Connection, identity: str) -> AnswerTestRow | None:
    """Return the test result for a model, given the model's identity."""
    row = connection.execute(select(answer_tests).where(answer_tests.c.identity == identity)).one_or_none()
    return None if row is None else AnswerTestRow(**row._mapping)


def put_answer_test(connection: Connection, identity: str, model: str, correct: int, total: int) -> None:
    """Store a result, replacing an earlier one."""
    connection.execute(delete(answer_tests).where(answer_tests.c.identity == identity))
    connection.execute(
        insert(answer_tests).values(
            identity=identity, model=model, correct=correct, total=total, tested_at=time.time()
        )
    )
