"""The source or the target of a migration: a SQLite file that nobody else uses, or a PostgreSQL database without
daemons.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, Unavailable
from portico_server.db.address import parse_address
from portico_server.db.enforcement import DAEMON_CONNECTIONS
from portico_server.db.kept_connections import open_sqlite

T = TypeVar("T")
P = ParamSpec("P")

APPLICATION: Final = "portico migrate"
"""The name under which PostgreSQL lists the connections of a migration; those of a daemon are named ``portico``."""


@dataclass(frozen=True, slots=True)
class Side:
    """The source or the target of a migration, as one connection. All reads of the source see one state."""

    connection: Connection | AsyncConnection
    is_source: bool

    async def run(
        self, function: Callable[Concatenate[Connection, P], T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Call ``function(connection, *arguments)``. In the target, this is one transaction."""
        if isinstance(self.connection, AsyncConnection):
            result = await self.connection.run_sync(function, *arguments, **options)
            if not self.is_source:
                await self.connection.commit()
        else:
            result = function(self.connection, *arguments, **options)
            if not self.is_source:
                self.connection.commit()
        return result


@asynccontextmanager
async def open_file(path: Path, *, is_source: bool) -> AsyncIterator[Side]:
    """Open a SQLite file whose home folder the caller has locked. A source and its folder are not changed."""
    if is_source:
        # SQLite creates files next to a database in WAL mode that it reads, except if nothing can change it.
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None),
        )
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    else:
        engine = open_sqlite(make_url(f"sqlite:///{path}"), "BEGIN IMMEDIATE", pool_size=1)
    try:
        with engine.connect() as connection:
            yield Side(connection, is_source)
    finally:
        engine.dispose()


@asynccontextmanager
async def open_postgres(url: str, *, is_source: bool) -> AsyncIterator[Side]:
    """Open a PostgreSQL database, and keep daemons from writing to it. Raises `Conflict` if a daemon uses it."""
    import asyncpg

    from portico_server.db.postgres import CONNECT_TIMEOUT_S, WRITER_LOCK_CODE

    dsn = parse_address(url).render_as_string(hide_password=False)
    options = {"application_name": APPLICATION, "default_transaction_read_only": "on" if is_source else "off"}

    async def connect() -> Any:
        try:
            return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, server_settings=options)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(
                f"The PostgreSQL database cannot be opened: {error or 'no answer'}. Check the URL, and that the "
                "database exists.",
                code="database_unavailable",
            ) from error

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="REPEATABLE READ" if is_source else "READ COMMITTED",
        json_deserializer=str,  # JSON is copied as text
    )
    try:
        async with engine.connect() as connection:
            daemons = (await connection.execute(DAEMON_CONNECTIONS)).all()
            is_ours = await connection.scalar(text(f"select pg_try_advisory_lock({WRITER_LOCK_CODE})"))
            await connection.commit()
            if daemons or not is_ours:
                user = "A Portico daemon" if daemons else "Another migration"
                raise Conflict(
                    f"{user} uses the PostgreSQL database. Stop all daemons on it, then try again.",
                    code="database_in_use",
                )
            yield Side(connection, is_source)
    finally:
        await engine.dispose()
