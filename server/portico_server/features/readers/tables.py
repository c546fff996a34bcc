"""Tables of a CSV file or a workbook in memory: which values a question mentions, and what a query computes.

Runs in the worker, within its limits. The last few tables stay in memory for the next question.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from portico.wire import Place
from portico_server.core.dataclass import dataclass
from portico_server.core.tables import CellMention, ColumnCondition, StoreColumn, TableQuery
from portico_server.core.word_forms import simplify
from portico_server.core.words import HAN_RUN, has_cjk
from portico_server.db.query.memory_table import MemoryTable
from portico_server.features.chunkers.document import Part, SourceDocument, Unreadable
from portico_server.features.chunkers.tables import divide_rows
from portico_server.features.readers import csv, sheet
from portico_server.features.readers.documents import place
from portico_server.features.readers.formats import FileFormat
from portico_server.features.readers.sheet_details import letters
from portico_server.features.readers.table_cells import TypedColumn, typed_column
from portico_server.features.readers.table_header import Row, SheetTable, fill_merged, table_rows
from portico_server.features.readers.text import open_text

MAX_TABLE_CELLS: Final = 500_000
"""Maximum number of cells of a table to compute with; of a larger one, only the first rows are read."""

PARTIAL_ROWS: Final = 200
"""Number of rows that are read of a table that is too large."""

MAX_CACHED_CELLS: Final = 1_000_000
"""Maximum number of cells of the tables that stay in memory."""

MAX_CACHED_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of a file whose tables stay in memory, in bytes."""

MAX_TABLE_COLUMNS: Final = 200
"""Maximum number of columns of a table."""

MAX_MENTIONED_VALUES: Final = 20
"""Maximum number of values of a column that are reported for a question."""

MIN_MENTION_CHARS: Final = 2
"""Minimum length of a value that counts as mentioned."""

CITED_ROWS_LIMIT: Final = 3
"""Maximum number of rows that are cited for a value."""


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table of a file: its sheet, its title, its columns, and its rows in memory.

    ``sheet_columns`` are the columns of a workbook, counted from 0.
    """

    sheet: str
    title: str
    labels: Sequence[str]
    columns: Sequence[StoreColumn]
    data: MemoryTable
    sheet_columns: Sequence[int]
    is_partial: bool


_ROW_CELLS = re.compile(r"[A-Z]+(\d+):[A-Z]+\d+")

_CODE = re.compile(r"0[0-9]+")
"""A number that its cell fills with zeros."""

_cached_tables: OrderedDict[tuple[str, int, int], Sequence[LoadedTable]] = OrderedDict()


def find_tables(source: SourceDocument, form: FileFormat, question: str) -> list[dict[str, Any]]:
    """Return the tables of a file with the values in folded ``question``."""
    return [
        {
            "sheet": table.sheet,
            "title": table.title,
            "words": _fold_all([table.sheet, table.title, *(column.name for column in table.columns)]),
            "row_count": table.data.row_count,
            "is_partial": table.is_partial,
            "columns": [
                asdict(replace(column, mentions=_mentions(table.data, number, question)))
                if column.kind == "text"
                else asdict(column)
                for number, column in enumerate(table.columns)
            ],
        }
        for table in _load(source, form)
    ]


def compute(source: SourceDocument, form: FileFormat, query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a query, as `TableQuery` without its file, and the cited rows with their places."""
    conditions = tuple(
        ColumnCondition(item["column"], item["comparison"], tuple(item["values"]))
        for item in query["conditions"]
    )
    table_query = TableQuery("", **{**query, "conditions": conditions})
    table = next((table for table in _load(source, form) if table.sheet == table_query.sheet), None)
    if table is None or table.is_partial:
        raise Unreadable(f"has no table '{table_query.sheet}' to compute with.")
    outcome = table.data.run(table_query, limit=CITED_ROWS_LIMIT)
    rows = _cited_rows(source, form, table, outcome.rows, table_query.column)
    return {
        **asdict(outcome),
        "total_rows": table.data.row_count,
        "rows": [[part.text, place(part)] for part in rows],
    }


