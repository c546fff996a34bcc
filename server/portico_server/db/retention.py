"""What is forgotten with age: ended runs with all that hangs on them, answered questions, rows of usage.

Everything here takes a moment in seconds since 1970 and touches only what ended before it, at most ``limit`` rows
at a time, so that the one writer is never held for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, ScalarSelect, delete, func, or_, select

from portico_server.db.schema import batches, questions, runs, steps, usage, usage_days
from portico_server.db.usage import DAY_S

ENDED_STATUSES: Final = ("completed", "failed", "cancelled")
"""What a run never leaves again. All others are queued, at work or waiting, and are left alone at any age."""

Count: TypeAlias = Callable[[Connection, float], int]
Forget: TypeAlias = Callable[[Connection, float, int], int]


def remembered(before: float) -> ScalarSelect[str]:
    """The ids of the durable runs that stay when what ended before a moment goes."""
    stays = or_(runs.c.status.not_in(ENDED_STATUSES), runs.c.finished_at >= before)
    return select(runs.c.id).where(stays).scalar_subquery()


def _old_runs(before: float) -> ColumnElement[bool]:
    return runs.c.status.in_(ENDED_STATUSES) & (runs.c.finished_at < before)


def count_runs(connection: Connection, before: float) -> int:
    """How many runs ended before a moment."""
    return connection.execute(select(func.count()).select_from(runs).where(_old_runs(before))).scalar_one()


def forget_runs(connection: Connection, before: float, limit: int) -> int:
    """Remove runs with their events, the journals of their steps, and the batches that they were for; how many."""
    old = connection.execute(select(runs.c.id).where(_old_runs(before)).limit(limit)).scalars().all()
    if old:
        connection.execute(delete(steps).where(steps.c.run_id.in_(old)))
        condition = batches.c.run_id.in_(old) & batches.c.finished_at.is_not(None)
        connection.execute(delete(batches).where(condition))
        connection.execute(delete(runs).where(runs.c.id.in_(old)))  # the events go with their run
    return len(old)


def _old_questions(before: float) -> ColumnElement[bool]:
    # Those of a durable run stay as long as it does: taken up again, it must not ask twice.
    coalesce = func.coalesce(questions.c.answered_at, questions.c.expires_at, questions.c.created_at)
    return (coalesce < before) & questions.c.run_id.not_in(remembered(before))


def count_questions(connection: Connection, before: float) -> int:
    """How many questions of runs that no longer exist were closed before a moment."""
    result = connection.execute(select(func.count()).select_from(questions).where(_old_questions(before)))
    return result.scalar_one()


def forget_questions(connection: Connection, before: float, limit: int) -> int:
    """Remove such questions; how many."""
    old: Sequence[str] = (
        connection.execute(select(questions.c.id).where(_old_questions(before)).limit(limit)).scalars().all()
    )
    if old:
        connection.execute(delete(questions).where(questions.c.id.in_(old)))
    return len(old)


def count_usage(connection: Connection, before: float) -> int:
    """How many calls began before a moment."""
    result = connection.execute(select(func.count()).select_from(usage).where(usage.c.created_at < before))
    return result.scalar_one()


def forget_usage(connection: Connection, before: float, limit: int) -> int:
    """Remove the rows of such calls, oldest first, and the sums of days that are gone; how many calls."""
    # Ids grow as calls end: the oldest lie at the front, and no pass reads the whole table to find that out.
    oldest = select(usage.c.id, usage.c.created_at).order_by(usage.c.id).limit(limit)
    old = [row.id for row in connection.execute(oldest) if row.created_at < before]
    if old:
        connection.execute(delete(usage).where(usage.c.id.in_(old)))
    connection.execute(delete(usage_days).where(usage_days.c.day < int(before // DAY_S)))
    return len(old)
