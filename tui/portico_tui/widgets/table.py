"""The table of every screen: rows of values under declared columns, filtered while one types, sorted by any column.

Only the rows that are seen are drawn, so that ten thousand cost what thirty do. A refresh keeps the cursor where the
person left it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from portico_tui.text import cell

MIN_WIDTH_CHARS = 3
"""Characters of a column at least."""

MAX_WIDTH_CHARS = 60
"""Characters of a column at most, where it does not say."""

MEASURED_ROWS = 200
"""Rows whose cells decide the widths at first; others widen a column when they are seen."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column. ``show`` gives what stands there: a `Text` as it is, anything else as one line in ``style``.

    It is cut to ``width`` characters. ``sort`` gives what rows are ordered by; without it, the text.
    """

    title: str
    show: Callable[[Row], object]
    style: str = ""
    width: int = MAX_WIDTH_CHARS
    sort: Callable[[Row], Any] | None = None

    def text(self, row: Row) -> Text:
        """What stands in the column, uncut."""
        shown = self.show(row)
        return shown if isinstance(shown, Text) else cell(shown, self.style)


class FilterLine(Input):
    """The line that a table is filtered with. Esc empties it, Enter or down goes to the rows."""

    DEFAULT_CSS = """
    FilterLine { border: none; height: 1; padding: 0 1; background: $surface; display: none; }
    FilterLine.-open { display: block; }
    FilterLine:focus { border: none; background: $boost; }
    """

    def __init__(self, table: Table[Any]) -> None:
        super().__init__(placeholder="Filter: words that a row has. Esc shows all rows.", classes="filter")
        self._table = table

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._table.narrow(self.value)

    def on_key(self, event: events.Key) -> None:
        """Leave at once, not by a binding: the next key may be in the queue already, and it is the table's."""
        if self.screen.focused is self._table:
            _pass_on(event, self._table)
        elif event.key == "escape":
            _consume(event)
            self.leave()
        elif event.key in ("enter", "down"):
            _consume(event)
            self._table.narrow(self.value)
            self.set_class(bool(self.value), "-open")
            self.screen.set_focus(self._table)

    def open(self) -> None:
        """Take the focus."""
        self.add_class("-open")
        self.screen.set_focus(self)

    def leave(self) -> None:
        """Show all rows."""
        self.clear()
        self._table.narrow("")
        self.remove_class("-open")
        self.screen.set_focus(self._table)


def _consume(event: events.Key) -> None:
    event.stop()
    event.prevent_default()


def _pass_on(event: events.Key, widget: Widget) -> None:
    """Give a key to the widget that has had the focus since the key before it."""
    _consume(event)
    widget._forward_event(events.Key(event.key, event.character))


