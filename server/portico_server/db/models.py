"""Models, aliases and adapters added by an operator or a training run, and the models' results in the answer test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from portico_server.core.errors import Conflict
from portico_server.db.names import require_free
from portico_server.db.schema import aliases, canaries, models
from portico_server.db.specs import SpecRow, list_specs, put_spec, remove_spec


def list_models(connection: Connection) -> list[SpecRow]:
    """Return all models, oldest first; ``spec`` is the JSON form of a ModelSpec."""
    return list_specs(connection, models)


def put_model(connection: Connection, name: str, owner: str | None, spec: Mapping[str, Any]) -> None:
    """Add a model, or replace the model with this name. Raises `Conflict` if an app has the name."""
    require_free(connection, owner, name, "model")
    put_spec(connection, models, name, owner, spec)


def remove_model(connection: Connection, name: str) -> None:
    """Delete a model, and the aliases that point to it."""
    remove_spec(connection, models, name)
    connection.execute(delete(aliases).where(aliases.c.target == name))


def list_aliases(connection: Connection) -> dict[str, str]:
    """Return the targets of all aliases, keyed by alias."""
    return {row.name: row.target for row in connection.execute(select(aliases.c.name, aliases.c.target))}


def put_alias(connection: Connection, name: str, target: str) -> None:
    """Point an alias to ``target``. Raises `Conflict` if an app has the name, or if a canary of the alias is
    running.
    """
    require_free(connection, None, name, "model")
    _require_whole(connection, name)
    connection.execute(delete(aliases).where(aliases.c.name == name))
    connection.execute(insert(aliases).values(name=name, target=target))


def remove_alias(connection: Connection, name: str) -> None:
    """Delete an alias. Raises `Conflict` if a canary of the alias is running."""
    _require_whole(connection, name)
    connection.execute(delete(aliases).where(aliases.c.name == name))


def _require_whole(connection: Connection, name: str) -> None:
    """Raise `Conflict` if a canary splits the calls of an alias."""
    if connection.execute(select(canaries.c.id).where(canaries.c.running == name)).first() is not None:
        raise Conflict(
            f"The calls of '{name}' are split by a canary. End the canary first: portico canaries promote "
            f"'{name}', or portico canaries rollback '{name}'.",
            code="canary_running",
            param="name",
        )
