"""The end of a screen's workers."""

from __future__ import annotations

from textual import on
from textual.messages import Prune
from textual.widget import Widget


class CancelsWorkers(Widget):
    """A screen that cancels its workers before its widgets are removed. Textual does so afterwards: a worker that goes
    on in between finds no widgets, and its error ends the app.
    """

    @on(Prune)
    def _cancel_workers(self) -> None:
        self.workers.cancel_node(self)
