"""Finds the header of a table among its rows: below titles, over one row or two, with units, with merged cells."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.features.readers.table_cells import (
    MAX_UNIT_CHARS,
    TypedColumn,
    is_blank,
    is_value,
    text_of,
    typed_column,
)

MAX_TITLE_ROWS: Final = 5
"""Maximum number of rows above a header."""

MAX_NAME_CHARS: Final = 80
"""Maximum length of the name of a column, in characters."""

MIN_SUMMED_ROWS: Final = 2
"""Minimum number of rows that a row sums up if it has a value in each column."""

MIN_WIDTH_SHARE: Final = 0.5
"""Minimum share of the columns that a header names."""

SAMPLE_ROWS: Final = 50
"""Number of rows that decide whether a second row belongs to the header."""

Row = tuple[int, Sequence[object]]
"""The number of a row, and its cells."""

_UNIT = re.compile(rf"\s*[(\[（【]\s*(?P<unit>[^()\[\]（）【】]{{1,{MAX_UNIT_CHARS}}}?)\s*[)\]）】]\s*$")
_YEAR = re.compile(r"(?:19|20)\d{2}")
_SUMMARY = re.compile(
    r"(?:grand |sub-?|overall )?(?:totals?|sum|average|mean|count)\b.{0,20}|(?:gesamt|zwischen)?summe|gesamt|insgesamt|"
    r"(?:sous-)?total\b.{0,20}|somme|totale|suma|итого|всего|[总總合小共累][计計].{0,6}|汇总|总和|平均值?|均值",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ColumnName:
    """The name of a column without its unit, the unit, and both as the header writes them."""

    name: str
    unit: str
    label: str


@dataclass(frozen=True, slots=True)
class SheetTable:
    """A table: the title above its header, its columns, and its rows without rows that sum up others."""

    title: str
    columns: Sequence[ColumnName]
    rows: Sequence[Row]


def table_rows(rows: Sequence[Row], *, semicolons: bool = False) -> SheetTable | None:
    """Return the table in the rows of a sheet, or ``None`` if it is not clear which row is its header. For
    ``semicolons``, see `typed_column`.
    """
    rows = [row for row in rows if any(not is_blank(cell) for cell in row[1])]
    width = max((_width(cells) for _number, cells in rows), default=0)
    number = _header_row(rows, width)
    if number is None:
        return None
    header, below = rows[number][1], rows[number + 1 :]
    if below and _continues_header(header, below[0][1], below[1 : 1 + SAMPLE_ROWS]):
        columns = _joined_names(header, below[0][1], width)
        below = below[1:]
    else:
        columns = [_column_name(_label(header, column)) for column in range(width)]
    if _has_several_tables(columns, below):
        return None
    title = " ".join(
        {text_of(cell): None for _number, cells in rows[:number] for cell in cells if not is_blank(cell)}
    )
    return SheetTable(title[:MAX_NAME_CHARS], columns, _without_summaries(_without_notes(below), semicolons))


def _width(cells: Sequence[object]) -> int:
    """Return the number of columns up to the last cell with a value."""
    return max((column for column, cell in enumerate(cells, 1) if not is_blank(cell)), default=0)


def _header_row(rows: Sequence[Row], width: int) -> int | None:
    for number, (_row, cells) in enumerate(rows[: MAX_TITLE_ROWS + 1]):
        names = [cell for cell in cells if not is_blank(cell)]
        if len({*map(text_of, names)}) < 2:
            continue  # a title, perhaps in merged cells
        if not is_header(names):
            return None
        named_columns = max(len(names), _width_of_next(rows, number))
        return number if named_columns >= MIN_WIDTH_SHARE * width else None
    return None


def _width_of_next(rows: Sequence[Row], number: int) -> int:
    """Return how many columns the row below a header names: the header may span several of them with each name."""
    if number + 1 >= len(rows):
        return 0
    texts = [cell for cell in rows[number + 1][1] if not is_blank(cell)]
    return len(texts) if is_header(texts) else 0


def is_header(cells: Sequence[object]) -> bool:
    """Return whether cells are names; years among them are names too."""
    return any(isinstance(cell, str) and not is_value(cell) for cell in cells) and all(
        _YEAR.fullmatch(text_of(cell))
        or (isinstance(cell, str) and not is_value(cell) and len(text_of(cell)) <= MAX_NAME_CHARS)
        for cell in cells
    )


def is_header_between(above: Sequence[object], cells: Sequence[object], below: Sequence[object]) -> bool:
    """Return whether a row between two tables is the header of the second: it names each filled column of the row
    below, and one of these columns has values in both tables.
    """
    names = [cell for cell in cells if not is_blank(cell)]
    if len({*map(text_of, names)}) != len(names) or len(names) < 2 or not is_header(names):
        return False
    columns = [column for column in zip(above, cells, below, strict=True) if not is_blank(column[2])]
    return not any(is_blank(name) for _upper, name, _lower in columns) and any(
        is_value(upper) and is_value(lower) for upper, _name, lower in columns
    )


def _continues_header(header: Sequence[object], cells: Sequence[object], below: Sequence[Row]) -> bool:
    """Return whether a row belongs to the header above it: it has only names, where the rows below have values.

    Without a gap in the first row, several rows below must show that.
    """
    has_gap = any(is_blank(cell) for cell in header[: _width(cells)])
    if len(below) < (1 if has_gap else 3) or not is_header([cell for cell in cells if not is_blank(cell)]):
        return False
    return any(
        not is_blank(cell)
        and (
            column_cells := [
                row[column] for _n, row in below if column < len(row) and not is_blank(row[column])
            ]
        )
        and all(map(is_value, column_cells))
        for column, cell in enumerate(cells)
    )


def _joined_names(upper: Sequence[object], lower: Sequence[object], width: int) -> list[ColumnName]:
    """Return the names of a header of two rows. A name above several columns belongs to each of them."""
    columns: list[ColumnName] = []
    above = ""
    for column in range(width):
        top, bottom = _label(upper, column), _label(lower, column)
        if top:
            above = top if bottom else ""
        parts = (top or (above if bottom else ""), bottom)
        columns.append(_column_name(" ".join(dict.fromkeys(part for part in parts if part))))
    return columns


def _has_several_tables(columns: Sequence[ColumnName], rows: Sequence[Row]) -> bool:
    """Return whether an empty column or another header below an empty row begins another table."""
    first = next((number for number, column in enumerate(columns) if column.name), 0)
    for column in range(first, len(columns)):
        if not columns[column].name and all(
            column >= len(cells) or is_blank(cells[column]) for _n, cells in rows
        ):
            return True
    return any(
        number > previous + 1
        and len(names := [cell for cell in cells if not is_blank(cell)]) > 1
        and is_header(names)
        and any(map(is_value, rows[0][1]))
        for (previous, _cells), (number, cells) in pairwise(rows)
    )


def _without_notes(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows without those at the end that have only one text, such as the source of a table."""
    end = len(rows)
    while end and len([cell for cell in rows[end - 1][1] if not is_blank(cell)]) == 1 < len(rows[end - 1][1]):
        end -= 1
    return rows[:end]


