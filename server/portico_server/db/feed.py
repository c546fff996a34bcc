"""What the daemons on one PostgreSQL tell each other: that a table has changed, and small messages.

A daemon on SQLite is alone: nothing here runs or is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection, select

from portico_server.core.errors import PorticoError
from portico_server.db.database import RETRY_S, Database
from portico_server.db.schema import CHANNEL, epochs

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 1.0
"""Seconds between two looks at the epochs: what a lost notice costs."""

SEND_INTERVAL_S: Final = 0.05
"""Seconds in which messages are collected, so that many go together."""

MAX_NOTICE_BYTES: Final = 7_000
"""Bytes of one notice; PostgreSQL takes less than 8,000."""

Refresh: TypeAlias = Callable[[], Awaitable[None]]
Receive: TypeAlias = Callable[[str, Any], None]
"""Called with the name of the daemon that sent a message, and what it says."""


class Feed:
    """Refreshes what this daemon has read of a table when another daemon changes it, and carries messages.

    A change is a number in ``epochs``, written in the transaction of the change: the notice of it is only faster.
    Messages may be lost with a connection: nothing depends on them that is not found out otherwise.
    """

    def __init__(self, database: Database) -> None:
        self._postgres = database.postgres
        self._database = database
        self._refreshes: dict[str, Refresh] = {}
        self._receivers: dict[str, Receive] = {}
        self._seen: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._reports: dict[str, Callable[[bool], Mapping[str, Any]]] = {}
        self._wake = asyncio.Event()

    def refresh(self, table: str, refresh: Refresh) -> None:
        """Call ``refresh`` after another daemon has changed the table."""
        self._refreshes[table] = refresh
        if self._postgres is not None:
            self._postgres.watched = frozenset(self._refreshes)

    def receive(self, kind: str, receive: Receive) -> None:
        """Call ``receive`` with the messages of a kind that other daemons send."""
        self._receivers[kind] = receive

    def report(self, kind: str, collect: Callable[[bool], Mapping[str, Any]]) -> Callable[[], None]:
        """Send what ``collect`` returns, by name, to every other daemon: soon after the function that is returned was
        called, and, with ``True``, each second.
        """
        self._reports[kind] = collect
        return self._wake.set

    async def run(self) -> None:
        """Listen and send until cancelled; a connection that is lost is replaced."""
        while self._postgres is not None:
            try:
                connection = await self._postgres.connect()
                try:
                    await connection.add_listener(CHANNEL, self._listener)
                    await self._follow(connection)
                finally:
                    connection.terminate()
            except PorticoError as error:
                logger.warning("changes of other daemons are not heard just now: %s", error.message)
            except self._postgres.errors as error:
                logger.warning("changes of other daemons are not heard just now: %s", error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, connection: asyncpg.Connection[Any]) -> None:
        loop = asyncio.get_running_loop()
        polled = float("-inf")
        while True:
            self._wake.clear()
            poll = loop.time() - polled >= POLL_INTERVAL_S
            if poll:
                polled = loop.time()
                self._heard.update(await self._database.read(_numbers))
            await self._catch_up()
            await self._send(connection, poll)
            try:
                async with asyncio.timeout(max(0.0, polled + POLL_INTERVAL_S - loop.time())):
                    await self._wake.wait()
                    await asyncio.sleep(SEND_INTERVAL_S)
            except TimeoutError:
                continue

    async def _catch_up(self) -> None:
        for table, refresh in self._refreshes.items():
            number = self._heard.get(table, 0)
            if number > self._seen.get(table, 0):
                try:
                    await refresh()
                except PorticoError as error:
                    logger.warning("the changes of %s could not be read: %s", table, error.message)
                except (
                    Exception
                ):  # of one table, which is tried again: the others are followed, and the daemon serves
                    logger.exception("the changes of %s could not be taken over", table)
                else:
                    self._seen[table] = number

    async def _send(self, connection: asyncpg.Connection[Any], poll: bool) -> None:
        assert self._postgres is not None
        messages = [
            (kind, {name: report})
            for kind, collect in self._reports.items()
            for name, report in collect(poll).items()
        ]
        while messages:
            size, count = 0, 0
            for message in messages:
                size += len(orjson.dumps(message)) + 1
                if count and size > MAX_NOTICE_BYTES:
                    break
                count += 1
            said = orjson.dumps({"origin": self._postgres.origin, "messages": messages[:count]}).decode()
            await connection.execute("select pg_notify($1, $2)", CHANNEL, said)
            del messages[:count]

    def _listener(self, _connection: Any, _pid: int, _channel: str, said: str) -> None:
        assert self._postgres is not None
        try:
            notice: Mapping[str, Any] = orjson.loads(said)
            origin: str = notice["origin"]
            own = origin == self._postgres.origin
            for table, number in notice.get("epochs", {}).items():
                self._heard[table] = max(number, self._heard.get(table, 0))
                if own and self._seen.get(table, 0) == number - 1:
                    self._seen[table] = number  # made here, and known here
            for kind, data in () if own else notice.get("messages", ()):
                if kind in self._receivers:
                    self._receivers[kind](origin, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("a notice in the database cannot be read: %s", error)
        self._wake.set()


def _numbers(connection: Connection) -> dict[str, int]:
    return {row.topic: row.number for row in connection.execute(select(epochs.c.topic, epochs.c.number))}
