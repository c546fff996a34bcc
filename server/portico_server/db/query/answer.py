"""What a query answers, and how a database describes itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

MAX_QUERY_CHARS: Final = 200_000
"""Characters of all cells of an answer together."""

MAX_CELL_CHARS: Final = 4_000
"""Characters of one cell."""

QUERY_TIMEOUT_S: Final = 30.0
"""Seconds that a query may take."""

MAX_COLUMNS: Final = 5_000
"""Columns of all tables together that a description has room for."""


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The answer to a query; ``truncated`` if there was more than was asked for or fits.

    A cell is text, a number, true, false or nothing: dates, exact decimals and the like are text.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table or a view, and its columns as (name, type)."""

    name: str
    kind: str
    columns: tuple[tuple[str, str], ...]


class QuerySource(Protocol):
    """A database that can be read."""

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> QueryRows:
        """Up to ``limit`` rows of one query. Ended with the task that waits, and after ``timeout`` seconds.

        Raises `InvalidRequest` for what is not a query, would change something, fails or takes too long, `Unavailable`
        when the database cannot be reached.
        """

    async def tables(self) -> list[TableInfo]:
        """All tables and views that may be read, by name. Raises as `read` does."""

    async def warning(self) -> str:
        """What makes it more dangerous to ask than it need be, for the operator; empty where nothing does."""


def collected(columns: Sequence[str], rows: Iterable[Iterable[Any]], limit: int) -> QueryRows:
    """As many rows of cells as were asked for and fit; takes one more, to know whether there is one."""
    kept: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        cells = tuple(row)
        size += sum(len(value) if isinstance(value, str) else 8 for value in cells)
        if len(kept) == limit or size > MAX_QUERY_CHARS:
            return QueryRows(tuple(columns), tuple(kept), truncated=True)
        kept.append(cells)
    return QueryRows(tuple(columns), tuple(kept), truncated=False)


def finite(value: Any) -> Any:
    """The value, or its name if it is a number that JSON has no form for."""
    return str(value) if isinstance(value, float) and value - value != 0 else value


def described(rows: Iterable[tuple[str, str, str, str]]) -> Iterator[TableInfo]:
    """Tables of rows of (table, kind, column, type) that come in order."""
    name, kind = "", ""
    columns: list[tuple[str, str]] = []
    for table, what, column, of in rows:
        if table != name:
            if name:
                yield TableInfo(name, kind, tuple(columns))
            name, kind, columns = table, what, []
        columns.append((column, of))
    if name:
        yield TableInfo(name, kind, tuple(columns))
