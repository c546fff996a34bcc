"""A table whose rows have keys, refreshed in place so that the cursor stays where the person left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable


class Table(DataTable[Text]):
    """Rows under fixed column titles; one row is chosen."""

    def __init__(self, *columns: str, id: str) -> None:
        super().__init__(id=id, cursor_type="row", cell_padding=1)
        self._titles = columns
        self._rows: dict[str, tuple[Text, ...]] = {}

    def on_mount(self) -> None:
        for title in self._titles:
            self.add_column(Text(title), key=title)

    @property
    def current(self) -> str | None:
        """The key of the chosen row; ``None`` if the table is empty."""
        keys = list(self._rows)
        return keys[self.cursor_row] if 0 <= self.cursor_row < len(keys) else None

    def put(self, rows: Mapping[str, Sequence[Text]]) -> None:
        """Show these rows in this order. The chosen row stays chosen if it is still there."""
        wanted = {key: tuple(cells) for key, cells in rows.items()}
        if list(wanted) == list(self._rows):
            self._update(wanted)
            return
        chosen, place = self.current, self.cursor_row
        self.clear()
        self._rows = wanted
        for key, cells in wanted.items():
            self.add_row(*cells, key=key)
        keys = list(wanted)
        if keys:
            self.move_cursor(row=keys.index(chosen) if chosen in wanted else min(place, len(keys) - 1))

    def _update(self, wanted: Mapping[str, tuple[Text, ...]]) -> None:
        for key, cells in wanted.items():
            for title, new, old in zip(self._titles, cells, self._rows[key], strict=True):
                if new != old:
                    self.update_cell(key, title, new, update_width=True)
        self._rows = dict(wanted)
