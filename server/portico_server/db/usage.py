"""Usage rows: one for each call from outside, and daily totals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    case,
    cast,
    func,
    insert,
    literal,
    select,
    union_all,
)

from portico.wire import Usage
from portico_server.db.schema import usage, usage_days

DAY_S = 86_400
"""Seconds in a day, the period of the totals in ``usage_days``."""

MAX_SINCE_S = 1e12
"""Upper limit for times in queries. All calls are earlier, so a later time is replaced by this limit."""


class UsageRow(NamedTuple):
    """The usage of a call. ``created_at`` is in seconds since 1970, durations are in milliseconds, ``cost`` in US
    dollars.

    ``name`` is the requested name, even if it is an alias. ``model`` is the name of the model that answered, without
    aliases. If all fallbacks failed too, ``model`` is the requested model; if no model was called, it is empty.
    """

    run_id: str
    key_id: str
    name: str
    operation: str
    status: Literal["completed", "failed", "cancelled"]
    error_code: str | None
    created_at: float
    milliseconds: float
    first_byte_milliseconds: float | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    model: str = ""


MAX_BEFORE_ROW_S = 3_600
"""Maximum seconds that a run may have worked before its row in `runs` was written."""


def of_run(connection: Connection, run_id: str, key_id: str, began: float) -> Usage:
    """Return the total usage of a run's ended attempts; ``began`` is when the run's row was written."""
    columns = (usage.c.prompt_tokens, usage.c.completion_tokens, usage.c.cached_tokens)
    totals = [*(func.coalesce(func.sum(column), 0) for column in columns), func.sum(usage.c.cost)]
    since = usage.c.created_at >= began - MAX_BEFORE_ROW_S
    result = connection.execute(
        select(*totals).where(usage.c.key_id == key_id, since, usage.c.run_id == run_id)
    )
    return Usage(*result.one())


_REPORTED_COLUMNS = (
    "name",
    "operation",
    "model",
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost",
    "milliseconds",
)
_SUMMED = ("prompt_tokens", "completion_tokens", "cached_tokens", "milliseconds")


def append(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Add rows."""
    connection.execute(insert(usage), [row._asdict() for row in rows])
    connection.execute(_add_statement(connection.dialect.name), _by_day(rows))


