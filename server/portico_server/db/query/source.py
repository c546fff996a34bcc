"""Databases that tools query: query results, and descriptions of tables.

DuckDB and SQLite files are queried in a separate process, which can be killed. A PostgreSQL server is queried in a
read-only transaction that is rolled back, so the server itself rejects writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from portico._installed import how_to_add
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.subprocesses import run_isolated

if TYPE_CHECKING:
    from asyncpg import Connection


# A query of a database file runs in a separate process, which can be killed at any time. A thread could not
# be stopped, because SQLite and DuckDB check a deadline only between steps, and one step may take hours.


_START_TIMEOUT_S: Final = 5.0
"""Maximum seconds for starting the process, in addition to the time of the query."""


async def ask(worker: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return the worker's answer, or raise `InvalidRequest` if it takes longer than ``timeout`` seconds or fails."""
    start_time = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout + _START_TIMEOUT_S):
            output = await _run(worker, json.dumps({**request, "seconds": timeout}).encode())
    except TimeoutError as error:
        raise _error(f"The query was stopped after {timeout:g} s.") from error
    except ValueError as error:
        raise _error(f"The query cannot be run: {error}.") from error
    if not output and asyncio.get_running_loop().time() - start_time >= timeout:
        raise _error(f"The query was stopped after {timeout:g} s.")
    if not output:
        raise _error("The query was stopped because it needed more memory than is available.")
    answer: dict[str, Any] = json.loads(output)
    if "error" in answer:
        raise _error(" ".join(str(answer["error"]).split())[:600])
    return answer


async def _run(worker: Path, request: bytes) -> bytes:
    """Return the worker's output; if the caller is cancelled, the worker process is killed."""
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


def _error(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="query_failed", param="query")


_MAX_MEMORY_MB: Final = 1024


class _FileSource:
    """A `QuerySource` for the file at ``path``, which ``worker`` opens read-only and without access to other files or
    the network.
    """

    worker: Path

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> QueryRows:
        result = await self._ask(query, parameters, limit, timeout)
        return collected(result["columns"], result["rows"], limit)

    async def tables(self) -> list[TableInfo]:
        result = await self._ask(None, (), MAX_COLUMNS, QUERY_TIMEOUT_S)
        return list(tables_of(map(tuple, result["rows"])))

    async def warning(self) -> str:
        return ""  # the file is opened read-only, without access to other files

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
    """A DuckDB file. Raises `Unavailable` if the driver is not installed."""

    worker = Path(__file__).with_name("duckdb_worker.py")

    async def _ask(
        self, query: str | None, parameters: Sequence[Any], limit: int, timeout: float
    ) -> dict[str, Any]:
        if find_spec("duckdb") is None:
            raise Unavailable(
                f"DuckDB is not installed. Install it, and restart the daemon: {how_to_add('sql')}",
                code="not_installed",
            )
        return await super()._ask(query, parameters, limit, timeout)


_SERVERS: Final = ("postgresql://", "postgres://")


def is_server(address: str) -> bool:
    """Return whether an address refers to a server rather than a file. Raises `InvalidRequest` for unknown schemes."""
    if "://" in address and not address.startswith(_SERVERS):
        raise InvalidRequest(
            f"'{without_password(address)}' is not a database: use postgresql://USER@HOST/NAME, or the path "
            "of a SQLite or DuckDB file.",
            param="database",
        )
    return "://" in address


def open_source(address: str) -> QuerySource:
    """Return the database at ``address``: ``postgresql://…``, or the path of a file. This sends no query.

    Raises `InvalidRequest` if the address is not a database, and `Unavailable` if the driver is not installed.
    """
    if not is_server(address):
        return open_file(Path(address))
    if find_spec("asyncpg") is None:
        raise Unavailable(
            f"The PostgreSQL driver is not installed. Install it, and restart the daemon: {how_to_add('sql')}",
            code="not_installed",
        )
    return PostgresSource(address)


def open_file(path: Path) -> SqliteSource | DuckDBSource:
    """Return the database in a file, whose type is detected by its first bytes. Raises `InvalidRequest`."""
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


MAX_QUERY_CHARS: Final = 200_000
"""Maximum number of characters in all cells of a query result."""

