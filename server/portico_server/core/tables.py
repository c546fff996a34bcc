"""Requests and results about the tables in the files of a store: what a question mentions, and one computed value."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from portico.wire import Passage
from portico_server.core.dataclass import dataclass

MAX_LABELS: Final = 5
"""Maximum number of labels that an answer names. A value has one label more if there are more."""

ColumnKind: TypeAlias = Literal["text", "number", "date"]

Comparison: TypeAlias = Literal["eq", "ne", "gt", "gte", "lt", "lte"]

Aggregate: TypeAlias = Literal["count", "distinct", "sum", "mean", "max", "min"]


@dataclass(frozen=True, slots=True)
class CellMention:
    """A value of a column that occurs in a question: the words of the question, and how cells spell the value."""

    words: str
    spellings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreColumn:
    """A column of a table. A ``number`` has one ``unit`` in all rows, written before the number if ``unit_first``.

    ``decimals`` is the largest number of decimals in a cell, ``distinct_count`` the number of different values.
    """

    name: str
    kind: ColumnKind
    unit: str = ""
    unit_first: bool = False
    decimals: int = 0
    distinct_count: int = 0
    mentions: tuple[CellMention, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreTable:
    """A table in a file of a store: a CSV file, or a ``sheet`` of a workbook. ``title`` is the text above its header.

    ``is_partial``: the table is too large to compute with, and only its first rows were read.
    """

    file_id: str
    filename: str
    sheet: str
    title: str
    row_count: int
    columns: tuple[StoreColumn, ...]
    is_partial: bool = False

    def is_unique(self, column: int) -> bool:
        """Return whether every row has a value in a column, and no two rows the same value."""
        return self.columns[column].distinct_count == self.row_count


@dataclass(frozen=True, slots=True)
class FindTables:
    """A question to a store: which of its tables have columns with words of ``question``, in folded characters?"""

    question: str


@dataclass(frozen=True, slots=True)
class TableList:
    """The answer to `FindTables`; empty if the store has more tables than can be compared in time."""

    tables: tuple[StoreTable, ...]


@dataclass(frozen=True, slots=True)
class ColumnCondition:
    """A comparison of a column, counted from 0, with a value, or with several of which one must be equal.

    A date is in ISO format; the comparison with a day also holds for times of that day.
    """

    column: int
    comparison: Comparison
    values: tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class TableQuery:
    """A request to a store: one value computed from the rows of a table that meet all ``conditions``.

    ``column`` is the column to aggregate; ``None`` counts rows. ``label`` is a column that names the rows with the
    value, for ``max`` and ``min``. With ``group``, the value is computed for each value of that column, and the
    ``largest`` or smallest is returned. ``is_additive``: the rows of a label might also be meant together, so that
    there is a value only if both readings name the same label.
    """

    file_id: str
    sheet: str
    aggregate: Aggregate
    column: int | None = None
    conditions: tuple[ColumnCondition, ...] = ()
    label: int | None = None
    group: int | None = None
    largest: bool = True
    is_additive: bool = False


@dataclass(frozen=True, slots=True)
class ComputedValue:
    """The answer to `TableQuery`. ``value`` is ``None`` if no row has one, or if the query has two readings.

    ``labels`` name the rows or the group with the value. ``matching_rows`` meet the conditions, and ``valued_rows`` of
    them have a value in the column. ``first_row`` and ``last_row`` limit the rows with a value; ``passages`` are the
    first of them, or the rows with the largest or smallest value, or the first row of the table if there are none.
    """

    value: str | float | None
    labels: tuple[str, ...] = ()
    matching_rows: int = 0
    valued_rows: int = 0
    total_rows: int = 0
    first_row: int = 0
    last_row: int = 0
    passages: tuple[Passage, ...] = ()