def _by_day(rows: Sequence[UsageRow]) -> list[dict[str, Any]]:
    """Return the rows' daily totals, sorted by key, so that two daemons that write the same totals do not deadlock."""
    rows_by_key: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (int(row.created_at // DAY_S), row.key_id, row.name, row.operation, row.model)
        day_row = rows_by_key.get(key)
        if day_row is None:
            names = ("day", "key_id", "name", "operation", "model")
            day_row = rows_by_key[key] = {**dict(zip(names, key, strict=True)), "calls": 0, "cost": None}
            day_row.update(dict.fromkeys(_SUMMED, 0))
        day_row["calls"] += 1
        for name in _SUMMED:
            day_row[name] += getattr(row, name)
        if row.cost is not None:
            day_row["cost"] = (day_row["cost"] or 0.0) + row.cost
    return [rows_by_key[key] for key in sorted(rows_by_key)]


@cache
def _add_statement(dialect: str) -> Any:
    """Return the statement that adds rows to the existing daily totals."""
    new: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert(usage_days)
    new_row = new.excluded
    values: dict[str, Any] = {name: usage_days.c[name] + new_row[name] for name in ("calls", *_SUMMED)}
    values["cost"] = func.coalesce(usage_days.c.cost + new_row.cost, usage_days.c.cost, new_row.cost)
    return new.on_conflict_do_update(index_elements=list(usage_days.primary_key.columns), set_=values)


def sum_spent(connection: Connection, key_id: str, since: float) -> tuple[int, int]:
    """Return the number of a key's calls since a time, and their total tokens."""
    return _sum_spent(connection, usage.c.key_id == key_id, since)


def spent_by(
    connection: Connection,
    names: Sequence[str],
    since: float,
    *,
    by: str | None = None,
    without: Sequence[str] = (),
) -> tuple[int, int]:
    """Return the number of calls of an app since a time, and their total tokens; ``names`` are the app's names.

    ``by`` limits the calls to this key; ``without`` excludes keys for which the name refers to another app.
    """
    condition: ColumnElement[bool] = usage.c.name.in_(list(names))
    if by is not None:
        condition = and_(condition, usage.c.key_id == by)
    if without:
        condition = and_(condition, usage.c.key_id.not_in(list(without)))
    return _sum_spent(connection, condition, since)


def _sum_spent(connection: Connection, condition: ColumnElement[bool], since: float) -> tuple[int, int]:
    tokens = func.coalesce(func.sum(usage.c.prompt_tokens + usage.c.completion_tokens), 0)
    query = select(func.count(), tokens).where(condition, usage.c.created_at >= since)
    calls, used_tokens = connection.execute(query).one()
    return int(calls), int(used_tokens)


def totals(connection: Connection, since: float, key_id: str | None = None) -> list[dict[str, Any]]:
    """Return calls and tokens since a time, by name, operation and model, most calls first.

    For the incomplete first day, the rows of individual calls are read; for all later days, the daily totals.
    """
    since = min(since, MAX_SINCE_S)
    first = math.ceil(since / DAY_S)
    days = select(*(usage_days.c[name] for name in _REPORTED_COLUMNS)).where(usage_days.c.day >= first)
    label = literal(1).label("calls")
    rest = select(*(label if name == "calls" else usage.c[name] for name in _REPORTED_COLUMNS)).where(
        usage.c.created_at >= since, usage.c.created_at < first * DAY_S
    )
    if key_id is not None:
        days, rest = days.where(usage_days.c.key_id == key_id), rest.where(usage.c.key_id == key_id)
    subquery = union_all(days, rest).subquery()
    calls = func.sum(subquery.c.calls)
    query = (
        select(
            subquery.c.name,
            subquery.c.operation,
            subquery.c.model,
            calls.label("calls"),
            *(func.sum(subquery.c[name]).label(name) for name in ("prompt_tokens", "completion_tokens")),
            func.sum(subquery.c.cached_tokens).label("cached_tokens"),
            func.sum(subquery.c.cost).label("cost"),
            (func.sum(subquery.c.milliseconds) / calls).label("milliseconds"),
        )
        .group_by(subquery.c.name, subquery.c.operation, subquery.c.model)
        .order_by(calls.desc())
    )
    return [dict(row._mapping) for row in connection.execute(query)]


MAX_SERIES = 7
"""Maximum number of series over time: the names with the most calls have their own series, and all others share one."""

_GROUPED: dict[str, str] = {"model": "model", "key": "key_id", "name": "name"}
"""Maps the groupings that `course` supports to their columns."""

HOUR_S = 3_600


def course(
    connection: Connection,
    since: float,
    step: Literal["hour", "day"],
    by: Literal["model", "key", "name"],
    key_id: str | None = None,
) -> list[dict[str, Any]]:
    """Return calls, tokens and cost per hour or day since a time, in order of time. ``at`` is the start of the period.

    ``series`` is a model, key or name, or ``None`` for all that have no series of their own (see `MAX_SERIES`). Days
    are in UTC, and the first period is complete.
    """
    table = usage_days if step == "day" else usage
    length_s = DAY_S if step == "day" else HOUR_S
    first = int(min(since, MAX_SINCE_S) // length_s)
    if table is usage_days:
        condition: ColumnElement[int] = usage_days.c.day
        calls: ColumnElement[int] = func.sum(usage_days.c.calls)
        within = [usage_days.c.day >= first]
    else:
        # In whole milliseconds, because a cast to an integer rounds in PostgreSQL but not in SQLite.
        condition = cast(usage.c.created_at * 1_000, BigInteger) // (HOUR_S * 1_000)
        calls = func.count()
        within = [usage.c.created_at >= first * HOUR_S]
    if key_id is not None:
        within.append(table.c.key_id == key_id)
    column = table.c[_GROUPED[by]]
    ranked_query = (
        select(column).where(*within).group_by(column).order_by(calls.desc(), column).limit(MAX_SERIES)
    )
    names = list(connection.execute(ranked_query).scalars())
    series = case((column.in_(names), column), else_=None).label("series")
    start = condition.label("start")
    sums = [func.sum(table.c[name]).label(name) for name in ("prompt_tokens", "completion_tokens", "cost")]
    query = select(start, series, calls.label("calls"), *sums).where(*within).group_by(start, series)
    rows = connection.execute(query.order_by(start, series)).mappings()
    return [
        {"at": row["start"] * length_s, **{name: value for name, value in row.items() if name != "start"}}
        for row in rows
    ]
