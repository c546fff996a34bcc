"""Batches: how far each is, what is wrong with it, and a way to stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Footer, Static

from portico_tui.daemon import Batch
from portico_tui.screens.page import Listing
from portico_tui.text import batch_state, cell, clock, one_line
from portico_tui.widgets.table import Table

MAX_SHOWN_PROBLEMS = 5
"""How many of the problems of a file are shown."""


class Batches(Listing[Batch]):
    """The batches, newest first."""

    LOOK_AGAIN = 1.0
    CSS_PATH = "batches.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel", "Cancel", tooltip="Ask nothing more; what is answered has its file"),
    ]

    def compose(self) -> ComposeResult:
        yield from self.top("batches")
        with Vertical(id="body"):
            yield Table("BEGAN", "ENDPOINT", "MODEL", "STATUS", "DONE", "FAILED", id="batches")
            yield Static(
                "No batches yet: portico batches create requests.jsonl", id="no-batches", classes="empty"
            )
        yield Static(id="told", markup=False)
        yield Footer(show_command_palette=False)

    async def find(self) -> Sequence[Batch]:
        return await self.daemon.batches()

    def draw(self) -> None:
        table = self.query_one(Table)
        table.put({batch.id: _row(batch) for batch in self.items.values()})
        table.display = bool(self.items)
        self.query_one("#no-batches").display = not self.items
        self._tell()

    @on(DataTable.RowHighlighted)
    def _tell(self) -> None:
        batch = self.chosen
        lines: list[str] = []
        if batch is not None:
            for error in batch.errors[:MAX_SHOWN_PROBLEMS]:
                where = "" if error.line is None else f"Line {error.line}: "
                lines.append(one_line(where + error.message))
            if batch.ended and batch.done:
                lines.append(f"portico batches results {batch.id}")
        report = self.query_one("#told", Static)
        report.display = bool(lines)
        report.update(Content("\n".join(lines)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What has ended, or does so now, cannot be cancelled."""
        if action == "cancel":
            batch = self.chosen if self.is_mounted else None
            return True if batch is not None and batch.status in ("validating", "in_progress") else None
        return True

    @work(group="change")
    async def action_cancel(self) -> None:
        batch = self.chosen
        if batch is None or not await self.sure("Ask nothing more of this batch?", "Cancel it"):
            return
        with self.reporting(f"Batch {batch.id}"):
            await self.daemon.cancel_batch(batch.id)
        self.look()


def _row(batch: Batch) -> tuple[Text, ...]:
    return (
        cell(clock(batch.created_at), "dim"),
        cell(batch.endpoint),
        cell(batch.model or "", "bold", 24),
        batch_state(batch.status),
        cell(f"{batch.done:,} of {batch.total:,}" if batch.total else ""),
        cell(f"{batch.failed:,}" if batch.failed else "", "red"),
    )
