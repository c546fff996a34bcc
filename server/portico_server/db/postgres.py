"""PostgreSQL for `Database`: SQLAlchemy and asyncpg in a thread with its own event loop, and notices between
daemons.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from sqlalchemy import URL, Connection, TextClause, event, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from portico_server.core.errors import PorticoError
from portico_server.db.enforcement import APPLICATION_NAME
from portico_server.db.schema import CHANNEL, epochs

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0
"""Maximum seconds for the server to accept a connection."""

COMMAND_TIMEOUT_S: Final = 120.0
"""Maximum duration of a statement in seconds, including the wait while other daemons write."""

IDLE_TRANSACTION_TIMEOUT_MS: Final = 30_000
"""Milliseconds after which the server ends an idle transaction, because other daemons wait for its lock."""

WRITER_LOCK_CODE: Final = 8_642_001
"""The advisory lock that each writing transaction takes.

Daemons write one after another, as with SQLite, so that a check and the change that depends on it are atomic.
"""

TURN_INTERVAL_S: Final = 0.1
"""Seconds between two checks whether another daemon still holds the lock on a name."""

_LOCK = text(f"select pg_advisory_xact_lock({WRITER_LOCK_CODE})")
_LOCK_RELAXED = text(
    f"select pg_advisory_xact_lock({WRITER_LOCK_CODE}), set_config('synchronous_commit', 'off', true)"
)


class PostgresThread:
    """Runs transactions in a thread with its own event loop: a few reads at a time, and one write after another.

    ``origin`` identifies this daemon in notices. In its own transaction, a write increments the epoch of each
    ``watched`` table that it has changed, and notifies the other daemons.
    """

    def __init__(self, url: URL, readers: int, explain: Callable[[Exception], PorticoError]) -> None:
        self._explain = explain
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="portico-db", daemon=True)
        self._thread.start()
        self._read_engine = self._engine(readers, isolation_level="REPEATABLE READ")
        self._write_engine = self._engine(1)
        self._reading = asyncio.Semaphore(readers)
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._locks: asyncpg.Connection[Any] | None = None
        self._locking = asyncio.Lock()
        self.origin = os.urandom(6).hex()
        self.watched: Collection[str] = ()
        self._changed_tables: set[str] = set()

        @event.listens_for(self._write_engine.sync_engine, "before_execute")
        def note(_connection: Connection, statement: Any, *_arguments: Any) -> None:
            if getattr(statement, "is_dml", False) and statement.table.name in self.watched:
                self._changed_tables.add(statement.table.name)

    def _engine(self, size: int, **options: Any) -> AsyncEngine:
        # A broken connection is detected by its first statement, and replaced (`_open`): a ping before each
        # transaction would cost as much as reading a row.
        return create_async_engine(
            "postgresql+asyncpg://", async_creator=self.connect, pool_size=size, max_overflow=0, **options
        )

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The exceptions that `connect` and the connections it returns raise."""
        import asyncpg

        # A statement on a connection that has just been lost raises `InternalClientError`.
        return OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError

    async def connect(self) -> asyncpg.Connection[Any]:
        """Return a separate connection in the caller's event loop. Raises `OSError` for any connection failure."""
        import asyncpg

        try:
            return await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={
                    "application_name": APPLICATION_NAME,
                    "idle_in_transaction_session_timeout": str(IDLE_TRANSACTION_TIMEOUT_MS),
                },
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConnectionError(str(error)) from error

    def read(self, function: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Run a transaction on a consistent snapshot; run it again if the connection was broken."""

        async def once() -> T:
            async with self._read_engine.begin() as connection:
                return await connection.run_sync(function)

        async def work() -> T:
            async with self._reading:
                try:
                    return await once()
                except DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                    return await once()

        return self._do(work)

    def write(self, function: Callable[[Connection], T], *, full: bool = True) -> asyncio.Future[T]:
        """Run a transaction while no other transaction writes. Unless ``full``, a power failure of the server may lose
        the result.
        """
        return self._do(partial(self._write, function, _LOCK if full else _LOCK_RELAXED))

    async def _write(self, function: Callable[[Connection], T], lock: TextClause) -> T:
        async with self._writing, self._open(lock) as connection:
            self._changed_tables.clear()
            result = await connection.run_sync(function)
            if self._changed_tables:
                await connection.run_sync(self._advance)
            await connection.commit()
            return result

    @asynccontextmanager
    async def _open(self, first: TextClause) -> AsyncIterator[AsyncConnection]:
        """Yield a connection whose transaction begins with the statement ``first``; a broken connection is replaced."""
        connection = await self._write_engine.connect()
        try:
            try:
                await connection.execute(first)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                await connection.close()
                connection = await self._write_engine.connect()
                await connection.execute(first)
            yield connection
        finally:
            await connection.close()

    def _advance(self, connection: Connection) -> None:
        """Increment the epochs of the watched tables that the transaction changed, and notify the other daemons."""
        statement = insert(epochs).values(
            [{"topic": topic, "number": 1} for topic in sorted(self._changed_tables)]
        )
        statement = statement.on_conflict_do_update(
            index_elements=[epochs.c.topic], set_={"number": epochs.c.number + 1}
        )
        numbers = connection.execute(statement.returning(epochs.c.topic, epochs.c.number))
        notice = {"origin": self.origin, "epochs": {row.topic: row.number for row in numbers}}
        connection.execute(select(func.pg_notify(CHANNEL, orjson.dumps(notice).decode())))

    def _do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Future[T]:
        """Start ``work`` and return its future. The work runs to completion even if no task awaits it any more."""
        if self._is_closed:
            raise RuntimeError("The database is closed.")

        async def begin() -> T:
            task = asyncio.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            try:
                return await asyncio.shield(task)
            except (SQLAlchemyError, OSError, OverflowError) as error:
                raise self._explain(error) from error

        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), self._loop))

    def wait_for_write(self, function: Callable[[Connection], T]) -> T:
        """Run `write`, and wait for the result without an event loop."""
        return asyncio.run_coroutine_threadsafe(self._write(function, _LOCK), self._loop).result()

    @asynccontextmanager
    async def exclusive(self, name: str, *, wait_s: float) -> AsyncIterator[bool]:
        """Lock a name against all other daemons; after at most ``wait_s`` seconds, yield whether this daemon holds the
        lock.

        The lock has no effect within this daemon. PostgreSQL releases the locks of a daemon that has ended.
        """
        key = int.from_bytes(sha256(name.encode()).digest()[:8], "big", signed=True)
        until = time.monotonic() + wait_s
        is_ours = await self._try_lock(key)
        while not is_ours and time.monotonic() < until:
            await asyncio.sleep(TURN_INTERVAL_S)
            is_ours = await self._try_lock(key)
        try:
            yield is_ours
        finally:
            if is_ours:
                await asyncio.shield(self._unlock(key))

    async def _try_lock(self, key: int) -> bool:
        """Return whether the lock was acquired. If the caller is cancelled meanwhile, release the lock again."""
        future = self._do(partial(self._ask, "select pg_try_advisory_lock($1)", key))

        async def give_back() -> None:
            with suppress(PorticoError):
                if await future:
                    await self._unlock(key)

        try:
            return bool(await asyncio.shield(future))
        except asyncio.CancelledError:
            await asyncio.shield(give_back())
            raise

    async def _unlock(self, key: int) -> None:
        with suppress(PorticoError):  # a lost connection no longer holds locks
            await self._do(partial(self._ask, "select pg_advisory_unlock($1)", key))

    async def _ask(self, query: str, *values: Any) -> Any:
        """Run a query on the connection that holds this daemon's advisory locks."""
        try:
            async with self._locking:
                if self._locks is None or self._locks.is_closed():
                    self._locks = await self.connect()
                return await self._locks.fetchval(query, *values)
        except self.errors as error:
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Finish the transactions that have started, then close the connections."""
        self._is_closed = True

        async def end() -> None:
            while self._tasks:
                await asyncio.wait(self._tasks)
            if self._locks is not None:
                await self._locks.close()
            await self._read_engine.dispose()
            await self._write_engine.dispose()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
