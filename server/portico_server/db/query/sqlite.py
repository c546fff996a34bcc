"""A SQLite file, opened for reading: SQLite itself refuses everything else, by its mode and by an authorizer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

from portico_server.core.errors import InvalidRequest
from portico_server.db.query.answer import MOST_COLUMNS, TIMEOUT, Rows, Table, cell, collected, described

T = TypeVar("T")

_VALUE_BYTES: Final = 8 * 1024 * 1024
_STEPS: Final = 5_000
"""Instructions of SQLite's machine between two looks at the clock."""

_ALLOWED: Final = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_FUNCTION,
}
_FORBIDDEN_FUNCTIONS: Final = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}

_TABLES: Final = """
select m.name, m.type, p.name, p.type from sqlite_schema m join pragma_table_info(m.name) p
where m.type in ('table', 'view') and m.name not like 'sqlite\\_%' escape '\\' order by m.name, p.cid
"""


class SQLite:
    """A `Source`: the file at ``path``. Queries run in threads, each with a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> Rows:
        def work(connection: sqlite3.Connection) -> Rows:
            connection.set_authorizer(_authorize)
            cursor = connection.execute(query, parameters)
            return collected(
                [item[0] for item in cursor.description or ()], (map(cell, row) for row in cursor), limit
            )

        return await self._ask(work, timeout)

    async def tables(self) -> list[Table]:
        def work(connection: sqlite3.Connection) -> list[Table]:
            return list(described(connection.execute(_TABLES).fetchmany(MOST_COLUMNS)))

        return await self._ask(work, TIMEOUT)

    async def _ask(self, work: Callable[[sqlite3.Connection], T], timeout: float) -> T:
        left = threading.Event()
        try:
            return await asyncio.to_thread(self._connected, work, timeout, left)
        finally:
            left.set()  # the query of a caller who has left ends soon

    def _connected(self, work: Callable[[sqlite3.Connection], T], timeout: float, left: threading.Event) -> T:
        until = time.monotonic() + timeout

        def over() -> int:
            return int(time.monotonic() > until or left.is_set())

        try:
            address = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
                connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
                connection.set_progress_handler(over, _STEPS)
                return work(connection)
        except sqlite3.Error as error:
            raise InvalidRequest(_explained(error, timeout), code="query_failed", param="query") from error
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(
                f"The query cannot be run: {error}.", code="query_failed", param="query"
            ) from error


def _authorize(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _explained(error: sqlite3.Error, timeout: float) -> str:
    text = str(error)
    if "interrupted" in text:
        return f"The query was stopped after {timeout:g} s."
    if "not authorized" in text or "prohibited" in text or "readonly" in text:
        return "Only reading is allowed here: one SELECT (or WITH … SELECT), no PRAGMA, no ATTACH."
    return f"The query failed: {text[:500]}."
