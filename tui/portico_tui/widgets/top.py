"""The first two lines of every screen: the names of the screens, the daemon, and whether it responds."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Horizontal, HorizontalScroll
from textual.content import Content
from textual.widgets import Static

from portico_tui.link import Lost

DIGIT_KEYS = "1234567890"
"""The keys that open the first screens, in order."""


class Top(Horizontal):
    """The names of the screens, the key that opens any of them, and the daemon's URL. The open screen is highlighted
    and scrolled into view.
    """

    DEFAULT_CSS = """
    Top { height: 1; background: $panel; }
    Top > .brand { width: auto; padding: 0 1; text-style: bold; color: $accent; }
    Top > .tabs { width: 1fr; height: 1; scrollbar-size: 0 0; }
    Top .tab { width: auto; padding: 0 1; link-style: none; link-color: $text-muted; }
    Top .tab.-open { background: $primary; link-color: $text; link-style: bold; }
    Top > .go { width: auto; padding: 0 1; link-style: none; link-color: $accent; }
    Top > .address { width: auto; padding: 0 1; text-align: right; color: $text-muted; }
    """

    def __init__(self, titles: Mapping[str, str], mode: str, address: str) -> None:
        super().__init__()
        self._titles = titles
        self._mode = mode
        self._address = address

    def compose(self) -> ComposeResult:
        yield Static("Portico", classes="brand")
        tabs = []
        for number, (mode, title) in enumerate(self._titles.items()):
            key = f"{DIGIT_KEYS[number]} " if number < len(DIGIT_KEYS) else ""
            tabs.append(f"[@click=app.switch_mode('{mode}')]{key}{title}[/]")
        place = list(self._titles).index(self._mode)
        with HorizontalScroll(classes="tabs", can_focus=False):
            yield Static("  ".join(tabs[:place]), classes="tab")
            yield Static(tabs[place], classes="tab -open")
            yield Static("  ".join(tabs[place + 1 :]), classes="tab")
        yield Static("[@click=app.go]^g all[/]", classes="go")
        yield Static(Content(self._address), classes="address")

    def on_mount(self) -> None:
        self.call_after_refresh(self._show_open)

    def on_resize(self) -> None:
        self._show_open()

    def _show_open(self) -> None:
        self.query_one(".tabs").scroll_to_widget(self.query_one(".tab.-open"), animate=False)


class Banner(Static):
    """Says that the daemon does not respond, and when the next attempt is. Hidden while the daemon responds."""

    DEFAULT_CSS = """
    Banner { height: auto; max-height: 3; background: $error; color: $text; padding: 0 1; display: none; }
    Banner.-lost { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, loss: Lost | None) -> None:
        """Show why the daemon is unreachable, or hide the banner if ``loss`` is ``None``."""
        self.set_class(loss is not None, "-lost")
        if loss is not None:
            self.update(f"{loss.sentence} Next attempt in {loss.again_in:g} s; press ctrl+r to try now.")
