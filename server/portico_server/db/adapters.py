"""Adapters added by an operator or a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, update

from portico_server.core.dataclass import dataclass
from portico_server.db.names import require_free
from portico_server.db.rows import Rows
from portico_server.db.schema import adapters, aliases
from portico_server.db.specs import SpecRow


@dataclass(frozen=True, slots=True)
class AdapterRow(SpecRow):
    """An added adapter; ``spec`` contains the adapter's location, scale and components."""

    base: str


_ADAPTERS = Rows(adapters, AdapterRow)


def list_adapters(connection: Connection) -> list[AdapterRow]:
    """Return all adapters, oldest first."""
    return _ADAPTERS.every(connection, _ADAPTERS.select.order_by(adapters.c.created_at, adapters.c.name))


def add_adapter(connection: Connection, row: AdapterRow) -> None:
    """Store a new adapter. Raises `Conflict` if an app already has the name."""
    require_free(connection, row.owner, row.name, "model")
    _ADAPTERS.add(connection, row)


def change_adapter(connection: Connection, name: str, spec: Mapping[str, Any]) -> None:
    """Replace the spec of an adapter."""
    connection.execute(update(adapters).where(adapters.c.name == name).values(spec=dict(spec)))


def remove_adapter(connection: Connection, name: str) -> None:
    """Delete an adapter, and the aliases that point to it."""
    connection.execute(delete(adapters).where(adapters.c.name == name))
    connection.execute(delete(aliases).where(aliases.c.target == name))
