"""One database of a daemon: functions of a connection, run off the event loop; one writer, several readers."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.histogram import SHORT_BOUNDS, Histogram
from portico_server.db import snapshot
from portico_server.db.schema import HEAD
from portico_server.db.snapshot import Vacuumed
from portico_server.subprocesses import own

if TYPE_CHECKING:
    from portico_server.db.postgres import PostgresThread

# How long the database took, and how long its callers waited for their turn.


class Timings:
    """For one kind of work: ``waited`` until a thread and a connection were free, ``took`` from then on."""

    __slots__ = ("running", "took", "waited", "waiting")

    def __init__(self) -> None:
        self.waited = Histogram(SHORT_BOUNDS)
        self.took = Histogram(SHORT_BOUNDS)
        self.waiting = 0
        """Calls that wait for their turn."""
        self.running = 0
        """Calls that have one."""


# The one thread that writes.


T = TypeVar("T")

WriteJob: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any], float]


class WriterThread:
    """Does what it is given, one after another, in a thread.

    An executor of one thread does the same; its way there and back costs twice as much, which every durable step of a
    flow would pay.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.timings = Timings()
        self._jobs: SimpleQueue[WriteJob | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._at_work = False

    @property
    def busy(self) -> bool:
        """Whether it has something to do."""
        return self._at_work or not self._jobs.empty()

    @property
    def waiting(self) -> int:
        """How much it has still to begin."""
        return self._jobs.qsize()

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """What ``work`` will return or raise. Cancelled before its turn, it is not done."""
        if self._closed:
            raise RuntimeError(f"{self._name} is closed.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, work, perf_counter()))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._at_work = True
            loop, future, work, since = job
            started = perf_counter()
            self.timings.waited.observe(started - since)
            how: Callable[..., None] = _set_result
            what: Any = None
            if not future.cancelled():
                try:
                    what = work()
                except BaseException as error:  # noqa: BLE001  # whoever waits gets it
                    how, what = _set_exception, error
            self.timings.took.observe(perf_counter() - started)
            self._at_work = False  # before whoever waits looks again
            _resolve(loop, how, future, what)
            del job, loop, future, work, what  # the next one may be long in coming

    def close(self) -> None:
        """Do what is left, then end."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()


def _resolve(loop: asyncio.AbstractEventLoop, how: Callable[..., None], future: Any, what: Any) -> None:
    try:
        loop.call_soon_threadsafe(how, future, what)
    except RuntimeError:  # the loop has ended, and with it whoever waited
        return


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


logger = logging.getLogger(__name__)

P = ParamSpec("P")


DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, OverflowError)
"""What a database raises: its driver is spoken to past SQLAlchemy where that counts. A number of more than 64 bits
is an `OverflowError`.
"""

MAX_READERS = 4

RETRY_S = 2.0
"""Seconds after which it makes sense to ask again where it does not."""

CONNECTION_LOST_STATES = ("08", "25P03", "57P", "53300")
"""What the SQLSTATE of an error begins with that means the connection, or the server, and not the statement."""

MAX_WAL_BYTES = 64 * 1024 * 1024
"""Bytes of the write-ahead log that stay on disk once their changes are in the database: one large ingest must not
keep its size for ever.
"""

SLOW_DISK_S = 0.02
"""Seconds after which `Database.try_write_now` has met a slow disk: it takes a thousandth of that."""

HOLD_OFF_S = 10.0
"""Seconds in which it is not tried again after it took longer."""

READ_HOLD_OFF_S = 1.0
"""The same for `Database.read_now`."""


_COMMITTED = "portico.committed"
"""Where a connection keeps the topics of `after_commit`."""


def after_commit(connection: Connection, topic: str) -> None:
    """Set the event of `Database.on_commit` for a ``topic`` once the transaction under way is committed."""
    connection.info.setdefault(_COMMITTED, set()).add(topic)


_NO_TEXT = ("22021", "22P05")
"""The codes of PostgreSQL for U+0000 in a text, and in one within JSON."""


MAX_DIRECT_CHARS = 65_536
"""Characters of rows that are written in the event loop, where they are made."""


class Database:
    """SQLite in WAL mode at a path, or whatever a SQLAlchemy URL names.

    ``await database.read(function, *arguments)`` calls ``function(connection, *arguments)`` in a transaction of a
    reader thread, ``write`` likewise in the only writer thread; what ``write`` returned is on disk. ``write_soon`` is a
    ``write`` that does not wait for the disk: what it returned survives the end of this process, not a power cut.
    ``read_now`` reads a few rows without a thread.
    ``submit`` is either of these for a caller who continues meanwhile; ``rows`` and ``try_write_now`` are for the one
    statement that flows wait for, ``row`` for one that many calls wait for at once.
    """

    def __init__(self, url: str) -> None:
        self._url = _address(url)
        self.postgres = None
        if self._url.get_backend_name() != "sqlite":
            from portico_server.db.postgres import PostgresThread

            self.postgres = PostgresThread(self._url, MAX_READERS, self._explain)
        """What does the transactions on PostgreSQL, which several daemons may share; ``None`` on SQLite."""
        self._writer = WriterThread("portico-db-write")
        self._reading = Timings()
        self._readers = ThreadPoolExecutor(MAX_READERS, "portico-db-read")
        self._held: dict[Engine, Connection] = {}
        """Connections that stay open: to get one back from its pool costs more than a row."""
        self._events: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._groups: dict[str, list[tuple[Sequence[Any], int, asyncio.Future[None]]]] = {}
        """Rows that are written at the end of this turn of the event loop, by their statement."""
        self._swift_from = 0.0
        """The moment from which `try_write_now` may be tried."""
        self._read_now_from = 0.0
        """The moment from which `read_now` may be tried."""
        if self.postgres is not None:
            return
        self._write_engine = self._engine("BEGIN IMMEDIATE", pool_size=1)
        self._relaxed_engine = self._engine("BEGIN IMMEDIATE", pool_size=1, synchronous="NORMAL")
        self._read_engine = self._engine("BEGIN", pool_size=MAX_READERS)
        # Nothing that waits: neither for a lock, nor for the disk in a checkpoint, which is left to the others.
        self._swift_engine = self._engine(
            "BEGIN IMMEDIATE", pool_size=1, synchronous="NORMAL", timeout=0, more=("wal_autocheckpoint=0",)
        )

    @classmethod
    def at(cls, path: Path) -> Database:
        return cls(f"sqlite:///{path}")

    def _engine(
        self,
        begin: str,
        *,
        pool_size: int,
        synchronous: str = "FULL",
        timeout: float = 30,
        more: Sequence[str] = (),
    ) -> Engine:
        engine = create_engine(
            self._url,
            pool_size=pool_size,
            max_overflow=0,
            connect_args={"check_same_thread": False, "timeout": timeout},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we begin transactions, below
            # Of a new file alone, before anything is written: elsewhere it would wait for whoever writes.
            if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
                connection.execute(f"PRAGMA auto_vacuum={snapshot.INCREMENTAL_VACUUM_CODE}")
            for pragma in (
                "journal_mode=WAL",
                f"synchronous={synchronous}",
                f"journal_size_limit={MAX_WAL_BYTES}",
                "foreign_keys=ON",
                "temp_store=MEMORY",
                # Mapped, each page counts as ours once for each connection, and a disk that fails ends the process.
                "mmap_size=0",
                *more,
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            driver: Any = connection.connection.driver_connection
            driver.execute(begin)  # past SQLAlchemy, which takes as long again for it

        return engine

    def prepare(self) -> None:
        """Open, and migrate if needed. Raises `Unavailable` with what to do if the file is damaged or newer than us."""
        try:
            if self.postgres is not None:
                # Another daemon may be at it just now: whoever has the lock looks again, and finds nothing to do.
                self.postgres.wait_for_write(self._bring_up)
                return
            with self._read_engine.connect() as connection:
                found = self._revision(connection)
            if found == HEAD:
                return
            from portico_server.db.migrate import upgrade

            upgrade(self._write_engine)
        except DATABASE_ERRORS as error:
            raise self._explain(error) from error

    def _revision(self, connection: Connection) -> str | None:
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        return connection.execute(text("select version_num from alembic_version")).scalar()

    def _bring_up(self, connection: Connection) -> None:
        if self._revision(connection) != HEAD:
            from portico_server.db.migrate import bring_up

            bring_up(connection)

    async def check(self) -> None:
        """Return if the database answers and has the schema of this version. Raises `Unavailable`."""
        found = await self.read(self._revision)
        if found != HEAD:
            raise Unavailable(
                f"The database has the schema {found}, and this version needs {HEAD}: it is being migrated, or another "
                "version works on it.",
                code="database_not_migrated",
            )

    async def read(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        timings = self._reading
        since, started = perf_counter(), 0.0

        def work() -> T:
            nonlocal started
            started = perf_counter()
            try:
                with self._read_engine.begin() as connection:
                    return function(connection, *args, **kwargs)
            except DATABASE_ERRORS as error:
                raise self._explain(error) from error

        def work_on(connection: Connection) -> T:
            nonlocal started
            started = perf_counter()
            return function(connection, *args, **kwargs)

        timings.running += 1
        try:
            if self.postgres is not None:
                return await self.postgres.read(work_on)
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        finally:
            timings.running -= 1
            if started:
                timings.waited.observe(started - since)
                timings.took.observe(perf_counter() - started)

    def read_now(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """What ``function`` reads of a few rows, done in the event loop before this returns, with SQLite's own
        connection. ``None``: it found nothing, or was not done, and `read` should.

        The way to a reader and back costs more than the rows. Where reading took long of late, it is not tried.
        """
        if self.postgres is not None or time.monotonic() < self._read_now_from:
            return None
        held = self._held.get(self._swift_engine)
        if held is None:
            self._writer.do(lambda: self._kept_connection(self._swift_engine))  # to open a file takes longer
            return None
        started = perf_counter()
        try:
            driver: Any = held.connection.driver_connection
            return function(driver, *args, **kwargs)
        except DATABASE_ERRORS:
            self._drop_connection(self._swift_engine)
            return None  # the reader reports why, should it meet the same
        finally:
            took = perf_counter() - started
            self._reading.took.observe(took)
            if took > SLOW_DISK_S:
                self._read_now_from = time.monotonic() + READ_HOLD_OFF_S

    def load(self) -> Mapping[str, Timings]:
        """How busy it is, by ``read`` and ``write``."""
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
        """`write` if ``full``, else `write_soon`, that begins now: what it will return or raise."""
        if self.postgres is not None:
            return self._timed(self.postgres, function, full)
        engine = self._write_engine if full else self._relaxed_engine
        return self._writer.do(lambda: self._transact(engine, function))

    def on_commit(self, topic: str, event: asyncio.Event) -> None:
        """Set ``event`` after each transaction of this daemon that has called `after_commit` with ``topic``."""
        self._events[topic] = (asyncio.get_running_loop(), event)

    def _committed(self, topics: Iterable[str]) -> None:
        for topic in topics:
            if topic in self._events:
                loop, event = self._events[topic]
                with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                    loop.call_soon_threadsafe(event.set)

    @asynccontextmanager
    async def exclusive(self, name: str, *, wait_s: float = math.inf) -> AsyncIterator[bool]:
        """Keep a name from other daemons on the same database; yields whether it is ours, see `PostgresThread`."""
        if self.postgres is None:
            yield True
            return
        async with self.postgres.exclusive(name, wait_s=wait_s) as ours:
            yield ours

    def _timed(
        self, postgres: PostgresThread, function: Callable[[Connection], T], full: bool
    ) -> asyncio.Future[T]:
        timings, since = self._writer.timings, perf_counter()
        started = 0.0
        topics: set[str] = set()

        def work(connection: Connection) -> T:
            nonlocal started, topics
            started = perf_counter()
            timings.waiting -= 1
            timings.running = 1
            result = function(connection)
            topics = connection.info.pop(_COMMITTED, topics)
            return result

        def ended(_future: asyncio.Future[T]) -> None:
            self._committed(topics)
            timings.running = 0
            if not started:
                timings.waiting -= 1
                return
            timings.waited.observe(started - since)
            timings.took.observe(perf_counter() - started)

        timings.waiting += 1
        future = postgres.write(work, full=full)
        future.add_done_callback(ended)
        return future

    def rows(
        self, statement: str, rows: Sequence[Sequence[Any]], *, full: bool
    ) -> asyncio.Future[None] | None:
        """`submit` of one SQLite statement for several rows, past SQLAlchemy: its transaction costs as much
        as the row. ``None`` on another database, where nothing was done.
        """
        if self.postgres is not None:
            return None
        engine = self._write_engine if full else self._relaxed_engine
        return self._writer.do(lambda: self._insert(engine, statement, rows))

    async def row(self, statement: str, row: Sequence[Any], chars: int) -> bool:
        """`rows`, not ``full``, of one row of so many ``chars``, in one transaction with the others of the same turn of
        the event loop: while many calls end, most of a transaction is its commit. `False` on another database, where
        nothing was done.
        """
        if self.postgres is not None:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        group = self._groups.setdefault(statement, [])
        group.append((row, chars, future))
        if len(group) == 1:
            loop.call_soon(self._write_group, statement)
        await future
        return True

    def _write_group(self, statement: str) -> None:
        group = [waiting for waiting in self._groups.pop(statement) if not waiting[2].done()]
        rows = [row for row, _chars, _future in group]
        futures = [future for _row, _chars, future in group]
        small = sum(chars for _row, chars, _future in group) < MAX_DIRECT_CHARS

        def settle(written: asyncio.Future[list[Exception | None]]) -> None:
            for future, error in zip(futures, written.result(), strict=True):
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        try:
            if not rows or (small and self.try_write_now(statement, rows)):
                for future in futures:
                    future.set_result(None)
            else:
                self._writer.do(lambda: self._insert_each(statement, rows)).add_done_callback(settle)
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            for future in futures:
                future.set_exception(error)

    def _insert_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> list[Exception | None]:
        """Write rows together, or else each by itself; what each failed with. In the writer thread."""
        try:
            self._insert(self._relaxed_engine, statement, rows)
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            if len(rows) == 1:
                return [error]
            return [self._insert_each(statement, [row])[0] for row in rows]
        return [None] * len(rows)

    def try_write_now(self, statement: str, rows: Sequence[Sequence[Any]]) -> bool:
        """`rows`, not ``full``, done in the event loop before this returns. ``False``: not done, and `rows` should.

        The way to the writer and back costs more than the row. What is written here goes to the system's memory alone;
        where another writes just now, or the disk was slow of late, it is not tried: a stream must not wait for a disk.
        """
        if self.postgres is not None or self._writer.busy or time.monotonic() < self._swift_from:
            return False
        if self._swift_engine not in self._held:
            self._writer.do(lambda: self._kept_connection(self._swift_engine))  # to open a file takes longer
            return False
        started = time.monotonic()
        try:
            self._insert(self._swift_engine, statement, rows)
        except PorticoError:
            return False  # the writer reports why, should it meet the same
        finally:
            if (now := time.monotonic()) - started > SLOW_DISK_S:
                self._swift_from = now + HOLD_OFF_S
        return True

    async def vacuum(self, *, convert: bool = True, worth_bytes: int = 0) -> Vacuumed | None:
        """Give back the pages of a SQLite file that nothing uses, a few in each transaction.

        ``None`` if it was not done: on another database, or where less than ``worth_bytes`` are free. An old file
        cannot do it by itself and is rewritten as a whole if ``convert``: writers wait meanwhile, readers do not.
        """
        if self.postgres is not None or self._url.database is None:
            return None
        path = Path(self._url.database)
        if not worth_bytes:
            # Somebody asks: the file is then as large as they are told, not what it was before the log beside it.
            await self._writer.do(lambda: self._on_driver(snapshot.shorten))
        before = await self._writer.do(lambda: (path.stat().st_size, *self._on_driver(_free)))
        size, free, incremental = before
        if free < max(1, worth_bytes) and (incremental or not convert):
            return None
        if not incremental:
            if not convert:
                return None
            await self._writer.do(lambda: self._on_driver(snapshot.convert))
        else:
            while await self._writer.do(lambda: self._on_driver(snapshot.give_back)):
                pass
        await self._writer.do(lambda: self._on_driver(snapshot.shorten))
        return Vacuumed(size, path.stat().st_size, not incremental)  # noqa: ASYNC240  # one look

    def _on_driver(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call a function with the writer's own connection, outside of a transaction. In the writer thread."""
        try:
            driver: Any = self._kept_connection(self._write_engine).connection.driver_connection
            return function(driver)
        except DATABASE_ERRORS as error:
            self._drop_connection(self._write_engine)
            raise self._explain(error) from error

    def _insert(self, engine: Engine, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            driver: Any = self._kept_connection(engine).connection.driver_connection
            driver.execute("BEGIN IMMEDIATE")
            try:
                driver.executemany(statement, rows)
                driver.execute("COMMIT")
            except BaseException:
                driver.rollback()  # nothing where SQLite has done so itself: a full disk must keep its name
                raise
        except DATABASE_ERRORS as error:
            self._drop_connection(engine)
            raise self._explain(error) from error

    def _kept_connection(self, engine: Engine) -> Connection:
        """The connection that is kept."""
        held = self._held.get(engine)
        if held is None:
            held = self._held[engine] = engine.connect()
        return held

    def _transact(self, engine: Engine, function: Callable[[Connection], T]) -> T:
        """One transaction, in the writer thread."""
        try:
            held = self._kept_connection(engine)
            with held.begin():
                result = function(held)
            self._committed(held.info.pop(_COMMITTED, ()))
            return result
        except DATABASE_ERRORS as error:
            self._drop_connection(engine)
            raise self._explain(error) from error

    def _drop_connection(self, engine: Engine) -> None:
        """The next transaction has a connection of its own, whatever has become of this one."""
        held = self._held.pop(engine, None)
        if held is not None:
            with suppress(*DATABASE_ERRORS):
                held.close()

    def _explain(self, error: Exception) -> PorticoError:
        if isinstance(error, PoolTimeout):
            return Unavailable(
                "All connections to the database are in use. Try again in a moment.",
                code="busy",
                retry_after=RETRY_S,
            )
        if _is_away(error):
            logger.error("the database does not answer: %s", getattr(error, "orig", error))
            return Unavailable(
                "The database does not answer. Nothing was changed; try again in a moment. The operator finds the "
                "reason in the log.",
                code="database_unavailable",
                retry_after=RETRY_S,
            )
        if getattr(getattr(error, "orig", error), "sqlstate", None) in _NO_TEXT:
            return InvalidRequest(
                "A text of the request has the character U+0000, which the database cannot hold. Leave it out.",
                code="invalid_value",
            )
        reason = str(getattr(error, "orig", error)).lower()
        if isinstance(error, OverflowError | DataError):
            return InvalidRequest(
                f"A value is beyond what the database can hold: {reason[:200]}.", code="value_out_of_range"
            )
        where = self._url.database or "the database"
        if "full" in reason and isinstance(error, OperationalError | sqlite3.OperationalError):
            return Unavailable(
                f"The disk that holds {where} is full. Nothing was changed; free some space and try again.",
                code="disk_full",
            )
        if "i/o error" in reason:  # a disk without any room at all fails so, too
            return Unavailable(
                f"The disk that holds {where} is full or does not work ({reason}). Nothing was changed; look at it, "
                "and try again.",
                code="disk_failed",
            )
        if "readonly" in reason:
            return Unavailable(
                f"The database {where} may only be read. Let this user write it, or set PORTICO_HOME to another one.",
                code="database_readonly",
            )
        if isinstance(error, DatabaseError | sqlite3.DatabaseError) and (
            "malformed" in reason or "not a database" in reason
        ):
            return Unavailable(
                f"The database {where} is damaged ({reason}). Move it aside, with its -wal and -shm files, and start "
                "again: folders are indexed again; or restore it from a backup.",
                code="database_damaged",
            )
        if "locked" in reason:
            return Unavailable(f"The database {where} is held by another program. Try again.", code="busy")
        if self.postgres is not None:  # it may name hosts, and values of other people
            logger.error("the database could not do that: %s", getattr(error, "orig", error))
            reason = "the log has the details"
        return PorticoError(f"The database could not do that: {reason}.", code="database_error")

    def close(self) -> None:
        """Finish what is queued, then let go of the file."""
        self._writer.close()
        self._readers.shutdown(wait=True)
        if self.postgres is not None:
            self.postgres.close()
            return
        for engine in tuple(self._held):
            self._drop_connection(engine)
        self._write_engine.dispose()
        self._relaxed_engine.dispose()
        self._swift_engine.dispose()
        self._read_engine.dispose()


def _is_away(error: Exception) -> bool:
    """Whether a database behind a network cannot be reached, or ends connections."""
    cause = getattr(error, "orig", error)
    if isinstance(error, OSError):  # a connection could not be made, or did not answer in time
        return True
    if isinstance(cause, sqlite3.Error) or not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(CONNECTION_LOST_STATES)


def _free(connection: sqlite3.Connection) -> tuple[int, bool]:
    return snapshot.free_bytes(connection), snapshot.is_incremental(connection)


def _address(url: str) -> URL:
    """The URL as SQLAlchemy reads it. Raises `InvalidRequest`, without the URL, in which a password may stand."""
    try:
        found = make_url(re.sub("^postgres://", "postgresql://", url))
    except SQLAlchemyError as error:
        raise _no_address() from error
    if found.drivername in ("sqlite", "sqlite+pysqlite"):
        return found
    if found.drivername not in ("postgresql", "postgresql+asyncpg"):
        raise _no_address()
    for package in ("asyncpg", "greenlet"):
        if find_spec(package) is None:
            raise InvalidRequest(
                f"The setting 'database' names a PostgreSQL, which needs the package '{package}': "
                f"{own()} -m pip install asyncpg greenlet",
                code="missing_package",
                param="database",
            )
    return found.set(drivername="postgresql")


def _no_address() -> InvalidRequest:
    return InvalidRequest(
        "The setting 'database' is not the address of a PostgreSQL. It looks like postgresql://USER@HOST/NAME; without "
        "it the daemon keeps its data in its home folder.",
        param="database",
    )
