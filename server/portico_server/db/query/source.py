"""Opens the database that an address means. DuckDB and SQLite files are asked by a process that can be ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from portico._installed import how_to_add
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.db.query.answer import (
    MAX_CELL_CHARS,
    MAX_COLUMNS,
    MAX_QUERY_CHARS,
    QUERY_TIMEOUT_S,
    QueryRows,
    QuerySource,
    TableInfo,
    collected,
    described,
)
from portico_server.db.query.postgres import PostgresSource, shown
from portico_server.subprocesses import run_isolated

# A query of a database file in a process of its own, which can be ended whatever the database is busy with.
#
# A thread could not: SQLite and DuckDB look at a deadline between their steps, and one step may take hours.


_START_TIMEOUT_S: Final = 5.0
"""Seconds that a process may take to start, on top of the query's own time."""


async def ask(worker: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """What the worker says to ``asked``, or `InvalidRequest` if that takes longer than ``timeout`` seconds or fails."""
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout + _START_TIMEOUT_S):
            output = await _run(worker, json.dumps({**request, "seconds": timeout}).encode())
    except TimeoutError as error:
        raise _failed(f"The query was stopped after {timeout:g} s.") from error
    except ValueError as error:
        raise _failed(f"The query cannot be run: {error}.") from error
    if not output and asyncio.get_running_loop().time() - started >= timeout:
        raise _failed(f"The query was stopped after {timeout:g} s.")
    if not output:
        raise _failed("The query ended its process: it took more memory than there is for it.")
    answer: dict[str, Any] = json.loads(output)
    if "error" in answer:
        raise _failed(" ".join(str(answer["error"]).split())[:600])
    return answer


async def _run(worker: Path, request: bytes) -> bytes:
    """What the worker says; it does not outlive a caller who leaves."""
    process = await asyncio.create_subprocess_exec(
        *run_isolated(str(worker)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate(request)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    return output


def _failed(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="query_failed", param="query")


_MAX_MEMORY_MB: Final = 1024


class _FileSource:
    """A `QuerySource`: the file at ``path``, which ``worker`` has open for reading, without any way to other files or
    the network.
    """

    worker: Path

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> QueryRows:
        found = await self._ask(query, parameters, limit, timeout)
        return collected(found["columns"], found["rows"], limit)

    async def tables(self) -> list[TableInfo]:
        found = await self._ask(None, (), MAX_COLUMNS, QUERY_TIMEOUT_S)
        return list(described(map(tuple, found["rows"])))

    async def warning(self) -> str:
        return ""  # a file is opened for reading, without a way to others

    async def _ask(
        self, query: str | None, parameters: Sequence[Any], limit: int, timeout: float
    ) -> dict[str, Any]:
        request = {
            "path": str(self._path),
            "query": query,
            "parameters": list(parameters),
            "limit": limit,
            "memory_mb": _MAX_MEMORY_MB,
            "cell": MAX_CELL_CHARS,
            "longest": MAX_QUERY_CHARS,
        }
        return await ask(self.worker, request, timeout)


class SqliteSource(_FileSource):
    """A SQLite file."""

    worker = Path(__file__).with_name("sqlite_worker.py")


class DuckDBSource(_FileSource):
    """A DuckDB file. Raises `Unavailable` where the driver is not installed."""

    worker = Path(__file__).with_name("duckdb_worker.py")

    async def _ask(
        self, query: str | None, parameters: Sequence[Any], limit: int, timeout: float
    ) -> dict[str, Any]:
        if find_spec("duckdb") is None:
            raise Unavailable(
                f"DuckDB is not installed here. Install it, and start the daemon again: {how_to_add('sql')}",
                code="not_installed",
            )
        return await super()._ask(query, parameters, limit, timeout)


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


def open_source(address: str) -> QuerySource:
    """The database at ``address``: ``postgresql://…``, or the path of a file. Nothing is asked of it yet.

    Raises `InvalidRequest` for what is not a database, `Unavailable` if its driver is not installed.
    """
    if not is_server(address):
        return open_file(Path(address))
    if find_spec("asyncpg") is None:
        raise Unavailable(
            "The driver of PostgreSQL is not installed here. Install it, and start the daemon again: "
            f"{how_to_add('sql')}",
            code="not_installed",
        )
    return PostgresSource(address)


def open_file(path: Path) -> SqliteSource | DuckDBSource:
    """The database in a file, by its first bytes. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InvalidRequest(
            f"'{path.name}' cannot be read: {error.strerror or error}.", param="database"
        ) from error
    if head.startswith(b"SQLite format 3\0"):
        return SqliteSource(path)
    if head[8:12] == b"DUCK":
        return DuckDBSource(path)
    raise InvalidRequest(f"'{path.name}' is neither a SQLite nor a DuckDB file.", param="database")
