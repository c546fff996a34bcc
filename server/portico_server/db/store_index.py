"""Where the vectors of stores are searched, and moves from one index to another."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection, select, update

from portico._installed import how_to_add
from portico_server.core.errors import InvalidRequest
from portico_server.db import pgvector
from portico_server.db.pgvector import PGVECTOR
from portico_server.db.schema import stores

IndexName: TypeAlias = Literal["embedded", "qdrant", "pgvector"]
"""Where the vectors of a store are searched: in the daemon's memory, in files of the daemon, or in PostgreSQL."""

EMBEDDED: Final = "embedded"
QDRANT: Final = "qdrant"


def require(connection: Connection, index: IndexName) -> None:
    """Raise `InvalidRequest` unless this daemon and its database offer the index."""
    if index == PGVECTOR:
        pgvector.require(connection)
    if index == QDRANT and find_spec("qdrant_edge") is None:
        raise InvalidRequest(
            f"The index 'qdrant' needs a package that is not installed: {how_to_add('qdrant')}",
            code="index_unavailable",
            param="index",
        )


def index_of(connection: Connection, store_id: str) -> IndexName:
    """Return the index of a store; ``embedded`` if the store does not exist."""
    index: IndexName | None = connection.execute(
        select(stores.c.index).where(stores.c.id == store_id)
    ).scalar()
    return index or EMBEDDED


def indexes_of(connection: Connection, store_id: str) -> set[str]:
    """Return the index of a store, and the next one if its vectors are being moved."""
    row = connection.execute(
        select(stores.c.index, stores.c.next_index).where(stores.c.id == store_id)
    ).first()
    return set() if row is None else {name for name in row if name is not None}


def leave_pgvector_on_sqlite(connection: Connection) -> None:
    """On SQLite, let stores on pgvector use the embedded index: ``portico migrate`` may have copied them from
    PostgreSQL.
    """
    if connection.dialect.name == "sqlite":
        connection.execute(update(stores).where(stores.c.next_index == PGVECTOR).values(next_index=None))
        connection.execute(
            update(stores).where(stores.c.index == PGVECTOR).values(index=EMBEDDED, next_index=None)
        )


def begin_move(connection: Connection, store_id: str, index: IndexName) -> None:
    """Choose the index to which a store's vectors move. The index that they have now ends an unfinished move.

    Raises `InvalidRequest` if the daemon does not offer the index.
    """
    require(connection, index)
    is_same = index_of(connection, store_id) == index
    if is_same and index != PGVECTOR:
        pgvector.drop(connection, store_id)
    connection.execute(
        update(stores).where(stores.c.id == store_id).values(next_index=None if is_same else index)
    )


def finish_move(connection: Connection, store_id: str, index: IndexName) -> bool:
    """Make ``index``, which is complete, the one that searches use. Return false if the move was called off."""
    condition = (stores.c.id == store_id) & (stores.c.next_index == index)
    statement = update(stores).where(condition).values(index=index, next_index=None)
    if connection.execute(statement).rowcount == 0:
        return False
    if index != PGVECTOR:
        pgvector.drop(connection, store_id)
    return True
