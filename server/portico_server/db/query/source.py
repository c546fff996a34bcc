"""Which kind of database an address means."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from portico._installed import how_to_add
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.db.query.answer import Source
from portico_server.db.query.duckdb import DuckDB
from portico_server.db.query.postgres import Postgres, shown
from portico_server.db.query.sqlite import SQLite

_SERVERS: Final = ("postgresql://", "postgres://")


def is_server(address: str) -> bool:
    """Whether an address leads to a server instead of to a file. Raises `InvalidRequest` for schemes not known."""
    if "://" in address and not address.startswith(_SERVERS):
        raise InvalidRequest(
            f"'{shown(address)}' is not a database: give postgresql://USER@HOST/NAME, or the path of a SQLite or "
            "DuckDB file.",
            param="database",
        )
    return "://" in address


def open_source(address: str) -> Source:
    """The database at ``address``: ``postgresql://…``, or the path of a file. Nothing is asked of it yet.

    Raises `InvalidRequest` for what is no database, `Unavailable` if its driver is not installed.
    """
    if not is_server(address):
        return open_file(Path(address))
    if find_spec("asyncpg") is None:
        raise Unavailable(
            "The driver of PostgreSQL is not installed here. Install it, and start the daemon again: "
            f"{how_to_add('sql')}",
            code="not_installed",
        )
    return Postgres(address)


def open_file(path: Path) -> SQLite | DuckDB:
    """The database in a file, by its first bytes. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InvalidRequest(
            f"'{path.name}' cannot be read: {error.strerror or error}.", param="database"
        ) from error
    if head.startswith(b"SQLite format 3\0"):
        return SQLite(path)
    if head[8:12] == b"DUCK":
        return DuckDB(path)
    raise InvalidRequest(f"'{path.name}' is neither a SQLite nor a DuckDB file.", param="database")
