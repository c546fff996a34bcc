"""Reading and writing of table rows as dataclasses whose fields are columns of the table."""

from __future__ import annotations

import functools
import json
import operator
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import orjson
from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    Float,
    Select,
    Table,
    Text,
    cast,
    func,
    insert,
    literal,
    select,
)

from portico_server.core.dataclass import dataclass

if TYPE_CHECKING:
    import sqlite3

    from _typeshed import DataclassInstance
    from sqlalchemy.types import TypeEngine

Order = Literal["asc", "desc"]


def database_time(connection: Connection) -> float:
    """Return the time of the database's clock, which all daemons share. For SQLite, this is the local clock."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(_NOW).scalar_one())


_NOW = select(cast(func.extract("epoch", func.clock_timestamp()), Float))

_MAX_VALUES = 500
"""Maximum number of values in one statement, because SQLite limits them."""

ROW_BYTES = 256
"""Estimated size of a row on disk, in bytes, without its texts: numbers, times and index entries."""


def text_bytes(*texts: str | None) -> int:
    """Return the estimated size on disk, in bytes, of a row with these texts."""
    return ROW_BYTES + sum(len(text) if text.isascii() else len(text.encode()) for text in texts if text)


def json_bytes(*values: Mapping[str, Any] | Sequence[Any] | None) -> int:
    """Return the estimated size on disk, in bytes, of a row with these values as JSON."""
    plain = [
        dict(value) if isinstance(value, Mapping) else list(value) for value in values if value is not None
    ]
    try:
        return ROW_BYTES + sum(len(orjson.dumps(value)) for value in plain)
    except TypeError:  # a number of more than 64 bits, or a name that is not a string
        return text_bytes(*map(json.dumps, plain))


T = TypeVar("T")
R = TypeVar("R", bound="DataclassInstance")


def portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield values in portions that fit into one statement."""
    return (values[at : at + _MAX_VALUES] for at in range(0, len(values), _MAX_VALUES))


def may_have_another(connection: Connection, limit: int, *condition: ColumnElement[bool]) -> bool:
    """Return whether fewer than ``limit`` rows meet ``condition``, so that their owner may add another."""
    return int(connection.execute(select(func.count()).where(*condition)).scalar_one()) < limit


MAX_PAGE_CHARS: Final = 8_000_000
"""Maximum total number of characters in the long columns of a page's rows. Rows that exceed it go to the next page,
but a page has at least one row.
"""


