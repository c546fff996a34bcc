"""The database of a daemon: functions that take a connection, run outside the event loop by one writer and several
readers.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from portico.schemas.daemon import Vacuumed
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.db import snapshot
from portico_server.db.address import parse_address
from portico_server.db.direct_reads import DirectReads
from portico_server.db.failures import DATABASE_ERRORS, explain
from portico_server.db.kept_connections import KeptConnections, open_sqlite
from portico_server.db.revision import revision
from portico_server.db.row_groups import RowGroups
from portico_server.db.rows import DriverQuery
from portico_server.db.schema import HEAD, NEXT
from portico_server.db.timings import Timings
from portico_server.db.writer_thread import WriterThread

if TYPE_CHECKING:
    from portico_server.db.postgres import PostgresThread

T = TypeVar("T")
P = ParamSpec("P")


MAX_READERS = 4


SLOW_DISK_S = 0.02
"""Seconds for a write above which `Database.try_write_now` considers the disk slow; a write normally takes a
thousandth of that.
"""

HOLD_OFF_S = 10.0
"""Seconds after a slow write during which `Database.try_write_now` does not try to write."""

READ_HOLD_OFF_S = 1.0
"""Seconds after a slow read during which `Database.read_now` does not try to read."""


_COMMITTED = "portico.committed"
"""Key in a connection's ``info`` under which `after_commit` stores its topics."""


def after_commit(connection: Connection, topic: str) -> None:
    """Set the event that `Database.on_commit` registered for a ``topic`` when the current transaction has been
    committed.
    """
    connection.info.setdefault(_COMMITTED, set()).add(topic)


