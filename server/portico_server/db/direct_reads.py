"""Single statements on PostgreSQL in the caller's event loop, without a thread, SQLAlchemy or a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from portico_server.db.failures import CONNECTION_LOST_STATES

if TYPE_CHECKING:
    import asyncpg

    from portico_server.db.postgres import PostgresThread


class DirectReads:
    """Up to ``size`` connections of one event loop. A statement takes one round trip and sees one state of the data."""

    def __init__(self, postgres: PostgresThread, size: int) -> None:
        self._postgres = postgres
        self._size = size
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection[Any]] = []
        self._lifetime: AsyncGenerator[None, None] | None = None

    async def fetch(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement; ``values`` are those of ``$1``, ``$2`` and so on.

        An idle connection that was lost is replaced. Raises the errors of asyncpg, and `OSError` if the server cannot
        be reached or closes a new connection.
        """
        await self._enter_loop()
        async with self._free:
            while self._idle:
                try:
                    return await self._fetch_on(self._idle.pop(), statement, values)
                except ConnectionError:
                    continue
            return await self._fetch_on(await self._postgres.connect(), statement, values)

    async def _fetch_on(
        self, connection: asyncpg.Connection[Any], statement: str, values: Sequence[Any]
    ) -> list[Any]:
        """Run a statement, and keep the connection if it still works. Raise `ConnectionError` if it was lost."""
        is_usable = False
        try:
            records = await connection.fetch(statement, *values)
            is_usable = True
            return list(records)
        except self._postgres.errors as error:
            state = str(getattr(error, "sqlstate", None) or "")
            is_usable = bool(state) and not state.startswith(CONNECTION_LOST_STATES)
            if is_usable or isinstance(error, TimeoutError):
                raise
            raise ConnectionError(str(error)) from error
        finally:
            if is_usable and not connection.is_closed():
                self._idle.append(connection)
            else:
                connection.terminate()

    async def _enter_loop(self) -> None:
        """Use connections of the running event loop, which closes them when it ends."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._free, self._idle = loop, asyncio.Semaphore(self._size), []
            self._lifetime = self._close_with_loop(self._idle)
            await anext(self._lifetime)

    async def _close_with_loop(self, idle: list[asyncpg.Connection[Any]]) -> AsyncGenerator[None, None]:
        """Close the connections of a loop when it ends its asynchronous generators."""
        try:
            yield
        finally:
            for connection in idle:
                connection.terminate()
            idle.clear()

    def close(self) -> None:
        """Close the idle connections of a running event loop."""
        while self._idle:
            self._idle.pop().terminate()
