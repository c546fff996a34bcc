"""SQLite connections that stay open, because taking a connection from a pool costs more than writing a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event

from portico_server.core.errors import PorticoError
from portico_server.db import snapshot
from portico_server.db.failures import DATABASE_ERRORS

T = TypeVar("T")

MAX_WAL_BYTES = 64 * 1024 * 1024
"""Maximum size, in bytes, of the write-ahead log that remains on disk after a checkpoint, because otherwise a large
ingest would enlarge it permanently.
"""


class KeptConnections:
    """One connection for each engine. ``explain`` translates database errors for the caller."""

    def __init__(self, explain: Callable[[Exception], PorticoError]) -> None:
        self._explain = explain
        self.held: dict[Engine, Connection] = {}

    def get(self, engine: Engine) -> Connection:
        """Return the connection of ``engine``, opening it if necessary."""
        connection = self.held.get(engine)
        if connection is None:
            connection = self.held[engine] = engine.connect()
        return connection

    def drop(self, engine: Engine) -> None:
        """Discard the connection of ``engine``, whatever its state; the next transaction opens a new connection."""
        connection = self.held.pop(engine, None)
        if connection is not None:
            with suppress(*DATABASE_ERRORS):
                connection.close()

    def call(self, engine: Engine, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call a function with the driver connection of ``engine``, outside a transaction."""
        try:
            driver: Any = self.get(engine).connection.driver_connection
            return function(driver)
        except DATABASE_ERRORS as error:
            self.drop(engine)
            raise self._explain(error) from error

    def insert(self, engine: Engine, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute ``statement`` for each of ``rows``, in one transaction without SQLAlchemy."""
        try:
            driver: Any = self.get(engine).connection.driver_connection
            driver.execute("BEGIN IMMEDIATE")
            try:
                driver.executemany(statement, rows)
                driver.execute("COMMIT")
            except BaseException:
                # does nothing if SQLite has already rolled back; an error here must not
                # replace the full-disk error
                driver.rollback()
                raise
        except DATABASE_ERRORS as error:
            self.drop(engine)
            raise self._explain(error) from error


def open_sqlite(
    url: URL,
    begin: str,
    *,
    pool_size: int,
    synchronous: str = "FULL",
    timeout: float = 30,
    statements: Sequence[str] = (),
) -> Engine:
    """Create an engine whose transactions start with ``begin``. ``timeout`` is the number of seconds to wait for a
    lock.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": timeout},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun explicitly (see below)
        # Only for a new file, before anything is written, because otherwise the pragma would wait for the
        # current writer.
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            connection.execute(f"PRAGMA auto_vacuum={snapshot.INCREMENTAL_VACUUM_CODE}")
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            f"journal_size_limit={MAX_WAL_BYTES}",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            # Mapped pages would count as this process's memory once per connection, and an error of the disk
            # would kill the process.
            "mmap_size=0",
            *statements,
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(begin)  # without SQLAlchemy, which would double the time

    return engine
