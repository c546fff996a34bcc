"""Deletion of old data: ended runs with their dependent rows, answered questions, and usage rows.

Every function takes a time in seconds since 1970, affects only rows that ended before that time, and handles at most
``limit`` rows per call, so that the single writer is never blocked for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, ScalarSelect, delete, func, or_, select

from portico_server.db.schema import batches, questions, runs, steps, usage, usage_days
from portico_server.db.usage import DAY_S

ENDED_STATUSES: Final = ("completed", "failed", "cancelled")
"""Final statuses of a run. Runs with another status are queued, running or waiting, and are never deleted by age."""

Count: TypeAlias = Callable[[Connection, float], int]
Forget: TypeAlias = Callable[[Connection, float, int], int]


def kept_run_ids(before: float) -> ScalarSelect[str]:
    """Return the ids of the durable runs that remain after deleting the runs that ended before a time."""
    stays = or_(runs.c.status.not_in(ENDED_STATUSES), runs.c.finished_at >= before)
    return select(runs.c.id).where(stays).scalar_subquery()


def _old_runs(before: float) -> ColumnElement[bool]:
    return runs.c.status.in_(ENDED_STATUSES) & (runs.c.finished_at < before)


def count_runs(connection: Connection, before: float) -> int:
    """Return the number of runs that ended before a time."""
    return connection.execute(select(func.count()).select_from(runs).where(_old_runs(before))).scalar_one()


def forget_runs(connection: Connection, before: float, limit: int) -> int:
    """Delete runs that ended before a time, with their events, step journals and batches; return the number of runs
    deleted.
    """
    old = connection.execute(select(runs.c.id).where(_old_runs(before)).limit(limit)).scalars().all()
    if old:
        connection.execute(delete(steps).where(steps.c.run_id.in_(old)))
        condition = batches.c.run_id.in_(old) & batches.c.finished_at.is_not(None)
        connection.execute(delete(batches).where(condition))
        connection.execute(delete(runs).where(runs.c.id.in_(old)))  # deletes the events of the runs too
    return len(old)


def _old_questions(before: float) -> ColumnElement[bool]:
    # Questions of a durable run are kept as long as the run, because a resumed run must not ask twice.
    coalesce = func.coalesce(questions.c.answered_at, questions.c.expires_at, questions.c.created_at)
    return (coalesce < before) & questions.c.run_id.not_in(kept_run_ids(before))


def count_questions(connection: Connection, before: float) -> int:
    """Return the number of questions that closed before a time and whose runs no longer exist."""
    result = connection.execute(select(func.count()).select_from(questions).where(_old_questions(before)))
    return result.scalar_one()


def forget_questions(connection: Connection, before: float, limit: int) -> int:
    """Delete questions that closed before a time and whose runs no longer exist; return the number deleted."""
    old: Sequence[str] = (
        connection.execute(select(questions.c.id).where(_old_questions(before)).limit(limit)).scalars().all()
    )
    if old:
        connection.execute(delete(questions).where(questions.c.id.in_(old)))
    return len(old)


def count_usage(connection: Connection, before: float) -> int:
    """Return the number of calls that began before a time."""
    result = connection.execute(select(func.count()).select_from(usage).where(usage.c.created_at < before))
    return result.scalar_one()


def forget_usage(connection: Connection, before: float, limit: int) -> int:
    """Delete the usage rows of calls that began before a time, oldest first, and the daily totals of the days before;
    return the number of calls.
    """
    # Ids increase in the order in which calls end, so the oldest rows come first, and no pass scans the whole
    # table.
    oldest = select(usage.c.id, usage.c.created_at).order_by(usage.c.id).limit(limit)
    old = [row.id for row in connection.execute(oldest) if row.created_at < before]
    if old:
        connection.execute(delete(usage).where(usage.c.id.in_(old)))
    connection.execute(delete(usage_days).where(usage_days.c.day < int(before // DAY_S)))
    return len(old)
