"""Spreadsheets (xlsx, xlsm, xlsb, xls, ods): groups of rows, each with its sheet, its range of cells, and the header
above.

Cells read as the sheet shows them. Hidden sheets, rows and columns are left out. A formula without a stored value is
shown as the formula itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

import python_calamine as calamine

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import NotRead, Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.container import MAX_ENTRIES, MAX_UNPACKED_BYTES
from portico_server.features.readers.csv import ROW_GROUP_CHARS, short_header
from portico_server.features.readers.number_formats import format_cell, format_number
from portico_server.features.readers.section import without_page_numbers
from portico_server.features.readers.sheet_details import (
    Cell,
    SheetArea,
    SheetDetails,
    letters,
    sheet_details,
)
from portico_server.features.readers.table_header import MAX_TITLE_ROWS, is_header, is_header_between
from portico_server.features.readers.zip_size import check_zip_size

MAX_CELLS = 5_000_000
"""Maximum number of cells in a sheet, including empty cells between filled cells."""

MAX_HEADER_ROWS = 3
"""Maximum number of rows of a header with merged cells."""


@dataclass(frozen=True, slots=True)
class OpenSheet:
    """A visible sheet: its cells, as calamine reads them, and what the file says about them."""

    name: str
    content: Any
    area: SheetArea
    details: SheetDetails

    @property
    def columns(self) -> Sequence[int]:
        """The columns that are not hidden, counted from 0 from the first column with values."""
        hidden = self.details.hidden_columns
        return [number for number in range(self.area.width) if number + self.area.left_column not in hidden]

    @property
    def merged_ranges(self) -> Sequence[tuple[Cell, Cell]]:
        """The first and last cells of merged cells."""
        return self.content.merged_cell_ranges or self.details.merged_ranges or ()

    def merges(self) -> Mapping[int, Sequence[tuple[range, int]]]:
        """Return merged cells by their first row: their columns, counted from the first column with values, and last
        row. In a damaged file, ranges can overlap: those beyond the number of cells of the sheet are left out.
        """
        area, merges = self.area, defaultdict[int, list[tuple[range, int]]](list)
        remaining_cells = area.height * area.width
        for (first_row, first_column), (last_row, last_column) in self.merged_ranges:
            start = first_column - area.left_column
            columns = range(start, min(last_column - area.left_column + 1, area.width))
            if first_row < area.top or start < 0 or not columns:
                continue
            height = min(last_row, area.top + area.height - 1) - first_row + 1
            remaining_cells -= len(columns) * max(1, height)
            if remaining_cells < 0:
                break
            merges[first_row].append((columns, last_row))
        return merges

    def text(self, cell: Cell, value: object) -> str:
        """Return the text that a cell shows."""
        details = self.details
        shown_text = details.texts.get(cell)
        if shown_text is None and details.styles:
            index = (cell[0] - self.area.top) * self.area.width + cell[1] - self.area.left_column
            style = details.styles[index] if index < len(details.styles) else 0
            shown_text = format_number(value, details.formats[style]) if details.formats[style] else None
        if shown_text is None:
            is_unseen = not details.shows_zeros and isinstance(value, float) and not value
            shown_text = "" if is_unseen else format_cell(value)
        return shown_text or details.formulas.get(cell, "")


class _ShownRow(NamedTuple):
    """A row without its hidden cells: its number, from 0, the values, and the texts that it shows."""

    number: int
    values: Sequence[object]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Header:
    """The names of the columns, the titles above them, and the first and last row of the names, from 0."""

    names: Sequence[str]
    titles: Sequence[_ShownRow]
    first: int
    last: int


@dataclass(slots=True)
class _HiddenCells:
    """Counts the sheets, and the rows and columns with values, that are hidden."""

    sheets: int = 0
    rows: int = 0
    columns: int = 0

    def summary(self) -> str:
        """Return the counts in words, such as ``2 hidden sheets, 1 hidden row``."""
        counts = (("sheet", self.sheets), ("row", self.rows), ("column", self.columns))
        return ", ".join(f"{count} hidden {name}{'s' * (count > 1)}" for name, count in counts if count)


def read(source: SourceDocument) -> Iterator[Part | NotRead]:
    """Yield the rows of every sheet in groups. ``row`` is the number of the group's first row below the header,
    ``cell`` the range of the group.
    """
    writer = PartWriter()
    has_parts = False
    with open_sheets(source) as (sheets, hidden_sheets):
        hidden = _HiddenCells(hidden_sheets)
        all_page_lines: list[str] = []
        undescribed_picture_count = 0
        for sheet in sheets:
            all_page_lines += sheet.details.page_lines
            undescribed_picture_count += sheet.details.undescribed_picture_count
            for part in chain(_groups(writer, sheet, hidden), _drawing_part(writer, sheet)):
                has_parts = True
                yield part
        if shown_page_lines := without_page_numbers(all_page_lines):
            yield writer.part("\n".join(shown_page_lines))
    if not has_parts:
        raise Unreadable("has only empty cells.")
    if hidden.summary():
        yield NotRead(hidden.summary())
    if undescribed_picture_count:
        yield NotRead(f"{undescribed_picture_count:,} picture(s) without a description")


def _drawing_part(writer: PartWriter, sheet: OpenSheet) -> Iterator[Part]:
    """Yield the texts of boxes, pictures and charts of a sheet as a part."""
    if sheet.details.drawn_lines:
        yield writer.part("\n".join(sheet.details.drawn_lines), sheet=sheet.name)


@contextmanager
def open_sheets(source: SourceDocument) -> Iterator[tuple[Iterator[OpenSheet], int]]:
    """Open a workbook, and yield its visible sheets and the number of its hidden sheets.

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
        names = [
            sheet.name for sheet in book.sheets_metadata if sheet.visible == calamine.SheetVisibleEnum.Visible
        ]
        hidden_count = len(book.sheet_names) - len(names)
        yield _sheets(book, names, sheet_details(file)), hidden_count