class Table(ScrollView, Generic[Row], can_focus=True):
    """Rows by key under fixed columns; one row is chosen. Its `FilterLine` opens above it."""

    DEFAULT_CSS = """
    Table { height: 1fr; background: $background; }
    Table > .table--titles { color: $text-muted; }
    Table > .table--chosen { background: $panel; }
    Table:focus > .table--chosen { background: $block-cursor-background; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--titles", "table--chosen"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("ctrl+home,home", "jump(0)", show=False),
        Binding("ctrl+end,end", "jump(-1)", show=False),
        Binding("enter", "select", "Open", show=False),
        Binding("slash", "filter", "Filter", show=False, tooltip="Show the rows that have some words"),
        Binding("o", "order", "Order", show=False, tooltip="Order the rows by the next column"),
        Binding("O", "reverse", "Reverse", show=False, tooltip="Turn the order round"),
        Binding("escape", "all_rows", "All rows", show=False),
    ]

    class Highlighted(Message):
        """Another row is chosen, or none."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> Table[Any]:
            return self.table

    class Selected(Highlighted):
        """Enter or a click on the chosen row."""

    def __init__(self, *columns: Column[Row], id: str, filtered: bool = True) -> None:
        super().__init__(id=id)
        self._is_filtered = filtered
        self.columns = columns
        self._items: dict[str, Row] = {}
        self._keys: list[str] = []
        self._words: tuple[str, ...] = ()
        self._searched: dict[str, tuple[Row, str]] = {}
        self._measured: set[str] = set()
        self._sort: tuple[int, bool] | None = None
        self._widths = [len(column.title) for column in columns]
        self._cursor = 0
        self._filter = FilterLine(self)

    def on_mount(self) -> None:
        assert isinstance(self.parent, Widget)
        self.parent.mount(self._filter, before=self)

    # --- what is shown ---

    @property
    def current(self) -> str | None:
        """The key of the chosen row; ``None`` if there is none."""
        return self._keys[self._cursor] if self._cursor < len(self._keys) else None

    @property
    def chosen(self) -> Row | None:
        """The chosen row."""
        key = self.current
        return None if key is None else self._items[key]

    @property
    def cells(self) -> list[list[str]]:
        """The rows that are shown, as text."""
        return [[self._text(column, key).plain for column in self.columns] for key in self._keys]

    def put(self, rows: Mapping[str, Row]) -> None:
        """Show these rows, in this order unless one was chosen. The chosen row stays chosen if it is still there."""
        self._items = dict(rows)
        self._searched = {key: known for key, known in self._searched.items() if key in self._items}
        self._measured.clear()
        self._arrange()

    def narrow(self, words: str) -> None:
        """Show only rows in which each of the words stands."""
        self._words = tuple(words.casefold().split())
        self._arrange()

    def _arrange(self) -> None:
        before, place = self.current if self._keys else None, self._cursor
        keys = [key for key in self._items if self._fits(key)] if self._words else list(self._items)
        if self._sort is not None:
            keys = self._sorted(keys, *self._sort)
        self._keys = keys
        places = {key: number for number, key in enumerate(keys)}
        self._cursor = places.get(before or "", max(0, min(place, len(keys) - 1)))
        for key in keys[:MEASURED_ROWS]:
            self._measure(key)
        self._resize()
        self._show_cursor()
        self.refresh()
        if self.current != before:
            self.post_message(self.Highlighted(self))

    def _fits(self, key: str) -> bool:
        item = self._items[key]
        known = self._searched.get(key)
        if known is None or known[0] is not item:
            text = "\n".join(column.text(item).plain for column in self.columns).casefold()
            known = self._searched[key] = (item, text)
        return all(word in known[1] for word in self._words)

    def _sorted(self, keys: list[str], number: int, backwards: bool) -> list[str]:
        """By a column; rows without a value stand last, whichever way."""
        column = self.columns[number]
        sort = column.sort or (lambda row: column.text(row).plain.casefold() or None)
        values: dict[str, Any] = {key: sort(self._items[key]) for key in keys}
        known = [key for key in keys if values[key] is not None]
        known.sort(key=values.__getitem__, reverse=backwards)
        return [*known, *(key for key in keys if values[key] is None)]

    def _text(self, column: Column[Row], key: str) -> Text:
        return column.text(self._items[key])

    def _measure(self, key: str) -> None:
        if key in self._measured:
            return
        self._measured.add(key)
        for number, column in enumerate(self.columns):
            width = min(max(self._text(column, key).cell_len, MIN_WIDTH_CHARS), column.width)
            self._widths[number] = max(self._widths[number], width)

    def _resize(self) -> None:
        width = sum(self._widths) + 2 * len(self._widths)
        self.virtual_size = Size(max(width, 1), len(self._keys) + 1)

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        """The titles, then the rows at the scroll position."""
        left, top = self.scroll_offset
        width = self.size.width
        base = self.rich_style
        row = top + y - 1
        if y == 0:
            strip, style = self._titles(), self.get_component_rich_style("table--titles")
        elif row >= len(self._keys):
            return Strip.blank(width, base)
        else:
            strip = self._line(self._keys[row])
            style = (
                self.get_component_rich_style("table--chosen", partial=True)
                if row == self._cursor
                else Style.null()
            )
        strip = strip.crop(left, left + width).extend_cell_length(width)
        return strip.apply_style(base + style)

    def _titles(self) -> Strip:
        titles = []
        for number, (column, width) in enumerate(zip(self.columns, self._widths, strict=True)):
            sign = ("▼" if self._sort[1] else "▲") if self._sort and self._sort[0] == number else " "
            titles.append(f" {column.title.ljust(width)}{sign}")
        if self._words:
            titles.append(f"{len(self._keys):,} of {len(self._items):,}")
        return Strip([Segment("".join(titles))])

    def _line(self, key: str) -> Strip:
        self._measure(key)
        parts: list[Strip] = []
        for column, width in zip(self.columns, self._widths, strict=True):
            text = self._text(column, key)
            if text.cell_len > width:
                text = text.copy()
                text.truncate(width, overflow="ellipsis")
            line = Strip([part for part in text.render(self.app.console) if part.text != "\n"])
            parts.append(Strip([Segment(" "), *line.adjust_cell_length(width), Segment(" ")]))
        return Strip.join(parts)

    # --- the cursor ---

    def choose(self, key: str) -> None:
        """Put the cursor on a row that is shown."""
        self._move_to(self._keys.index(key))

    def _move_to(self, place: int) -> None:
        before = self.current
        self._cursor = max(0, min(place, len(self._keys) - 1))
        self._show_cursor()
        self.refresh()
        if self.current != before:
            self.post_message(self.Highlighted(self))

    def _show_cursor(self) -> None:
        height = max(self.scrollable_content_region.height - 1, 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False, immediate=True)

    def on_resize(self) -> None:
        self._show_cursor()

    def action_move(self, step: int) -> None:
        self._move_to(self._cursor + step)

    def action_page(self, step: int) -> None:
        self._move_to(self._cursor + step * max(self.scrollable_content_region.height - 2, 1))

    def action_jump(self, place: int) -> None:
        self._move_to(place if place >= 0 else len(self._keys) - 1)

    def action_select(self) -> None:
        if self.current is not None:
            self.post_message(self.Selected(self))

    def on_click(self, event: events.Click) -> None:
        """A title orders by its column; a row is chosen, and opened if it was chosen already."""
        event.stop()
        if event.y == 0:
            self._order_at(event.x + self.scroll_offset.x)
            return
        place = self.scroll_offset.y + event.y - 1
        if place == self._cursor:
            self.action_select()
        elif place < len(self._keys):
            self._move_to(place)

    # --- filter and order ---

    def on_key(self, event: events.Key) -> None:
        """Open the filter at once, not by the binding: the next key may be in the queue already, and it is a word's."""
        if self.screen.focused is self._filter:
            _pass_on(event, self._filter)
        elif event.key == "slash" and self._is_filtered:
            _consume(event)
            self._filter.open()

    def action_filter(self) -> None:
        self._filter.open()

    def action_all_rows(self) -> None:
        self._filter.leave()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is the table's while it is filtered; where the daemon searches, the table does not filter."""
        if action == "filter":
            return self._is_filtered
        return bool(self._words) if action == "all_rows" else True

    def action_order(self) -> None:
        number = 0 if self._sort is None else self._sort[0] + 1
        self._order(None if number >= len(self.columns) else (number, False))

    def action_reverse(self) -> None:
        number, backwards = self._sort or (0, False)
        self._order((number, not backwards))

    def _order_at(self, x: int) -> None:
        end = 0
        for number, width in enumerate(self._widths):
            end += width + 2
            if x < end:
                again = self._sort is not None and self._sort[0] == number
                self._order((number, again and not self._sort[1] if self._sort else False))
                return

    def _order(self, sort: tuple[int, bool] | None) -> None:
        self._sort = sort
        self._arrange()
