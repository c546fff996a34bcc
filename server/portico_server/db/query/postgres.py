"""A PostgreSQL server, asked in a read-only transaction that is rolled back: the server itself refuses to write."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.db.query.answer import (
    MAX_CELL_CHARS,
    MAX_COLUMNS,
    QUERY_TIMEOUT_S,
    QueryRows,
    TableInfo,
    collected,
    described,
    finite,
)

if TYPE_CHECKING:
    from asyncpg import Connection

_CONNECT_TIMEOUT_S: Final = 10.0
"""Seconds that the server may take to answer at all."""

_CLOSE_TIMEOUT_S: Final = 2.0
"""Seconds for an orderly end of a connection; then it is cut."""

_MAX_CONCURRENT_QUERIES: Final = 4
"""Connections that are open at a time; further queries wait."""

_NUMBERS: Final = {"int2", "int4", "int8", "float4", "float8", "bool"}
"""Types that JSON has; all others come as text, cut off by the server."""

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
"""Roles that let a SELECT read the server's own files, or run a program there."""


class PostgresSource:
    """A `Source`: the database at ``url``, ``postgresql://USER:PASSWORD@HOST/NAME``. One connection per query."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turns = asyncio.Semaphore(_MAX_CONCURRENT_QUERIES)

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> QueryRows:
        async with self._connected(timeout) as connection:
            # By itself first: what is not one whole statement must not come to be one inside of ours.
            found = (await connection.prepare(query)).get_attributes()
            if not found:
                raise InvalidRequest("The query has no columns to read.", code="query_failed", param="query")
            cells = ", ".join(
                _cell(f"c{n}", attribute.type.name) + f" as c{n}" for n, attribute in enumerate(found)
            )
            names = ", ".join(f"c{n}" for n in range(len(found)))
            bare = query.strip().rstrip(";")
            bounded = f"select {cells} from (\n{bare}\n) as asked({names}) limit {limit + 1:d}"  # noqa: S608
            rows = await connection.fetch(bounded, *parameters)
            return collected(
                [attribute.name for attribute in found], (map(finite, row) for row in rows), limit
            )

    async def tables(self) -> list[TableInfo]:
        async with self._connected(QUERY_TIMEOUT_S) as connection:
            return list(described(map(tuple, await connection.fetch(_TABLES, MAX_COLUMNS))))

    async def warning(self) -> str:
        """What the operator should know of the user in the address; empty where there is nothing. Raises as `read`."""
        async with self._connected(QUERY_TIMEOUT_S) as connection:
            found = [row[0] for row in await connection.fetch(_POWERS)]
            if not found:
                return ""
            user = await connection.fetchval("select current_user")
        powers = "is a superuser" if user in found else f"has the role {found[0]}"
        return (
            f"The user '{user}' of {shown(self._url)} {powers}: a query can read the files of that server. Give the "
            "address of a user who may read these tables and nothing else."
        )

    @asynccontextmanager
    async def _connected(self, timeout: float) -> AsyncIterator[Connection]:
        """A read-only transaction. What the server refuses becomes an error of ours."""
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
                    # Rolls back, and waits until the server has been told to end what still runs there.
                    with contextlib.suppress(
                        TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresError
                    ):
                        await connection.close(timeout=_CLOSE_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(
                f"{shown(self._url)} did not answer within {_CONNECT_TIMEOUT_S:g} s.",
                code="database_unreachable",
            ) from error
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise _explained(error, shown(self._url), timeout) from error


def shown(url: str) -> str:
    """An address without its password and its parameters."""
    return re.sub(r"//([^:@/]*)(:[^@/]*)?@", r"//\1@", url.partition("?")[0])


def _cell(name: str, kind: str) -> str:
    """The expression of one cell, cut off before it leaves the server."""
    if kind in _NUMBERS:
        return name
    if kind == "bytea":
        return f"'<' || octet_length({name}) || ' bytes>'"
    return (
        f"case when length({name}::text) > {MAX_CELL_CHARS} then left({name}::text, {MAX_CELL_CHARS}) || '… (' || "
        f"length({name}::text) || "
        f"' characters)' else {name}::text end"
    )


def _explained(error: Exception, where: str, timeout: float) -> InvalidRequest | Unavailable:
    import asyncpg

    match error:
        case asyncpg.QueryCanceledError():
            text = f"The query was stopped after {timeout:g} s."
        case asyncpg.ReadOnlySQLTransactionError():
            text = "Only reading is allowed here: one SELECT (or WITH … SELECT)."
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return Unavailable(f"{where} refuses us: {error}.", code="database_unreachable")
        case asyncpg.DataError():
            text = f"A parameter does not fit: {error}. Cast it from text, as in $1::text::date."
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            text = f"The query failed: {str(error)[:500]}."
        case _:
            return Unavailable(f"{where} cannot be reached: {error}.", code="database_unreachable")
    return InvalidRequest(text, code="query_failed", param="query")