def _label(cells: Sequence[object], column: int) -> str:
    cell = cells[column] if column < len(cells) else None
    return "" if is_blank(cell) else " ".join(text_of(cell).split())[:MAX_NAME_CHARS]


def _column_name(label: str) -> ColumnName:
    match = _UNIT.search(label)
    if match is None or not label[: match.start()].strip():
        return ColumnName(label, "", label)
    return ColumnName(label[: match.start()].strip(), match["unit"], label)


def _without_summaries(rows: Sequence[Row], semicolons: bool) -> Sequence[Row]:
    """Return the rows that sum up no others. A row with a value in each column sums up others if it is named so, and
    one of its numbers is the sum or the mean of theirs.
    """
    rows = [row for row in rows if not _is_summary(row[1])]
    named_numbers = {number for number, (_row, cells) in enumerate(rows) if _is_named_summary(cells)}
    if not named_numbers:
        return rows
    summaries: set[int] = set()
    for column in range(max(len(cells) for _row, cells in rows)):
        cells = [cells[column] if column < len(cells) else None for _row, cells in rows]
        summaries |= _summing(typed_column(cells, semicolons=semicolons), named_numbers)
    return [row for number, row in enumerate(rows) if number not in summaries]


def _is_named_summary(cells: Sequence[object]) -> bool:
    return any(_is_summary_name(cell) for cell in cells if isinstance(cell, str))


def _is_summary_name(cell: object) -> bool:
    return _SUMMARY.fullmatch(text_of(cell).strip(" :：")) is not None


def _summing(column: TypedColumn, named_numbers: Set[int]) -> set[int]:
    """Return the numbers of the named rows whose value in this column is the sum or the mean of all other rows, or of
    the rows up to the named row before or after it.
    """
    if column.kind != "number":
        return set()
    groups: list[list[float]] = [[]]
    for number, value in enumerate(column.values):
        if number in named_numbers:
            groups.append([])
        elif isinstance(value, int | float):
            groups[-1].append(float(value))
    every = [value for group in groups for value in group]
    numbers = sorted(named_numbers)
    return {
        number
        for number, (above, below) in zip(numbers, pairwise(groups), strict=True)
        if any(_sums_up(column.values[number], group, column.decimals) for group in (above, below, every))
    }


def _sums_up(value: object, group: Sequence[float], decimals: int) -> bool:
    """Return whether a value is the sum or the mean of a group, whose values may be rounded to ``decimals``."""
    if not isinstance(value, int | float) or len(group) < MIN_SUMMED_ROWS:
        return False
    total = math.fsum(group)
    rounding = 0.5 * 10**-decimals
    error = max(rounding * len(group) if decimals else 0.0, 1e-9 * abs(total))
    return abs(value - total) <= error or abs(value - total / len(group)) <= rounding


def _is_summary(cells: Sequence[object]) -> bool:
    """Return whether a row sums up others: its first value is a word such as "Total", and other cells are empty."""
    filled_cells = [cell for cell in cells if not is_blank(cell)]
    return 1 < len(filled_cells) < len(cells) and _is_summary_name(filled_cells[0])


def fill_merged(rows: list[list[object]], ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    """Repeat the text of merged cells in each of them, also in place of texts that they cover. A number would be
    counted several times, so it is not repeated.

    ``ranges`` are (first, last) cells as (row, column), both from 0 as ``rows``.
    """
    for (top, first_column), (bottom, last_column) in ranges:
        if not 0 <= top < len(rows) or not 0 <= first_column < len(rows[top]):
            continue
        cell = rows[top][first_column]
        if not isinstance(cell, str) or is_blank(cell) or is_value(cell):
            continue
        for row in range(top, min(bottom + 1, len(rows))):
            for column in range(first_column, min(last_column + 1, len(rows[row]))):
                if isinstance(rows[row][column], str) or is_blank(rows[row][column]):
                    rows[row][column] = cell
