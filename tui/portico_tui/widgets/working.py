"""Runs in progress, one line per run: a label, a bar, and the progress."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import ProgressBar, Static

from portico_tui.daemon import Progressed
from portico_tui.text import measure, one_line


class Working(Horizontal):
    """The line of a run. Call `show` to update it, and remove it when the run has ended."""

    DEFAULT_CSS = """
    Working { height: 1; padding: 0 1; }
    Working > .label { width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }
    Working > ProgressBar { width: 20; margin: 0 1; }
    Working > ProgressBar Bar { width: 1fr; }
    Working > .measure { width: auto; color: $text-muted; }
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self._label = one_line(label)

    def compose(self) -> ComposeResult:
        yield Static(Content(self._label), classes="label")
        yield ProgressBar(show_percentage=False, show_eta=False)
        yield Static(classes="measure", markup=False)

    def show(self, progress: Progressed) -> None:
        """Show the progress of the run."""
        self.query_one(ProgressBar).update(total=progress.total or None, progress=progress.done or 0)
        self.query_one(".measure", Static).update(f"{one_line(progress.stage)} {measure(progress)}".strip())
