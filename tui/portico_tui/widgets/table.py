"""The table used by every screen: rows of values in declared columns, filtered while the person types, and sorted by
any column.

Only visible rows are drawn, so that ten thousand rows take no longer than thirty. A refresh keeps the cursor on its
row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic

from rich.style import Style
from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from portico_tui.widgets.table_rows import Row, TableColumn, TableRows


class FilterLine(Input):
    """The filter line of a table. Esc clears the filter; Enter or the down key moves to the rows."""

    DEFAULT_CSS = """
    FilterLine { border: none; height: 1; padding: 0 1; background: $surface; display: none; }
    FilterLine.-open { display: block; }
    FilterLine:focus { border: none; background: $boost; }
    """

    def __init__(self, table: Table[Any]) -> None:
        super().__init__(placeholder="Filter: words in a row. Esc shows all rows.", classes="filter")
        self._table = table

    @on(Input.Changed)
    def _apply_filter(self, event: Input.Changed) -> None:
        event.stop()
        self._table.narrow(self.value)

    def on_key(self, event: events.Key) -> None:
        """Leave the line here and not through a key binding: the next key may already be queued, and belongs to the
        table.
        """
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
    """Pass a key to the widget that received the focus after the key was queued."""
    _consume(event)
    widget._forward_event(events.Key(event.key, event.character))


class Table(ScrollView, Generic[Row], can_focus=True):
    """A table of rows, each with a key, in fixed columns. One row is chosen. The table's `FilterLine` opens above
    it.
    """

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
        Binding("slash", "filter", "Filter", show=False, tooltip="Show only rows with given words"),
        Binding("o", "order", "Order", show=False, tooltip="Sort the rows by the next column"),
        Binding("O", "reverse", "Reverse", show=False, tooltip="Reverse the order"),
        Binding("escape", "all_rows", "All rows", show=False),
    ]

    class Highlighted(Message):
        """Sent when another row is chosen, or no row is chosen any more."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> Table[Any]:
            return self.table

    class Selected(Highlighted):
        """Sent when Enter is pressed on the chosen row, or when the chosen row is clicked."""

    def __init__(self, *columns: TableColumn[Row], id: str, is_filtered: bool = True) -> None:
        super().__init__(id=id)
        self._may_filter = is_filtered
        self.rows = TableRows(columns)
        self._cursor = 0
        self._filter = FilterLine(self)

    def on_mount(self) -> None:
        assert isinstance(self.parent, Widget)
        self.parent.mount(self._filter, before=self)

    @property
    def current(self) -> str | None:
        """The key of the chosen row; ``None`` if no row is chosen."""
        keys = self.rows.keys
        return keys[self._cursor] if self._cursor < len(keys) else None

    @property
    def chosen(self) -> Row | None:
        """The chosen row."""
        key = self.current
        return None if key is None else self.rows[key]

    @property
    def cells(self) -> list[list[str]]:
        """The cells of the rows that the filter shows, as text."""
        return self.rows.cells

    def put(self, rows: Mapping[str, Row]) -> None:
        """Show the rows in this order, unless the table is sorted by a column. The chosen row stays chosen if it still
        exists.
        """
        with self._arranging():
            self.rows.put(rows)

    def narrow(self, words: str) -> None:
        """Show only rows that contain every word."""
        with self._arranging():
            self.rows.narrow(words)

    @contextmanager
    def _arranging(self) -> Iterator[None]:
        """Keep the cursor on the same row while the rows or their order change."""
        before, place = self.current, self._cursor
        yield
        places = {key: number for number, key in enumerate(self.rows.keys)}
        self._cursor = places.get(before or "", max(0, min(place, len(places) - 1)))
        self.virtual_size = self.rows.size
        self._show_cursor()
        self.refresh()
        if self.current != before:
            self.post_message(self.Highlighted(self))

    def render_line(self, y: int) -> Strip:
        """Return a line of the table: the titles first, then the rows at the scroll position."""
        left_edge, top = self.scroll_offset
        width = self.size.width
        base = self.rich_style
        row = top + y - 1
        if y == 0:
            strip, style = self.rows.titles(), self.get_component_rich_style("table--titles")
        elif row >= len(self.rows.keys):
            return Strip.blank(width, base)
        else:
            strip = self.rows.line(self.rows.keys[row], self.app.console)
            style = (
                self.get_component_rich_style("table--chosen", partial=True)
                if row == self._cursor
                else Style.null()
            )
        strip = strip.crop(left_edge, left_edge + width).extend_cell_length(width)
        return strip.apply_style(base + style)

    def choose(self, key: str) -> None:
        """Move the cursor to a visible row."""
        self._move_to(self.rows.keys.index(key))

    def _move_to(self, place: int) -> None:
        before = self.current
        self._cursor = max(0, min(place, len(self.rows.keys) - 1))
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
        self._move_to(place if place >= 0 else len(self.rows.keys) - 1)

    def action_select(self) -> None:
        if self.current is not None:
            self.post_message(self.Selected(self))

    def on_click(self, event: events.Click) -> None:
        """Sort by a column if its title is clicked. Choose a row that is clicked, or open it if it was already
        chosen.
        """
        event.stop()
        if event.y == 0:
            x = event.x + self.scroll_offset.x
            if x < self.rows.size.width:
                with self._arranging():
                    self.rows.order_at(x)
            return
        place = self.scroll_offset.y + event.y - 1
        if place == self._cursor:
            self.action_select()
        elif place < len(self.rows.keys):
            self._move_to(place)

    def on_key(self, event: events.Key) -> None:
        """Open the filter here and not through a key binding: the next key may already be queued, and belongs to the
        filter's text.
        """
        if self.screen.focused is self._filter:
            _pass_on(event, self._filter)
        elif event.key == "slash" and self._may_filter:
            _consume(event)
            self._filter.open()

    def action_filter(self) -> None:
        self._filter.open()

    def action_all_rows(self) -> None:
        self._filter.leave()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let the table handle Esc only while it is filtered. Disable the filter if the daemon does the searching."""
        if action == "filter":
            return self._may_filter
        return self.rows.is_filtered if action == "all_rows" else True

    def action_order(self) -> None:
        with self._arranging():
            self.rows.order_by_next()

    def action_reverse(self) -> None:
        with self._arranging():
            self.rows.reverse()