MAX_CELL_CHARS: Final = 4_000
"""Maximum number of characters in a cell."""

QUERY_TIMEOUT_S: Final = 30.0
"""Maximum duration of a query in seconds."""

MAX_COLUMNS: Final = 5_000
"""Maximum number of columns, over all tables together, in a description of the tables."""


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The result of a query; ``truncated`` is true if there were more rows than were requested or fit.

    A cell is text, a number, true, false or null. Dates, exact decimals and similar values are text.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table or a view; its columns are (name, type)."""

    name: str
    kind: str
    columns: tuple[tuple[str, str], ...]


class QuerySource(Protocol):
    """A database for read-only queries."""

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> QueryRows:
        """Return up to ``limit`` rows of one query, which is stopped after ``timeout`` seconds or when the caller is
        cancelled.

        Raises `InvalidRequest` if the query is invalid, would change data, fails or takes too long, and `Unavailable`
        if the database cannot be reached.
        """

    async def tables(self) -> list[TableInfo]:
        """Return all readable tables and views, sorted by name. Raises the same errors as `read`."""

    async def warning(self) -> str:
        """Return a warning for the operator about avoidable risks of querying this database, or an empty string."""


def collected(columns: Sequence[str], rows: Iterable[Iterable[Any]], limit: int) -> QueryRows:
    """Return up to ``limit`` rows, as many as fit. Reads one more row to find out whether more exist."""
    kept_rows: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        cells = tuple(row)
        size += sum(len(value) if isinstance(value, str) else 8 for value in cells)
        if len(kept_rows) == limit or size > MAX_QUERY_CHARS:
            return QueryRows(tuple(columns), tuple(kept_rows), truncated=True)
        kept_rows.append(cells)
    return QueryRows(tuple(columns), tuple(kept_rows), truncated=False)


def finite(value: Any) -> Any:
    """Return the value; a number that JSON cannot represent is replaced by its name."""
    return str(value) if isinstance(value, float) and value - value != 0 else value


def tables_of(rows: Iterable[tuple[str, str, str, str]]) -> Iterator[TableInfo]:
    """Yield the tables described by sorted rows of (table, kind, column, type)."""
    name, kind = "", ""
    columns: list[tuple[str, str]] = []
    for table, table_kind, column, of in rows:
        if table != name:
            if name:
                yield TableInfo(name, kind, tuple(columns))
            name, kind, columns = table, table_kind, []
        columns.append((column, of))
    if name:
        yield TableInfo(name, kind, tuple(columns))


_CONNECT_TIMEOUT_S: Final = 10.0
"""Maximum seconds to wait for the server's first response."""

_CLOSE_TIMEOUT_S: Final = 2.0
"""Maximum seconds for closing a connection normally; after that, it is aborted."""

_MAX_CONCURRENT_QUERIES: Final = 4
"""Maximum number of concurrent queries, each with its own connection; further queries wait."""

_NUMBERS: Final = {"int2", "int4", "int8", "float4", "float8", "bool"}
"""Types that JSON supports; values of all other types arrive as text, which the server truncates."""

_TABLES: Final = """
select case when n.nspname = any(current_schemas(false)) then c.relname else n.nspname || '.' || c.relname end,
  case when c.relkind in ('v', 'm') then 'view' else 'table' end, a.attname, format_type(a.atttypid, a.atttypmod)
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and a.attnum > 0 and not a.attisdropped and not c.relispartition
  and has_schema_privilege(n.oid, 'USAGE') and has_column_privilege(c.oid, a.attnum, 'SELECT')
order by n.nspname, c.relname, a.attnum limit $1
"""

_POWERS: Final = """
select rolname from pg_roles where rolname = current_user and rolsuper
union all
select rolname from pg_roles where rolname in ('pg_read_server_files', 'pg_execute_server_program')
  and pg_has_role(current_user, oid, 'USAGE')
"""
"""Query for the roles of the current user that let a SELECT read the server's files, or run a program on the server."""


