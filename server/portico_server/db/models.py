"""Models, aliases and adapters that an operator or a training run added, and how models did in the test of their
answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from portico_server.core.errors import Conflict
from portico_server.db.names import require_free
from portico_server.db.schema import aliases, canaries, models
from portico_server.db.specs import SpecRow, list_specs, put_spec, remove_spec


def list_models(connection: Connection) -> list[SpecRow]:
    """All of them, oldest first; ``spec`` is the JSON form of its ModelSpec."""
    return list_specs(connection, models)


def put_model(connection: Connection, name: str, owner: str | None, spec: Mapping[str, Any]) -> None:
    """Add a model or replace the one of this name. Raises `Conflict` if an app has the name."""
    require_free(connection, owner, name, "model")
    put_spec(connection, models, name, owner, spec)


def remove_model(connection: Connection, name: str) -> None:
    """Forget a model and the aliases that point to it."""
    remove_spec(connection, models, name)
    connection.execute(delete(aliases).where(aliases.c.target == name))


def list_aliases(connection: Connection) -> dict[str, str]:
    """Alias to name."""
    return {row.name: row.target for row in connection.execute(select(aliases.c.name, aliases.c.target))}


def put_alias(connection: Connection, name: str, target: str) -> None:
    """Let an alias mean ``target`` from now on. Raises `Conflict` if an app has the name, or if a canary runs."""
    require_free(connection, None, name, "model")
    _require_whole(connection, name)
    connection.execute(delete(aliases).where(aliases.c.name == name))
    connection.execute(insert(aliases).values(name=name, target=target))


def remove_alias(connection: Connection, name: str) -> None:
    """Forget an alias. Raises `Conflict` if a canary runs."""
    _require_whole(connection, name)
    connection.execute(delete(aliases).where(aliases.c.name == name))


def _require_whole(connection: Connection, name: str) -> None:
    """Raise `Conflict` for an alias whose calls are split."""
    if connection.execute(select(canaries.c.id).where(canaries.c.running == name)).first() is not None:
        raise Conflict(
            f"The calls of '{name}' are split by a canary. End that first: portico canaries promote '{name}', or "
            f"portico canaries rollback '{name}'.",
            code="canary_running",
            param="name",
        )
