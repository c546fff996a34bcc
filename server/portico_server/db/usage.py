"""Usage rows: one for each call that came from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, func, insert, select

from portico_server.db.schema import usage


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one call took. ``created_at`` in seconds since 1970, durations in milliseconds, ``cost`` in US dollars."""

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


_FIELDS = tuple(item.name for item in fields(UsageRow))


def append(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Add rows."""
    # Not asdict: it copies deeply, which a thousand rows a second feel.
    connection.execute(insert(usage), [{name: getattr(row, name) for name in _FIELDS} for row in rows])


def spent(connection: Connection, key_id: str, since: float) -> tuple[int, int]:
    """Calls of a key since a moment, and their tokens."""
    return _spent(connection, usage.c.key_id == key_id, since)


def spent_by(connection: Connection, app: str, since: float) -> tuple[int, int]:
    """Calls of an app since a moment, and their tokens."""
    return _spent(connection, usage.c.name == app, since)


def _spent(connection: Connection, whose: ColumnElement[bool], since: float) -> tuple[int, int]:
    tokens = func.coalesce(func.sum(usage.c.prompt_tokens + usage.c.completion_tokens), 0)
    query = select(func.count(), tokens).where(whose, usage.c.created_at >= since)
    calls, used = connection.execute(query).one()
    return int(calls), int(used)


def totals(connection: Connection, since: float, key_id: str | None = None) -> list[dict[str, Any]]:
    """Calls and tokens since a moment, by name and operation, most calls first."""
    query = (
        select(
            usage.c.name,
            usage.c.operation,
            func.count().label("calls"),
            func.sum(usage.c.prompt_tokens).label("prompt_tokens"),
            func.sum(usage.c.completion_tokens).label("completion_tokens"),
            func.sum(usage.c.cached_tokens).label("cached_tokens"),
            func.sum(usage.c.cost).label("cost"),
            func.avg(usage.c.milliseconds).label("milliseconds"),
        )
        .where(usage.c.created_at >= since)
        .group_by(usage.c.name, usage.c.operation)
        .order_by(func.count().desc())
    )
    if key_id is not None:
        query = query.where(usage.c.key_id == key_id)
    return [dict(row._mapping) for row in connection.execute(query)]
