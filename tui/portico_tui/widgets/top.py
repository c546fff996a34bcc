"""The first two lines of every screen: where one is, which daemon that is, and whether it answers."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from portico_tui.link import Lost

SCREENS = {
    "models": "Models",
    "documents": "Documents",
    "chat": "Chat",
    "approvals": "Approvals",
    "finetunes": "Fine-tunes",
    "batches": "Batches",
}
"""Modes of the app and their titles, in the order of their keys, from 1."""


class Top(Horizontal):
    """The names of the screens, the one that is open set off, and the daemon's address."""

    DEFAULT_CSS = """
    Top { height: 1; background: $panel; }
    Top > .brand { width: auto; padding: 0 1; text-style: bold; color: $accent; }
    Top > .tab { width: auto; padding: 0 1; link-style: none; link-color: $text-muted; }
    Top > .tab.-open { background: $primary; link-color: $text; link-style: bold; }
    Top > .address { width: 1fr; padding: 0 1; text-align: right; color: $text-muted; }
    """

    def __init__(self, mode: str, address: str) -> None:
        super().__init__()
        self._mode = mode
        self._address = address

    def compose(self) -> ComposeResult:
        yield Static("Portico", classes="brand")
        for number, (mode, title) in enumerate(SCREENS.items(), 1):
            tab = Static(f"[@click=app.switch_mode('{mode}')]{number} {title}[/]", classes="tab")
            yield tab.set_class(mode == self._mode, "-open")
        yield Static(Content(self._address), classes="address")


class Banner(Static):
    """Says that the daemon does not answer, and when it is tried again. Hidden while it does."""

    DEFAULT_CSS = """
    Banner { height: auto; max-height: 3; background: $error; color: $text; padding: 0 1; display: none; }
    Banner.-lost { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, lost: Lost | None) -> None:
        """Show why the daemon is away, or hide."""
        self.set_class(lost is not None, "-lost")
        if lost is not None:
            self.update(f"{lost.sentence} Next try in {lost.again_in:g} s; ctrl+r tries now.")
