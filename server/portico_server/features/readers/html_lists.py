"""Numbers of items and rows of tables in HTML."""

from __future__ import annotations

from typing import Any, Final

from portico_server.core.words import whole_number
from portico_server.features.readers.list_numbers import ODF_NUMBERS, decimal
from portico_server.features.readers.section import MAX_TITLE_CHARS

MAX_COLUMNS: Final = 1_000
"""Maximum number of columns of a table, and of rows that a cell covers, as in browsers."""

MAX_REPEATED_CHARS: Final = 20_000
"""Maximum number of characters that a table repeats in rows which a cell covers."""


class ListNumbers:
    """The numbers of the items of a list ``ol``."""

    def __init__(self, node: Any) -> None:
        self._write = ODF_NUMBERS.get(node.get("type", "1"), decimal)
        self._step = 1 if node.get("reversed") is None else -1
        start = _integer(node.get("start", ""))
        if start is None:
            start = 1 if self._step == 1 else sum(1 for _ in node.iterchildren("li"))
        self._next = start

    def next_label(self, item: Any) -> str:
        """Return the number of the next item as a browser shows it."""
        value = _integer(item.get("value", ""))
        number = self._next if value is None else value
        self._next = number + self._step
        return f"{self._write(number)}."


class RowWriter:
    """Writes the rows of a table. A cell that covers rows below repeats the beginning of its text in them."""

    def __init__(self) -> None:
        self._cells: dict[int, str] = {}
        self._column = 0
        self._above: dict[int, tuple[int, str]] = {}
        self._repeated_chars = 0

    def add_cell(self, text: str, node: Any) -> None:
        """Add the next cell of the row."""
        self._repeat_cells_above()
        if self._column >= MAX_COLUMNS:
            return
        self._cells[self._column] = text
        row_count = MAX_COLUMNS if node.get("rowspan") == "0" else _span(node, "rowspan")
        if row_count > 1:
            self._above[self._column] = (row_count, text[:MAX_TITLE_CHARS])
        self._column += _span(node, "colspan")

    def end_row(self) -> str:
        """Return the row as a line, without the last empty cells."""
        if self._above:
            self._repeat_cells_above()
            for column in self._above:
                self._repeat_cell_above(column)
            above = ((column, (count - 1, text)) for column, (count, text) in self._above.items())
            self._above = {column: cell for column, cell in above if cell[0] > 0}
        self._column = 0
        return self.take_cells()

    def end_group(self) -> None:
        """End a group of rows, beyond which no cell reaches."""
        self._above = {}

    def take_cells(self) -> str:
        """Return the cells of the row so far as a line, and remove them."""
        cells = [self._cells[column] for column in sorted(self._cells)]
        self._cells = {}
        return " | ".join(cells).rstrip(" |")

    def _repeat_cells_above(self) -> None:
        """Add the cells that cover this row from above, up to the next column that is free."""
        while self._column in self._above and self._column not in self._cells:
            self._repeat_cell_above(self._column)
            self._column += 1

    def _repeat_cell_above(self, column: int) -> None:
        if column in self._cells:
            return
        text = self._above[column][1]
        if self._repeated_chars + len(text) > MAX_REPEATED_CHARS:
            text = ""
        self._cells[column] = text
        self._repeated_chars += len(text)


def _integer(text: str) -> int | None:
    """Return the whole number with an optional sign that ``text`` represents; ``None`` for any other text."""
    number = whole_number(text.removeprefix("-").removeprefix("+"))
    return number if number is None or not text.startswith("-") else -number


def _span(node: Any, attribute: str) -> int:
    value = node.get(attribute)
    return 1 if value is None else min(whole_number(value) or 1, MAX_COLUMNS)
