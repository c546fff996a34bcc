"""Models that an operator added while the daemon ran, and aliases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from portico_server.db.names import require_free
from portico_server.db.schema import aliases, models


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One added model; ``spec`` is the JSON form of its ModelSpec."""

    name: str
    owner: str | None
    spec: Mapping[str, Any]
    created_at: float


def every(connection: Connection) -> list[ModelRow]:
    """All of them, oldest first."""
    rows = connection.execute(
        select(models.c.name, models.c.owner, models.c.spec, models.c.created_at).order_by(
            models.c.created_at
        )
    )
    return [ModelRow(**row._mapping) for row in rows]


def put(connection: Connection, name: str, owner: str | None, spec: Mapping[str, Any]) -> None:
    """Add a model or replace the one of this name. Raises `Conflict` if an app has the name."""
    require_free(connection, owner, name, "model")
    connection.execute(delete(models).where(models.c.name == name))
    connection.execute(insert(models).values(name=name, owner=owner, spec=dict(spec), created_at=time.time()))


def remove(connection: Connection, name: str) -> None:
    """Forget a model and the aliases that point to it."""
    connection.execute(delete(models).where(models.c.name == name))
    connection.execute(delete(aliases).where(aliases.c.target == name))


def every_alias(connection: Connection) -> dict[str, str]:
    """Alias to name."""
    return {row.name: row.target for row in connection.execute(select(aliases.c.name, aliases.c.target))}


def put_alias(connection: Connection, name: str, target: str) -> None:
    """Let an alias mean ``target`` from now on. Raises `Conflict` if an app has the name."""
    require_free(connection, None, name, "model")
    connection.execute(delete(aliases).where(aliases.c.name == name))
    connection.execute(insert(aliases).values(name=name, target=target))