class Database:
    """A SQLite database in WAL mode at a path, or the database of a SQLAlchemy URL.

    ``await database.read(function, *arguments)`` calls ``function(connection, *arguments)`` in a transaction in a
    reader thread. ``write`` does the same in the only writer thread; when it returns, the result is on disk.
    ``write_soon`` is a ``write`` that does not wait for the disk: its result survives the end of this process, but not
    a power failure. ``fetch`` reads the few rows of one statement without a transaction, ``read_now`` reads without a
    thread. ``submit`` starts a write without waiting.
    ``rows`` and ``try_write_now`` run a single statement for a flow that waits for it; ``row_groups`` runs a statement
    for which many calls wait at the same time.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_address(url)
        self.postgres = None
        if self._url.get_backend_name() != "sqlite":
            from portico_server.db.postgres import PostgresThread

            self.postgres = PostgresThread(self._url, MAX_READERS, self._explain)
        """What does the transactions on PostgreSQL, which several daemons may share; ``None`` on SQLite."""
        self._direct_reads = None if self.postgres is None else DirectReads(self.postgres, MAX_READERS)
        self._writer = WriterThread("portico-db-write")
        self._reading = Timings()
        self._readers = ThreadPoolExecutor(MAX_READERS, "portico-db-read")
        self._kept_connections = KeptConnections(self._explain)
        self._events: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self.row_groups: RowGroups | None = None
        """Writes the rows of one turn of the event loop together; ``None`` on PostgreSQL."""
        self._swift_from = 0.0
        """The time before which `try_write_now` does not try to write."""
        self._read_now_from = 0.0
        """The time before which `read_now` does not try to read."""
        self.upgrade: tuple[str, str] | None = None
        """The schemas before and after the migration that `prepare` performed."""
        if self.postgres is not None:
            return
        self._write_engine = open_sqlite(self._url, "BEGIN IMMEDIATE", pool_size=1)
        self._relaxed_engine = open_sqlite(self._url, "BEGIN IMMEDIATE", pool_size=1, synchronous="NORMAL")
        self._read_engine = open_sqlite(self._url, "BEGIN", pool_size=MAX_READERS)
        # This connection never waits, neither for a lock nor for the disk: only the other connections run
        # checkpoints.
        self._swift_engine = open_sqlite(
            self._url,
            "BEGIN IMMEDIATE",
            pool_size=1,
            synchronous="NORMAL",
            timeout=0,
            statements=("wal_autocheckpoint=0",),
        )
        self.row_groups = RowGroups(
            self.try_write_now, self._writer.do, partial(self._kept_connections.insert, self._relaxed_engine)
        )

    @classmethod
    def at(cls, path: Path) -> Database:
        return cls(f"sqlite:///{path}")

    def prepare(self) -> None:
        """Open the database, and migrate it if needed. If it is damaged or too new, raises `Unavailable` with a message
        that says what to do.

        Daemons on one PostgreSQL may differ by one version, so that an upgrade can replace them one by one.
        """
        try:
            if self.postgres is not None:
                # If another daemon is migrating, this daemon waits for the lock, checks again and finds
                # nothing to do.
                self.postgres.wait_for_write(self._bring_up)
                return
            with self._read_engine.connect() as connection:
                if revision(connection) == HEAD:
                    return
            from portico_server.db.migrate import upgrade

            self.upgrade = upgrade(self._write_engine)
        except DATABASE_ERRORS as error:
            raise self._explain(error) from error

    def _bring_up(self, connection: Connection) -> None:
        if revision(connection) not in (HEAD, NEXT):
            from portico_server.db.migrate import bring_up

            self.upgrade = bring_up(connection)

    async def check(self) -> None:
        """Check that the database responds and has the schema of this or the next version. Raises `Unavailable`."""
        number = await self.read(revision)
        if number not in (HEAD, NEXT):
            raise Unavailable(
                f"The database has the schema {number}, but this version needs {HEAD}: a migration is in "
                "progress, or another version of Portico uses the database.",
                code="database_not_migrated",
            )

    async def read(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        timings = self._reading
        since, start_time = perf_counter(), 0.0

        def work() -> T:
            nonlocal start_time
            start_time = perf_counter()
            try:
                with self._read_engine.begin() as connection:
                    return function(connection, *args, **kwargs)
            except DATABASE_ERRORS as error:
                raise self._explain(error) from error

        def work_on(connection: Connection) -> T:
            nonlocal start_time
            start_time = perf_counter()
            return function(connection, *args, **kwargs)

        timings.running += 1
        try:
            if self.postgres is not None:
                return await self.postgres.read(work_on)
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        finally:
            timings.running -= 1
            if start_time:
                timings.waited.observe(start_time - since)
                timings.took.observe(perf_counter() - start_time)

    def read_now(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Return the few rows that ``function`` reads with SQLite's own connection, synchronously in the event loop.

        Switching to a reader thread would cost more than reading the rows. Returns ``None`` if nothing was found or
        the method did not read, as after a recent slow read; then use `read`.
        """
        if self.postgres is not None or time.monotonic() < self._read_now_from:
            return None
        connection = self._kept_connections.held.get(self._swift_engine)
        if connection is None:
            self._writer.do(
                lambda: self._kept_connections.get(self._swift_engine)
            )  # opening a file takes longer
            return None
        start_time = perf_counter()
        try:
            driver: Any = connection.connection.driver_connection
            return function(driver, *args, **kwargs)
        except DATABASE_ERRORS:
            self._kept_connections.drop(self._swift_engine)
            return None  # if the reader thread fails too, it reports the reason
        finally:
            took = perf_counter() - start_time
            self._reading.took.observe(took)
            if took > SLOW_DISK_S:
                self._read_now_from = time.monotonic() + READ_HOLD_OFF_S

    async def fetch(self, query: DriverQuery, *, in_thread: bool = False, **values: Any) -> list[list[Any]]:
        """Return the few rows of one statement, without a transaction: on PostgreSQL in one round trip, on SQLite as
        `read_now` reads them if possible, or ``in_thread``.
        """
        if self.postgres is None or self._direct_reads is None:
            rows = None if in_thread else self.read_now(query.rows, **values)
            return await self.read(_rows_of, query, values) if rows is None else rows
        start_time = perf_counter()
        self._reading.running += 1
        try:
            return await query.rows_of(self._direct_reads.fetch, **values)
        except self.postgres.errors as error:
            raise self._explain(error) from error
        finally:
            self._reading.running -= 1
            self._reading.took.observe(perf_counter() - start_time)

    def load(self) -> Mapping[str, Timings]:
        """Return the load of the database, keyed by ``read`` and ``write``."""
        reading, writing = self._reading, self._writer.timings
        reading.waiting = max(0, reading.running - MAX_READERS)
        if self.postgres is None:
            writing.waiting, writing.running = self._writer.waiting, int(self._writer.busy)
        return {"read": reading, "write": writing}

    async def write(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.submit(lambda connection: function(connection, *args, **kwargs), full=True)

    async def write_soon(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.submit(lambda connection: function(connection, *args, **kwargs), full=False)

    def submit(self, function: Callable[[Connection], T], *, full: bool) -> asyncio.Future[T]:
        """Start a `write` if ``full``, else a `write_soon`; return a future for the result."""
        if self.postgres is not None:
            return self._timed(self.postgres, function, full)
        engine = self._write_engine if full else self._relaxed_engine
        return self._writer.do(lambda: self._transact(engine, function))

    def on_commit(self, topic: str, event: asyncio.Event) -> None:
        """Set ``event`` after each transaction of this daemon that called `after_commit` with ``topic``."""
        self._events[topic] = (asyncio.get_running_loop(), event)

    def _committed(self, topics: Iterable[str]) -> None:
        for topic in topics:
            if topic in self._events:
                loop, event = self._events[topic]
                with suppress(RuntimeError):  # the loop has ended, and so have its waiting tasks
                    loop.call_soon_threadsafe(event.set)

    @asynccontextmanager
    async def exclusive(self, name: str, *, wait_s: float = math.inf) -> AsyncIterator[bool]:
        """Lock a name against other daemons on the same database; yield whether this daemon holds the lock. See
        `PostgresThread.exclusive`.
        """
        if self.postgres is None:
            yield True
            return
        async with self.postgres.exclusive(name, wait_s=wait_s) as is_ours:
            yield is_ours

    def _timed(
        self, postgres: PostgresThread, function: Callable[[Connection], T], full: bool
    ) -> asyncio.Future[T]:
        timings, since = self._writer.timings, perf_counter()
        start_time = 0.0
        topics: set[str] = set()

        def work(connection: Connection) -> T:
            nonlocal start_time, topics
            start_time = perf_counter()
            timings.waiting -= 1
            timings.running = 1
            result = function(connection)
            topics = connection.info.pop(_COMMITTED, topics)
            return result

        def record_time(_future: asyncio.Future[T]) -> None:
            self._committed(topics)
            timings.running = 0
            if not start_time:
                timings.waiting -= 1
                return
            timings.waited.observe(start_time - since)
            timings.took.observe(perf_counter() - start_time)

        timings.waiting += 1
        future = postgres.write(work, full=full)
        future.add_done_callback(record_time)
        return future

    def rows(
        self, statement: str, rows: Sequence[Sequence[Any]], *, full: bool
    ) -> asyncio.Future[None] | None:
        """Run one SQLite statement for several rows, like `submit`, but without SQLAlchemy, whose transaction would
        cost as much as the row.

        On another database, return ``None`` without writing.
        """
        if self.postgres is not None:
            return None
        engine = self._write_engine if full else self._relaxed_engine
        return self._writer.do(lambda: self._kept_connections.insert(engine, statement, rows))

    def try_write_now(self, statement: str, rows: Sequence[Sequence[Any]]) -> bool:
        """Write like `rows` with ``full=False``, synchronously in the event loop. Returns ``False`` if nothing was
        written; then use `rows`.

        Switching to the writer thread would cost more than writing the row. The data are written only to the operating
        system's memory. If another writer is active or the disk was slow recently, this method does not try, because a
        stream must not wait for a disk.
        """
        if self.postgres is not None or self._writer.busy or time.monotonic() < self._swift_from:
            return False
        if self._swift_engine not in self._kept_connections.held:
            self._writer.do(
                lambda: self._kept_connections.get(self._swift_engine)
            )  # opening a file takes longer
            return False
        start_time = time.monotonic()
        try:
            self._kept_connections.insert(self._swift_engine, statement, rows)
        except PorticoError:
            return False  # if the writer thread fails too, it reports the reason
        finally:
            if (now := time.monotonic()) - start_time > SLOW_DISK_S:
                self._swift_from = now + HOLD_OFF_S
        return True

    async def vacuum(self, *, convert: bool = True, worth_bytes: int = 0) -> Vacuumed | None:
        """Return the unused pages of a SQLite file to the file system, a few in each transaction.

        Returns ``None`` if nothing was done: on another database, or if less than ``worth_bytes`` are free. A file
        created by an old version does not support this; with ``convert``, it is rewritten completely, and meanwhile
        writers wait but readers do not.
        """
        if self.postgres is not None or self._url.database is None:
            return None
        path = Path(self._url.database)
        if not worth_bytes:
            # The reported size of the file includes the log next to it, so shorten the log first.
            await self._writer.do(lambda: self._kept_connections.call(self._write_engine, snapshot.shorten))
        before = await self._writer.do(
            lambda: (path.stat().st_size, *self._kept_connections.call(self._write_engine, _free))
        )
        size, free, incremental = before
        if free < max(1, worth_bytes) and (incremental or not convert):
            return None
        if not incremental:
            if not convert:
                return None
            await self._writer.do(lambda: self._kept_connections.call(self._write_engine, snapshot.convert))
        else:
            while await self._writer.do(
                lambda: self._kept_connections.call(self._write_engine, snapshot.give_back)
            ):
                pass
        await self._writer.do(lambda: self._kept_connections.call(self._write_engine, snapshot.shorten))
        after = path.stat().st_size  # noqa: ASYNC240  # one look
        return Vacuumed(size, after, max(0, size - after), not incremental)

    def _transact(self, engine: Engine, function: Callable[[Connection], T]) -> T:
        """Run a transaction in the writer thread."""
        try:
            connection = self._kept_connections.get(engine)
            with connection.begin():
                result = function(connection)
            self._committed(connection.info.pop(_COMMITTED, ()))
            return result
        except DATABASE_ERRORS as error:
            self._kept_connections.drop(engine)
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> PorticoError:
        return explain(error, self._url.database or "the database", is_shared=self.postgres is not None)

    def close(self) -> None:
        """Finish the queued work, then close the database."""
        self._writer.close()
        self._readers.shutdown(wait=True)
        if self.postgres is not None and self._direct_reads is not None:
            self._direct_reads.close()
            self.postgres.close()
            return
        for engine in tuple(self._kept_connections.held):
            self._kept_connections.drop(engine)
        self._write_engine.dispose()
        self._relaxed_engine.dispose()
        self._swift_engine.dispose()
        self._read_engine.dispose()


def _free(connection: sqlite3.Connection) -> tuple[int, bool]:
    return snapshot.free_bytes(connection), snapshot.is_incremental(connection)


def _rows_of(connection: Connection, query: DriverQuery, values: Mapping[str, Any]) -> list[list[Any]]:
    driver: Any = connection.connection.driver_connection
    return query.rows(driver, **values)
