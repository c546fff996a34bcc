"""Objects that an operator added at run time, stored as one specification per name: models, tools, MCP servers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, exists, insert, select

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Rows
from portico_server.db.schema import mcp_servers, tools

TOOLS_TABLE: Final[Table] = tools
MCP_SERVERS_TABLE: Final[Table] = mcp_servers


@dataclass(frozen=True, slots=True)
class SpecRow:
    """A stored specification; ``spec`` is its JSON form."""

    name: str
    owner: str | None
    spec: Mapping[str, Any]
    created_at: float


def list_specs(connection: Connection, table: Table) -> list[SpecRow]:
    """Return all rows of one of the tables of specifications, oldest first."""
    rows = Rows(table, SpecRow)
    return rows.every(connection, rows.select.order_by(table.c.created_at))


def has_any(connection: Connection, table: Table) -> bool:
    """Return whether one of the tables of specifications has a row."""
    return connection.execute(select(exists(select(table.c.name)))).scalar_one()


def put_spec(
    connection: Connection, table: Table, name: str, owner: str | None, spec: Mapping[str, Any]
) -> None:
    """Add a specification, or replace the specification with this name."""
    connection.execute(delete(table).where(table.c.name == name))
    connection.execute(insert(table).values(name=name, owner=owner, spec=dict(spec), created_at=time.time()))


def remove_spec(connection: Connection, table: Table, name: str) -> None:
    """Delete a specification."""
    connection.execute(delete(table).where(table.c.name == name))