class PostgresSource:
    """A `QuerySource` for the database at ``url``, ``postgresql://USER:PASSWORD@HOST/NAME``, with one connection per
    query.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._turns = asyncio.Semaphore(_MAX_CONCURRENT_QUERIES)

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> QueryRows:
        async with self._connected(timeout) as connection:
            # The query is first prepared without the wrapper: a text that is not one complete statement must
            # not become valid inside the wrapper.
            attributes = (await connection.prepare(query)).get_attributes()
            if not attributes:
                raise InvalidRequest("The query returns no columns.", code="query_failed", param="query")
            cells = ", ".join(
                _cell(f"c{n}", attribute.type.name) + f" as c{n}" for n, attribute in enumerate(attributes)
            )
            names = ", ".join(f"c{n}" for n in range(len(attributes)))
            bare = query.strip().rstrip(";")
            bounded_query = f"select {cells} from (\n{bare}\n) as asked({names}) limit {limit + 1:d}"  # noqa: S608
            rows = await connection.fetch(bounded_query, *parameters)
            return collected(
                [attribute.name for attribute in attributes], (map(finite, row) for row in rows), limit
            )

    async def tables(self) -> list[TableInfo]:
        async with self._connected(QUERY_TIMEOUT_S) as connection:
            return list(tables_of(map(tuple, await connection.fetch(_TABLES, MAX_COLUMNS))))

    async def warning(self) -> str:
        """Return a warning for the operator about the rights of the user in the address, or an empty string. Raises
        the same errors as `read`.
        """
        async with self._connected(QUERY_TIMEOUT_S) as connection:
            found_powers = [row[0] for row in await connection.fetch(_POWERS)]
            if not found_powers:
                return ""
            user = await connection.fetchval("select current_user")
        powers = "is a superuser" if user in found_powers else f"has the role {found_powers[0]}"
        return (
            f"The user '{user}' of {without_password(self._url)} {powers}: a query can read files on that "
            "server. Use the address of a user who can only read these tables."
        )

    @asynccontextmanager
    async def _connected(self, timeout: float) -> AsyncIterator[Connection]:
        """Yield a connection in a read-only transaction. Translates server errors."""
        import asyncpg

        try:
            async with self._turns, asyncio.timeout(timeout + _CONNECT_TIMEOUT_S):
                connection = await asyncpg.connect(
                    self._url, timeout=_CONNECT_TIMEOUT_S, statement_cache_size=0
                )
                try:
                    await connection.execute("begin read only")
                    await connection.execute(f"set local statement_timeout = {timeout * 1e3:.0f}")
                    yield connection
                finally:
                    # Rolls back, and waits until the server has received the request to cancel the running
                    # query.
                    with contextlib.suppress(
                        TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresError
                    ):
                        await connection.close(timeout=_CLOSE_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(
                f"{without_password(self._url)} did not answer within {_CONNECT_TIMEOUT_S:g} s.",
                code="database_unreachable",
            ) from error
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise _explained(error, without_password(self._url), timeout) from error


def without_password(url: str) -> str:
    """Return an address without its password and its query parameters."""
    return re.sub(r"//([^:@/]*)(:[^@/]*)?@", r"//\1@", url.partition("?")[0])


def _cell(name: str, kind: str) -> str:
    """Return the SQL expression for a cell, which the server truncates."""
    if kind in _NUMBERS:
        return name
    if kind == "bytea":
        return f"'<' || octet_length({name}) || ' bytes>'"
    return (
        f"case when length({name}::text) > {MAX_CELL_CHARS} then left({name}::text, {MAX_CELL_CHARS}) || '… (' || "
        f"length({name}::text) || "
        f"' characters)' else {name}::text end"
    )


def _explained(error: Exception, place: str, timeout: float) -> InvalidRequest | Unavailable:
    import asyncpg

    match error:
        case asyncpg.QueryCanceledError():
            text = f"The query was stopped after {timeout:g} s."
        case asyncpg.ReadOnlySQLTransactionError():
            text = "Only reading is allowed here: one SELECT (or WITH … SELECT)."
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return Unavailable(f"{place} refuses us: {error}.", code="database_unreachable")
        case asyncpg.DataError():
            text = f"A parameter does not fit: {error}. Cast it from text, as in $1::text::date."
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            text = f"The query failed: {str(error)[:500]}."
        case _:
            return Unavailable(f"{place} cannot be reached: {error}.", code="database_unreachable")
    return InvalidRequest(text, code="query_failed", param="query")
