"""Spreadsheets (xlsx, xlsm, xlsb, xls, ods): groups of rows, each with its sheet, its range of cells, and the header
above.

A formula without a stored value is shown as the formula itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any

import python_calamine as calamine

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.container import MAX_ENTRIES, MAX_UNPACKED_BYTES
from portico_server.features.readers.csv import ROW_GROUP_CHARS, short_header
from portico_server.features.readers.sheet_formulas import FormulaCells, letters, unsolved_formulas
from portico_server.features.readers.zip_size import check_zip_size

MAX_CELLS = 5_000_000
"""Maximum number of cells in a sheet, including empty cells between filled cells."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield the rows of every sheet in groups. ``row`` is the number of the group's first row below the header,
    ``cell`` the range of the group.
    """
    writer = PartWriter()
    has_parts = False
    with open_sheets(source) as sheets:
        for name, sheet, formulas in sheets:
            for part in _groups(writer, sheet, name, formulas):
                has_parts = True
                yield part
    if not has_parts:
        raise Unreadable("has only empty cells.")


@contextmanager
def open_sheets(source: SourceDocument) -> Iterator[Iterator[tuple[str, Any, FormulaCells]]]:
    """Open a workbook, and yield its sheets: the name, the sheet of calamine, and its formulas without a value.

    Raises `Unreadable`.
    """
    if not source.size:
        raise Unreadable("is empty: it contains nothing to index.")
    with source.open() as file:
        check_zip_size(file, MAX_UNPACKED_BYTES, MAX_ENTRIES)
        try:
            book = calamine.load_workbook(file)
        except calamine.PasswordError as error:
            raise Unreadable("is protected by a password. Add a copy without a password.") from error
        except calamine.CalamineError as error:
            raise Unreadable("is not a complete spreadsheet: it is damaged or truncated.") from error
        yield _sheets(book, unsolved_formulas(file))


def _sheets(book: Any, formulas: Mapping[str, FormulaCells]) -> Iterator[tuple[str, Any, FormulaCells]]:
    for name in book.sheet_names:
        try:
            sheet = book.get_sheet_by_name(name)
        except calamine.CalamineError:
            continue  # a chart or an old macro sheet, which has no cells
        if sheet.total_height * sheet.total_width > MAX_CELLS:
            raise Unreadable(f"has more than {MAX_CELLS:,} cells in its sheet '{name}'. Split it.")
        yield name, sheet, formulas.get(name, {})


def _groups(writer: PartWriter, sheet: Any, name: str, formulas: FormulaCells) -> Iterator[Part]:
    header = ""
    group: list[str] = []
    first = width = columns = head = 0
    left_column, top = (sheet.start[1], sheet.start[0]) if sheet.start else (0, 0)

    def flush() -> Iterator[Part]:
        if group:
            end = f"{letters(left_column + columns - 1)}{first + len(group) - 1}"
            cells = f"{letters(left_column)}{first}:{end}"
            yield writer.part("\n".join([header, *group]), row=first, sheet=name, cell=cells)

    def header_part() -> Part:
        cell = f"{letters(left_column)}{head}:{letters(left_column + columns - 1)}{head}"
        return writer.part(header, row=head, sheet=name, cell=cell)

    row = top
    for cells in sheet.to_python(skip_empty_area=True):
        row += 1
        line = " | ".join(
            format_cell(cell) or formulas.get((row - 1, column), "")
            for column, cell in enumerate(cells, start=left_column)
        )
        if not line.strip(" |"):
            # The rows of a group are consecutive, so the first row and the number of rows determine the
            # range.
            yield from flush()
            group, width = [], 0
            continue
        if not header:
            header, columns, head = line, len(cells), row
            if len(header) > ROW_GROUP_CHARS:
                yield header_part()
                header, head = short_header(header), 0
            continue
        if group and width + len(line) > ROW_GROUP_CHARS:
            yield from flush()
            group, width = [], 0
        first = first if group else row
        group.append(line)
        width += len(line)
        head = 0
    if header and head:
        yield header_part()
    yield from flush()


def format_cell(cell: object) -> str:
    """Return a value approximately as the spreadsheet displays it."""
    match cell:
        case bool():
            return str(cell).upper()
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case float():
            return f"{cell:.12g}"
        case datetime() if cell.time() == time():
            return cell.date().isoformat()
        case datetime():
            return cell.isoformat(" ", "seconds")
        case date() | time() | timedelta():
            return str(cell)
        case _:
            return " ".join(str(cell).split())