def _sheets(
    book: Any, names: Iterable[str], details_of: Callable[[str, SheetArea], SheetDetails]
) -> Iterator[OpenSheet]:
    for name in names:
        try:
            content = book.get_sheet_by_name(name)
        except calamine.CalamineError:
            continue  # a chart or an old macro sheet, which has no cells
        if content.total_height * content.total_width > MAX_CELLS:
            raise Unreadable(f"has more than {MAX_CELLS:,} cells in its sheet '{name}'. Split it.")
        top, left_column = content.start or (0, 0)
        area = SheetArea(top, left_column, content.height, content.width)
        yield OpenSheet(name, content, area, details_of(name, area))


@dataclass(slots=True)
class _RowGroup:
    """Consecutive rows below their header and titles, which become a part. ``cells`` are the first and last column."""

    writer: PartWriter
    sheet: str
    cells: tuple[str, str]
    heading: tuple[str, ...] = ()
    header: str = ""
    lines: list[str] = field(default_factory=list)
    first: int = 0
    width: int = 0

    def part(self, text: str, first: int, last: int) -> Part:
        """Return a part with the text of rows, which are counted from 1."""
        left_column, right = self.cells
        cells = f"{left_column}{first}:{right}{last}"
        return self.writer.part(text, row=first, sheet=self.sheet, cell=cells, heading=self.heading)

    def begin_table(
        self, titles: Iterable[tuple[int, str]], header: str, first: int, last: int
    ) -> Iterator[Part]:
        """Yield the titles of a table, with the numbers of their rows, and a header too long to be repeated."""
        self.heading = ()
        for row, title in titles:
            yield self.part(title, row, row)
            self.heading = (*self.heading, title)
        self.header = header
        if len(header) > ROW_GROUP_CHARS:
            yield self.part(header, first, last)
            self.header = short_header(header)

    def has_room(self, row: int, line: str) -> bool:
        """Return whether a row belongs to the group. Its rows are consecutive, so that their number is its range."""
        return row == self.first + len(self.lines) and self.width + len(line) <= ROW_GROUP_CHARS

    def add(self, row: int, line: str) -> None:
        """Add a row."""
        if not self.lines:
            self.first = row
        self.lines.append(line)
        self.width += len(line)

    def flush(self) -> Iterator[Part]:
        """Yield the rows as a part."""
        if self.lines:
            yield self.part(
                "\n".join([self.header, *self.lines]), self.first, self.first + len(self.lines) - 1
            )
        self.clear()

    def clear(self) -> None:
        """Forget the rows."""
        self.lines, self.width = [], 0


def _groups(writer: PartWriter, sheet: OpenSheet, hidden: _HiddenCells) -> Iterator[Part]:
    rows = _shown_rows(sheet, hidden)
    begin = list(islice(rows, MAX_TITLE_ROWS + MAX_HEADER_ROWS + 1))
    head = _header(begin, sheet)
    if head is None:
        return
    columns = [sheet.area.left_column + number for number in sheet.columns]
    group = _RowGroup(writer, sheet.name, (letters(columns[0]), letters(columns[-1])))
    titles = [(row.number + 1, next(filter(None, row.texts))) for row in head.titles]
    header = " | ".join(head.names)
    yield from group.begin_table(titles, header, head.first + 1, head.last + 1)
    below = chain((row for row in begin if row.number > head.last), rows)
    first_row: _ShownRow | None = None
    is_behind_gap = False
    for row, next_row in pairwise(chain(below, [_ShownRow(0, (), ())])):
        line = " | ".join(row.texts)
        if not line.strip(" |"):
            yield from group.flush()
            is_behind_gap = True
        elif is_behind_gap and first_row and _begins_table(row, first_row, next_row):
            titles = [(number, title.strip(" |")) for number, title in enumerate(group.lines, group.first)]
            group.clear()
            yield from group.begin_table(titles, line, row.number + 1, row.number + 1)
            first_row, is_behind_gap = next_row, False
        else:
            first_row = first_row or row
            if is_behind_gap:
                is_behind_gap = sum(map(bool, row.texts)) == 1  # perhaps a title
            if not group.has_room(row.number + 1, line):
                yield from group.flush()
            group.add(row.number + 1, line)
    if first_row is None and group.header == header:
        yield group.part(header, head.first + 1, head.last + 1)
    yield from group.flush()


