"""A table in memory, queried by fixed rules: SQL is built here from column numbers, and values are parameters."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.tables import MAX_LABELS, ColumnCondition, TableQuery

CellValue: TypeAlias = str | float | None
"""A text, a number or a date in ISO format; ``None`` for an empty cell."""

_Parameters: TypeAlias = tuple[Any, ...]

_OPERATORS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_AGGREGATES: Final = {
    "count": "count({})",
    "distinct": "count(distinct {})",
    "sum": "exact_sum({})",
    "mean": "exact_sum({0}) / count({0})",
    "max": "max({})",
    "min": "min({})",
}


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """The result of a query. ``rows`` are the numbers of the first rows that have the value or were used for it; the
    first row of the table if there are none.
    """

    value: CellValue
    labels: tuple[str, ...]
    matching_rows: int
    valued_rows: int
    first_row: int
    last_row: int
    rows: tuple[int, ...]


class MemoryTable:
    """Rows of a table by their numbers, in a SQLite database in memory that rejects changes once it is filled."""

    def __init__(self, column_count: int, rows: Iterable[tuple[int, Sequence[CellValue]]]) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("pragma temp_store = memory")
        self._connection.create_aggregate("exact_sum", 1, _ExactSum)  # type: ignore[arg-type]  # may return None
        names = "".join(f", c{column}" for column in range(column_count))
        self._connection.execute(f"create table t (number integer primary key{names})")
        marks = ", ?" * column_count
        self._connection.executemany(
            f"insert into t values (?{marks})",  # noqa: S608  # only question marks
            ((number, *cells) for number, cells in rows),
        )
        self._connection.commit()
        self._connection.execute("pragma query_only = on")
        [[self.row_count]] = self._select("count(*)")

    def values(self, column: int) -> list[CellValue]:
        """Return the distinct values of a column."""
        name = f"c{column:d}"
        return [value for [value] in self._select(f"distinct {name}", f"{name} is not null")]

    def distinct_count(self, column: int) -> int:
        """Return the number of different values of a column."""
        [[count]] = self._select(f"count(distinct c{column:d})")
        return int(count)

    def run(self, query: TableQuery, *, limit: int) -> QueryOutcome:
        """Return the value of a query with up to ``limit`` row numbers."""
        condition, parameters = _sql_condition(query.conditions)
        [[matching_rows]] = self._select("count(*)", condition, parameters)
        column = "number" if query.column is None else f"c{query.column:d}"
        condition = f"{condition} and {column} is not null"
        labels: tuple[str, ...] = ()
        if query.group is not None:
            condition, parameters, labels = self._best_group(query, column, condition, parameters)
        aggregate = _AGGREGATES[query.aggregate].format(column)
        [[value, valued_rows, first_row, last_row]] = self._select(
            f"{aggregate}, count(*), min(number), max(number)", condition, parameters
        )
        shown_condition, shown_parameters = condition, parameters
        if query.aggregate in ("max", "min") and query.group is None:
            shown_condition, shown_parameters = f"{condition} and {column} = ?", (*parameters, value)
            if query.label is not None:
                labels = self._labels(query.label, shown_condition, shown_parameters)
                if query.is_additive and not self._agrees(query, column, condition, parameters, labels):
                    value = None
        rows = self._select("number", shown_condition, shown_parameters, f"order by number limit {limit:d}")
        rows = rows or self._select("min(number)")
        return QueryOutcome(
            value if valued_rows or query.aggregate in ("count", "distinct") else None,
            labels,
            matching_rows,
            valued_rows,
            first_row or 0,
            last_row or 0,
            tuple(number for [number] in rows),
        )

    def _best_group(
        self, query: TableQuery, column: str, condition: str, parameters: _Parameters
    ) -> tuple[str, _Parameters, tuple[str, ...]]:
        """Return the condition for the rows of the group with the best value, its parameters and the group.

        If several groups have the best value, no row meets the condition.
        """
        group = f"c{query.group:d}"
        condition = f"{condition} and {group} is not null"
        aggregate = _AGGREGATES[query.aggregate].format(column)
        order = "desc" if query.largest else "asc"
        groups = self._select(
            f"{group}, {aggregate}", condition, parameters, f"group by 1 order by 2 {order} limit 2"
        )
        if not groups or (len(groups) > 1 and math.isclose(groups[0][1], groups[1][1], rel_tol=1e-9)):
            return f"{condition} and 0", parameters, ()
        label = groups[0][0]
        return f"{condition} and {group} = ?", (*parameters, label), (str(label),)

    def _labels(self, column: int, condition: str, parameters: _Parameters) -> tuple[str, ...]:
        """Return the distinct values of a column, in the order of the rows."""
        name = f"c{column:d}"
        order = f"group by 1 order by min(number) limit {MAX_LABELS + 1}"
        return tuple(
            str(label)
            for [label] in self._select(name, f"{condition} and {name} is not null", parameters, order)
        )

    def _agrees(
        self, query: TableQuery, column: str, condition: str, parameters: _Parameters, labels: tuple[str, ...]
    ) -> bool:
        """Return whether the label with the best sum is the label of the best value.

        It need not be if each label has only one value.
        """
        label = f"c{query.label:d}"
        order = "desc" if query.aggregate == "max" else "asc"
        sums = self._select(
            f"{label}, exact_sum({column}), min({column}) = max({column})",
            f"{condition} and {label} is not null",
            parameters,
            f"group by 1 order by 2 {order}",
        )
        if all(is_constant for _label, _sum, is_constant in sums):
            return True
        return {str(name) for name, total, _is_constant in sums if total == sums[0][1]} == {*labels}

    def _select(
        self, values: str, condition: str = "1", parameters: _Parameters = (), order: str = ""
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a query, which contains only column numbers and words of this module."""
        statement = f"select {values} from t where {condition} {order}"  # noqa: S608
        return self._connection.execute(statement, parameters).fetchall()


class _ExactSum:
    """The SQL function ``exact_sum``: a sum without accumulated rounding errors."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: float | None) -> None:
        """Add the value of a row."""
        if value is not None:
            self._values.append(value)

    def finalize(self) -> float | None:
        """Return the sum."""
        return math.fsum(self._values) if self._values else None


def _sql_condition(conditions: Sequence[ColumnCondition]) -> tuple[str, _Parameters]:
    """Return a SQL expression for all conditions, and its parameters."""
    parts, parameters = ["1"], list[Any]()
    for condition in conditions:
        column = f"c{condition.column:d}"
        if condition.comparison in ("eq", "ne"):
            word = "in" if condition.comparison == "eq" else "not in"
            parts.append(f"{column} {word} ({', '.join('?' * len(condition.values))})")
            parameters += condition.values
        else:
            parts.append(f"{column} {_OPERATORS[condition.comparison]} ?")
            parameters.append(condition.values[0])
    return " and ".join(parts), tuple(parameters)
