"""Adapters that an operator or a training run added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from portico_server.db.names import require_free
from portico_server.db.schema import adapters, aliases


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """One added adapter; ``spec`` says where it is kept, its scale and what it consists of."""

    name: str
    base: str
    owner: str | None
    spec: Mapping[str, Any]
    created_at: float


def every(connection: Connection) -> list[AdapterRow]:
    """All of them, oldest first."""
    columns = (adapters.c.name, adapters.c.base, adapters.c.owner, adapters.c.spec, adapters.c.created_at)
    rows = connection.execute(select(*columns).order_by(adapters.c.created_at, adapters.c.name))
    return [AdapterRow(**row._mapping) for row in rows]


def add(connection: Connection, row: AdapterRow) -> None:
    """Keep a new one. Raises `Conflict` if an app has the name."""
    require_free(connection, row.owner, row.name, "model")
    connection.execute(
        insert(adapters).values(
            name=row.name, base=row.base, owner=row.owner, spec=dict(row.spec), created_at=row.created_at
        )
    )


def change(connection: Connection, name: str, spec: Mapping[str, Any]) -> None:
    """Give one another spec."""
    connection.execute(update(adapters).where(adapters.c.name == name).values(spec=dict(spec)))


def remove(connection: Connection, name: str) -> None:
    """Forget one, and the aliases that point to it."""
    connection.execute(delete(adapters).where(adapters.c.name == name))
    connection.execute(delete(aliases).where(aliases.c.target == name))