def _load(source: SourceDocument, form: FileFormat) -> Sequence[LoadedTable]:
    """Return the tables of a file, from memory if they were used lately."""
    path = Path(str(source.content))
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    tables = _cached_tables.pop(key, None)
    if tables is None:
        loaded_tables = (_load_table(rows) for rows in _sheets(source, form))
        tables = [table for table in loaded_tables if table is not None]
    if stat.st_size <= MAX_CACHED_BYTES:
        _cached_tables[key] = tables
    while sum(map(_cell_count, _cached_tables.values())) > MAX_CACHED_CELLS:
        _cached_tables.popitem(last=False)
    return tables


def _cell_count(tables: Sequence[LoadedTable]) -> int:
    return sum(table.data.row_count * len(table.columns) for table in tables)


@dataclass(frozen=True, slots=True)
class _SheetRows:
    """The rows of a sheet, and its columns, counted from 0. ``semicolons`` separate its cells; ``is_partial``: there
    are more rows.
    """

    name: str
    rows: Sequence[Row]
    columns: Sequence[int] = ()
    semicolons: bool = False
    is_partial: bool = False


def _sheets(source: SourceDocument, form: FileFormat) -> Iterator[_SheetRows]:
    """Yield the rows of each sheet. Raises `Unreadable`."""
    if form.name == "csv":
        yield _csv_rows(source)
    elif form.name == "sheet":
        with sheet.open_sheets(source) as (sheets, _hidden_count):
            for open_sheet in sheets:
                is_partial = (
                    open_sheet.content.total_height * open_sheet.content.total_width > MAX_TABLE_CELLS
                )
                rows = _sheet_rows(open_sheet, is_partial=is_partial)
                columns = [open_sheet.area.left_column + number for number in open_sheet.columns]
                yield _SheetRows(open_sheet.name, rows, columns, is_partial=is_partial)
    else:
        raise Unreadable("has no tables to compute with.", "unsupported_file")


def _csv_rows(source: SourceDocument) -> _SheetRows:
    with open_text(source) as text:
        semicolons = csv.delimiter(text.read(64 * 1024)) == ";"
    rows: list[Row] = []
    cell_count = 0
    for number, cells in csv.records(source):
        rows.append((number, cells))
        cell_count += len(cells)
        if cell_count > MAX_TABLE_CELLS:
            return _SheetRows("", rows[:PARTIAL_ROWS], semicolons=semicolons, is_partial=True)
    return _SheetRows("", rows, semicolons=semicolons)


def _sheet_rows(open_sheet: sheet.OpenSheet, *, is_partial: bool) -> list[Row]:
    """Return the rows that are not hidden, with numbers as values, and with codes such as 01067 as texts."""
    content, details = open_sheet.content, open_sheet.details
    top, first_column = content.start or (0, 0)
    every_row = content.iter_rows() if is_partial else content.to_python(skip_empty_area=True)
    rows: list[list[object]] = [
        list(cells) for cells in islice(every_row, PARTIAL_ROWS if is_partial else None)
    ]
    ranges = [
        ((first[0] - top, first[1] - first_column), (last[0] - top, last[1] - first_column))
        for first, last in open_sheet.merged_ranges
    ]
    if details.styles or details.texts:
        for row, cells in enumerate(rows, top):
            for column, cell in enumerate(cells):
                if isinstance(cell, float) and _CODE.fullmatch(
                    shown_text := open_sheet.text((row, column + first_column), cell)
                ):
                    cells[column] = shown_text
    fill_merged(rows, ranges)
    for (row, column), formula in details.formulas.items():
        if 0 <= row - top < len(rows) and 0 <= column - first_column < len(rows[row - top]):
            rows[row - top][column - first_column] = (
                formula  # a text, so that nothing is computed without its value
            )
    columns = open_sheet.columns
    return [
        (number, [cells[column] for column in columns])
        for number, cells in enumerate(rows, top + 1)
        if number - 1 not in details.hidden_rows
    ]


