"""The rows of a table: which of them are visible, their order, the widths of the columns, and the drawing of a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from rich.console import Console
from rich.segment import Segment
from rich.text import Text
from textual.geometry import Size
from textual.strip import Strip

from portico_tui.text import cell

MIN_WIDTH_CHARS = 3
"""Minimum width of a column, in characters."""

MAX_WIDTH_CHARS = 60
"""Maximum width of a column that does not set a width, in characters."""

MEASURED_ROWS = 200
"""Number of rows whose cells determine the initial widths. A row outside of these widens a column when it becomes
visible.
"""

Row = TypeVar("Row")
Order: TypeAlias = tuple[int, bool]
"""A sort order: the number of the column, and whether its largest value comes first."""


@dataclass(frozen=True)
class TableColumn(Generic[Row]):
    """A column of a table. ``show`` returns the content of a cell: a `Text` is used unchanged, any other value becomes
    one line in ``style``.

    The content is truncated to ``width`` characters. ``sort`` returns the sort key; the default is the cell's text.
    """

    title: str
    show: Callable[[Row], object]
    style: str = ""
    width: int = MAX_WIDTH_CHARS
    sort: Callable[[Row], Any] | None = None

    def text(self, row: Row) -> Text:
        """Return the content of a row's cell, not truncated."""
        value = self.show(row)
        return value if isinstance(value, Text) else cell(value, self.style)


class TableRows(Generic[Row]):
    """Rows, each with a key, filtered by words and sorted by a column."""

    def __init__(self, columns: tuple[TableColumn[Row], ...]) -> None:
        self.columns = columns
        self.keys: list[str] = []
        """The keys of the rows that the filter shows, in order."""
        self.is_filtered = False
        """True if only rows that contain certain words are shown."""
        self._items: dict[str, Row] = {}
        self._words: tuple[str, ...] = ()
        self._searched: dict[str, tuple[Row, str]] = {}
        self._measured_keys: set[str] = set()
        self._order: Order | None = None
        self._widths = [len(column.title) for column in columns]

    def __getitem__(self, key: str) -> Row:
        return self._items[key]

    @property
    def cells(self) -> list[list[str]]:
        """The cells of the rows that the filter shows, as text."""
        return [[column.text(self._items[key]).plain for column in self.columns] for key in self.keys]

    @property
    def size(self) -> Size:
        """The width and height of the whole table including the titles, in terminal columns and lines."""
        return Size(max(sum(self._widths) + 2 * len(self._widths), 1), len(self.keys) + 1)

    def put(self, rows: Mapping[str, Row]) -> None:
        """Replace the rows. They are shown in this order, unless the table is sorted by a column."""
        self._items = dict(rows)
        self._searched = {key: entry for key, entry in self._searched.items() if key in self._items}
        self._measured_keys.clear()
        self._arrange()

    def narrow(self, words: str) -> None:
        """Show only rows that contain every word."""
        self._words = tuple(words.casefold().split())
        self.is_filtered = bool(self._words)
        self._arrange()

    def order_by_next(self) -> None:
        """Sort the rows by the next column. After the last column, restore the original order."""
        number = 0 if self._order is None else self._order[0] + 1
        self._order = None if number >= len(self.columns) else (number, False)
        self._arrange()

    def reverse(self) -> None:
        """Reverse the order."""
        number, backwards = self._order or (0, False)
        self._order = (number, not backwards)
        self._arrange()

    def order_at(self, x: int) -> None:
        """Sort the rows by the column at the position ``x``. If they are already sorted by it, reverse the order."""
        end = 0
        for number, width in enumerate(self._widths):
            end += width + 2
            if x < end:
                is_same = self._order is not None and self._order[0] == number
                self._order = (number, is_same and not self._order[1] if self._order else False)
                self._arrange()
                return

    def titles(self) -> Strip:
        """Return the line of titles."""
        titles = []
        for number, (column, width) in enumerate(zip(self.columns, self._widths, strict=True)):
            sign = ("▼" if self._order[1] else "▲") if self._order and self._order[0] == number else " "
            titles.append(f" {column.title.ljust(width)}{sign}")
        if self._words:
            titles.append(f"{len(self.keys):,} of {len(self._items):,}")
        return Strip([Segment("".join(titles))])

    def line(self, key: str, console: Console) -> Strip:
        """Return the line of a row, widening the columns if the row needs it."""
        self._measure(key)
        parts: list[Strip] = []
        for column, width in zip(self.columns, self._widths, strict=True):
            text = column.text(self._items[key])
            if text.cell_len > width:
                text = text.copy()
                text.truncate(width, overflow="ellipsis")
            line = Strip([part for part in text.render(console) if part.text != "\n"])
            parts.append(Strip([Segment(" "), *line.adjust_cell_length(width), Segment(" ")]))
        return Strip.join(parts)

    def _arrange(self) -> None:
        keys = [key for key in self._items if self._fits(key)] if self._words else list(self._items)
        self.keys = keys if self._order is None else self._sort_keys(keys, *self._order)
        for key in self.keys[:MEASURED_ROWS]:
            self._measure(key)

    def _fits(self, key: str) -> bool:
        item = self._items[key]
        entry = self._searched.get(key)
        if entry is None or entry[0] is not item:
            text = "\n".join(column.text(item).plain for column in self.columns).casefold()
            entry = self._searched[key] = (item, text)
        return all(word in entry[1] for word in self._words)

    def _sort_keys(self, keys: list[str], number: int, backwards: bool) -> list[str]:
        """Sort by a column. Rows without a value come last in both directions."""
        column = self.columns[number]
        sort = column.sort or (lambda row: column.text(row).plain.casefold() or None)
        values: dict[str, Any] = {key: sort(self._items[key]) for key in keys}
        sortable_keys = [key for key in keys if values[key] is not None]
        sortable_keys.sort(key=values.__getitem__, reverse=backwards)
        return [*sortable_keys, *(key for key in keys if values[key] is None)]

    def _measure(self, key: str) -> None:
        if key in self._measured_keys:
            return
        self._measured_keys.add(key)
        for number, column in enumerate(self.columns):
            width = min(max(column.text(self._items[key]).cell_len, MIN_WIDTH_CHARS), column.width)
            self._widths[number] = max(self._widths[number], width)
