"""Ranked passages, each with its number, file, location and the quoted text. Enter shows the full passage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from portico_tui.daemon import Passage
from portico_tui.text import heading, safe, shorten
from portico_tui.widgets.dialogs import Reader


class Passages(OptionList):
    """Passages in rank order. ``quote`` is the number of characters to show of each passage.

    With ``scores``, the score of each passage is shown.
    """

    DEFAULT_CSS = """
    Passages { height: 1fr; border: none; background: $background; }
    Passages > .option-list--option { padding: 0 1; }
    Passages:focus { border: none; background-tint: transparent; }
    Passages:blur > .option-list--option-highlighted { background: $background; text-style: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Read", show=False)]

    def __init__(self, *, id: str, quote: int, scores: bool = False) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._quote = quote
        self._scores = scores
        self.passages: tuple[Passage, ...] = ()
        """The passages in the list."""

    def put(self, passages: Sequence[Passage]) -> None:
        """Replace the passages."""
        self.passages = tuple(passages)
        self.clear_options()
        self.add_options([Option(self._line(passage)) for passage in passages])
        if passages:
            self.highlighted = 0

    def _line(self, passage: Passage) -> Content:
        score = f"  {passage.score:.3f}" if self._scores else ""
        return Content.assemble(
            (f"[{passage.rank}] ", "bold $accent"),
            (heading(passage), "bold"),
            (score, "italic"),
            "\n",
            (f"“{shorten(passage.text, self._quote)}”", "dim"),
        )

    @on(OptionList.OptionSelected)
    def _read(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        passage = self.passages[event.option_index]
        self.app.push_screen(Reader(f"[{passage.rank}] {heading(passage)}", safe(passage.text)))