def _load_table(sheet_rows: _SheetRows) -> LoadedTable | None:
    table = table_rows(sheet_rows.rows, semicolons=sheet_rows.semicolons)
    if table is None or not table.rows or len(table.columns) > MAX_TABLE_COLUMNS:
        return None
    columns_of_cells = [
        typed_column(
            [cells[number] if number < len(cells) else None for _row, cells in table.rows],
            semicolons=sheet_rows.semicolons,
        )
        for number in range(len(table.columns))
    ]
    values = zip(*(column.values for column in columns_of_cells), strict=True)
    data = MemoryTable(
        len(columns_of_cells), ((row, cells) for (row, _cells), cells in zip(table.rows, values, strict=True))
    )
    columns = [_column(table, number, column, data) for number, column in enumerate(columns_of_cells)]
    labels = [column.label for column in table.columns]
    return LoadedTable(
        sheet_rows.name,
        table.title,
        labels,
        columns,
        data,
        sheet_rows.columns,
        is_partial=sheet_rows.is_partial,
    )


def _column(table: SheetTable, number: int, column: TypedColumn, data: MemoryTable) -> StoreColumn:
    name = table.columns[number]
    unit = (column.unit or name.unit) if column.kind == "number" else ""
    return StoreColumn(
        name.name,
        column.kind,
        unit,
        column.unit_first,
        column.decimals,
        distinct_count=data.distinct_count(number),
    )


def _mentions(data: MemoryTable, column: int, question: str) -> tuple[CellMention, ...]:
    """Return the values of a column that occur in folded ``question`` as whole words, also in the plural."""
    texts = [str(value) for value in data.values(column)]
    spellings: dict[str, list[str]] = {}
    for text, folded_text in zip(texts, _fold_all(texts), strict=True):
        if len(folded_text) >= MIN_MENTION_CHARS and folded_text in question:
            words = _words_of(folded_text, question)
            if words:
                spellings.setdefault(words, []).append(text)
    longest = sorted(spellings, key=len, reverse=True)[:MAX_MENTIONED_VALUES]
    return tuple(CellMention(words, tuple(spellings[words])) for words in longest)


def _words_of(value: str, question: str) -> str:
    """Return the words of ``question`` that are ``value``, or its plural; empty if it is only a part of words."""
    begin = question.find(value)
    while begin >= 0:
        end = begin + len(value)
        if begin == 0 or not _joins(question[begin - 1], value[0]):
            for plural in ("", "s", "es") if value.isascii() and value[-1].isalpha() else ("",):
                stop = end + len(plural)
                if question.startswith(plural, end) and (
                    stop == len(question) or not _joins(question[stop], value[-1])
                ):
                    return question[begin:stop]
        begin = question.find(value, begin + 1)
    return ""


def _joins(char: str, neighbour: str) -> bool:
    """Return whether two neighbouring characters belong to one word, in a script with spaces between words."""
    return char.isalnum() and neighbour.isalnum() and not has_cjk(char) and not has_cjk(neighbour)


def _fold_all(texts: Sequence[str]) -> list[str]:
    """Return texts in lower case and simplified characters, with single spaces."""
    text_lines = "\n".join(" ".join(text.split()) for text in texts).lower()
    if HAN_RUN.search(text_lines):
        text_lines = simplify(text_lines)
    return text_lines.split("\n")


def _cited_rows(
    source: SourceDocument, form: FileFormat, table: LoadedTable, numbers: Sequence[int], column: int | None
) -> Iterator[Part]:
    """Yield rows below the names of the columns, with their places in the text that is extracted from the file.

    In a workbook, the place is the cell of ``column``, or the whole row.
    """
    remaining = {*numbers}
    for part in form.reader()(source):
        if not isinstance(part, Part) or part.place.sheet != (table.sheet or None) or part.place.row is None:
            continue
        last = part.place.row + part.text.count("\n") - 1
        if not any(part.place.row <= number <= last for number in remaining):
            continue
        for row in divide_rows(part, len(part.text) * 4, together=False):
            if row.place.row in remaining:
                remaining.discard(row.place.row)
                line = row.text.rpartition("\n")[2]
                row_place = replace(
                    row.place,
                    start=row.place.end - len(line),
                    cell=_cell(row.place, table.sheet_columns, column),
                )
                yield Part(f"{' | '.join(table.labels)}\n{line}", row_place)
        if not remaining:
            return


def _cell(row: Place, columns: Sequence[int], column: int | None) -> str | None:
    """Return the cell of a column in a row of a workbook."""
    cells = _ROW_CELLS.fullmatch(row.cell or "")
    if column is None or cells is None:
        return row.cell
    return f"{letters(columns[column])}{cells[1]}"