def _begins_table(row: _ShownRow, row_above: _ShownRow, row_below: _ShownRow) -> bool:
    return row_below.number == row.number + 1 and is_header_between(
        row_above.values, row.values, row_below.values
    )


def _shown_rows(sheet: OpenSheet, hidden: _HiddenCells) -> Iterator[_ShownRow]:
    """Yield the rows that are not hidden. Each row of cells that are merged vertically has their text, and no row has
    the texts of the cells that they cover.
    """
    top, left_column = sheet.area.top, sheet.area.left_column
    details, columns = sheet.details, sheet.columns
    hidden_columns = [
        number for number in range(sheet.area.width) if number + left_column in details.hidden_columns
    ]
    columns_with_values: set[int] = set()
    is_plain = details.shows_zeros and not (details.styles or details.texts or details.formulas)
    merges = sheet.merges()
    active_merges: list[tuple[range, int, str]] = []
    for number, values in enumerate(sheet.content.to_python(skip_empty_area=True), start=top):
        if is_plain:
            texts = [format_cell(value) for value in values]
        else:
            texts = [sheet.text((number, column), value) for column, value in enumerate(values, left_column)]
        if active_merges:
            active_merges = [merge for merge in active_merges if merge[1] >= number]
        active_merges += ((span, last_row, texts[span.start]) for span, last_row in merges.get(number, ()))
        for span, _last_row, merged_text in active_merges:
            texts[span.start : span.stop] = [merged_text, *[""] * (len(span) - 1)]
        if details.notes:
            texts = [
                f"{shown_text} (note: {details.notes[number, column]})".lstrip()
                if (number, column) in details.notes
                else shown_text
                for column, shown_text in enumerate(texts, left_column)
            ]
        if number in details.hidden_rows:
            hidden.rows += any(texts)
            continue
        if hidden_columns:
            columns_with_values.update(column for column in hidden_columns if texts[column])
            values = [values[column] for column in columns]
            texts = [texts[column] for column in columns]
        yield _ShownRow(number, values, texts)
    hidden.columns += len(columns_with_values)


def _header(rows: Sequence[_ShownRow], sheet: OpenSheet) -> _Header | None:
    """Return the header in the first rows of a sheet: the first row with values, or below titles the row with names,
    and the rows below it whose cells its merged cells span.
    """
    rows = [row for row in rows if any(row.texts)]
    if not rows:
        return None
    title_count = next((i for i, row in enumerate(rows) if len({*filter(None, row.texts)}) > 1), 0)
    if title_count > MAX_TITLE_ROWS or not _has_names(rows[title_count]):
        title_count = 0
    levels = [rows[title_count]]
    for row in rows[title_count + 1 : title_count + MAX_HEADER_ROWS]:
        spans = _spans(sheet, levels[-1].number)
        if not _is_below(row, spans):
            break
        levels[-1] = _filled(levels[-1], spans)
        levels.append(row)
    names = [
        " ".join(dict.fromkeys(filter(None, column)))
        for column in zip(*(level.texts for level in levels), strict=True)
    ]
    return _Header(names, rows[:title_count], levels[0].number, levels[-1].number)


def _has_names(row: _ShownRow) -> bool:
    return is_header([value for value, shown_text in zip(row.values, row.texts, strict=True) if shown_text])


def _spans(sheet: OpenSheet, row: int) -> Sequence[range]:
    """Return the places of horizontally merged cells of a row among the columns that are not hidden."""
    columns = [number + sheet.area.left_column for number in sheet.columns]
    spans: list[range] = []
    for first, last in sorted(merge for merge in sheet.merged_ranges if merge[0][0] == merge[1][0] == row):
        span = range(bisect_left(columns, first[1]), bisect_right(columns, last[1]))
        if not spans or span.start >= spans[-1].stop:
            spans.append(span)
    return spans


def _is_below(row: _ShownRow, spans: Sequence[range]) -> bool:
    """Return whether a row names the columns that the merged cells of a header span."""
    return any(sum(1 for column in span if row.texts[column]) > 1 for span in spans) and _has_names(row)


def _filled(row: _ShownRow, spans: Sequence[range]) -> _ShownRow:
    """Return a row of a header with the text of merged cells in each of them."""
    texts = list(row.texts)
    for span in spans:
        for column in span:
            texts[column] = texts[span.start]
    return _ShownRow(row.number, row.values, texts)