def chars_of(*columns: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the SQL expression for the total number of characters in these columns."""
    lengths = (func.coalesce(func.length(cast(column, Text)), 0) for column in columns)
    return functools.reduce(operator.add, lengths, literal(0))


def count_fitting(
    connection: Connection, query: Select[Any], limit: int, chars: ColumnElement[Any]
) -> tuple[int, bool]:
    """Return how many of a query's rows, at most ``limit``, fit on a page, and whether more rows follow."""
    sizes = query.with_only_columns(chars, maintain_column_froms=True).limit(limit + 1)
    total = 0
    for count, size in enumerate(connection.execute(sizes).scalars()):
        total += size
        if count == limit or (count and total > MAX_PAGE_CHARS):
            return count, True
    return limit, False


@dataclass(frozen=True, slots=True)
class _CompiledQuery:
    """A statement of one dialect, its fixed values, the order of all values, and the converters of columns."""

    statement: str
    fixed_values: Mapping[str, Any]
    order: Sequence[str]
    readers: Sequence[tuple[int, Callable[[Any], Any]]]

    def converted(self, rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """Return rows with the values that SQLAlchemy would return."""
        converted_rows = [list(row) for row in rows]
        for row in converted_rows:
            for number, read in self.readers:
                row[number] = read(row[number])
        return converted_rows


class DriverQuery:
    """A query for the driver of a database, compiled on first use, that `Database.fetch` runs.

    For a few rows, SQLAlchemy takes several times as long as the database. ``postgres`` replaces the query on
    PostgreSQL.
    """

    def __init__(self, query: Select[Any], postgres: Select[Any] | None = None) -> None:
        self._query = query
        self._postgres_query = query if postgres is None else postgres

    @functools.cached_property
    def _for_sqlite(self) -> _CompiledQuery:
        from sqlalchemy.dialects import sqlite

        return _compiled(self._query, sqlite.dialect())

    @functools.cached_property
    def _for_postgres(self) -> _CompiledQuery:
        from sqlalchemy.dialects.postgresql import asyncpg

        dialect: Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]
        return _compiled(self._postgres_query, dialect)

    def rows(self, driver: sqlite3.Connection, /, **values: Any) -> list[list[Any]]:
        """Return all rows for these values on SQLite; the value for an ``in`` test is a sequence."""
        query = self._for_sqlite
        statement = query.statement
        parameters: list[Any] = []
        for name in query.order:
            value = values[name] if name in values else query.fixed_values[name]
            if isinstance(value, list | tuple | range):
                parameters += value
                marks = ", ".join("?" * len(value)) or "NULL"
                statement = statement.replace(f"__[POSTCOMPILE_{name}]", marks)
            else:
                parameters.append(value)
        return query.converted(driver.execute(statement, parameters))

    async def rows_of(
        self, fetch: Callable[[str, Sequence[Any]], Awaitable[Iterable[Sequence[Any]]]], **values: Any
    ) -> list[list[Any]]:
        """Return all rows for these values on PostgreSQL, where ``fetch`` runs a statement with positional values."""
        query = self._for_postgres
        parameters = [values[name] if name in values else query.fixed_values[name] for name in query.order]
        return query.converted(await fetch(query.statement, parameters))


def _compiled(query: Select[Any], dialect: Dialect) -> _CompiledQuery:
    compiler = query.compile(dialect=dialect)
    readers = [
        (number, reader)
        for number, column in enumerate(query.selected_columns)
        if (reader := _reader(column.type, dialect)) is not None
    ]
    return _CompiledQuery(str(compiler), compiler.params, compiler.positiontup or (), readers)


def _reader(column_type: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return the function that converts a column's value from the driver's; ``None`` if they are the same."""
    if dialect.name == "sqlite":
        return column_type.dialect_impl(dialect).result_processor(dialect, None)
    return (
        _load_json if isinstance(column_type, JSON) else None
    )  # asyncpg returns Python's values, but JSON as text


def _load_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@dataclass(frozen=True, slots=True)
class RowPage(Generic[T]):
    """A page of a list, in the requested order; ``has_more`` says whether another page follows."""

    data: tuple[T, ...]
    has_more: bool


class Rows(Generic[R]):
    """Reads and writes rows of ``table`` as ``row`` objects. ``select`` selects all rows; `first`, `every` and `page`
    run a query that is derived from it.
    """

    def __init__(self, table: Table, row: type[R]) -> None:
        self._table = table
        self._row = row
        self._names = [field.name for field in fields(row)]
        self.select: Select[Any] = select(*(table.c[name] for name in self._names))
        self._long = [table.c[name] for name in self._names if isinstance(table.c[name].type, Text | JSON)]

    def get(self, connection: Connection, row_id: str) -> R | None:
        """Return the row with an id, or ``None``."""
        return self.first(connection, self.select.where(self._table.c.id == row_id))

    def first(self, connection: Connection, query: Select[Any]) -> R | None:
        """Return the first row of a query, or ``None``."""
        row = connection.execute(query).first()
        return None if row is None else self._row(**row._mapping)

    def of(self, rows: Iterable[Sequence[Any]]) -> list[R]:
        """Return the rows of a `DriverQuery` that is derived from `select`."""
        return [self._row(*row) for row in rows]

    def every(self, connection: Connection, query: Select[Any]) -> list[R]:
        """Return all rows of a query."""
        return [self._row(**row._mapping) for row in connection.execute(query)]

    def page(self, connection: Connection, query: Select[Any], limit: int) -> RowPage[R]:
        """Return at most ``limit`` rows of a query, as many as fit on a page."""
        count, has_more = count_fitting(connection, query, limit, chars_of(*self._long))
        return RowPage(tuple(self.every(connection, query.limit(count))), has_more)

    def add(self, connection: Connection, /, *rows: R, **extra_columns: Any) -> None:
        """Insert new rows; ``extra_columns`` sets additional columns to the same value in all rows."""
        if rows:
            values = [{**{name: getattr(row, name) for name in self._names}, **extra_columns} for row in rows]
            connection.execute(insert(self._table), values)
