"""Batches: their progress and errors, and how to cancel them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from portico_tui.daemon import Batch
from portico_tui.screens.page import ListingScreen, action, row_action
from portico_tui.text import batch_state, cell, clock, one_line, safe
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.schema_form import local_path
from portico_tui.widgets.table_rows import TableColumn

MAX_SHOWN_PROBLEMS = 5
"""Maximum number of problems to show for a file."""


class BatchesScreen(ListingScreen[Batch]):
    """The batches, newest first."""

    MODE = "batches"
    TAB = "Batches"
    LOOK_INTERVAL_S = 1.0
    COLUMNS = (
        TableColumn[Batch](
            "BEGAN", lambda batch: clock(batch.created_at), "dim", sort=lambda batch: batch.created_at
        ),
        TableColumn[Batch]("ENDPOINT", lambda batch: batch.endpoint),
        TableColumn[Batch]("MODEL", lambda batch: batch.model or "", "bold", 24),
        TableColumn[Batch]("STATUS", lambda batch: batch_state(batch.status)),
        TableColumn[Batch](
            "DONE",
            lambda batch: f"{batch.done:,} of {batch.total:,}" if batch.total else "",
            sort=lambda batch: batch.done,
        ),
        TableColumn[Batch](
            "FAILED",
            lambda batch: cell(f"{batch.failed:,}" if batch.failed else "", "red"),
            sort=lambda batch: batch.failed,
        ),
    )
    EMPTY = "No batches yet.\n\nPress n to start one from a file of requests."

    async def find(self) -> Sequence[Batch]:
        return await self.daemon.pages(self.client.batches.list)

    @action("n", "New", "Validate a file of requests and start a batch")
    async def new(self) -> None:
        answers = await self.ask(
            Form(
                "Begin a batch",
                Field("file", "Local file of requests, one JSON object per line", check=local_path),
                Field("endpoint", "Endpoint", "/v1/chat/completions"),
            )
        )
        if answers is None:
            return
        file = local_path(answers["file"])
        batch = await self.client.batches.check(file, answers["endpoint"])
        problems = [
            f"line {batch_problem.line}: {batch_problem.message}"
            for batch_problem in batch.errors[:MAX_SHOWN_PROBLEMS]
        ]
        if problems:
            self.app.push_screen(Reader("The file is not a valid batch", safe("\n".join(problems))))
        elif await self.sure(f"Send the {batch.total:,} requests of {file.name}?", "Begin"):
            await self.client.batches.create(file, answers["endpoint"])

    def detail(self, item: Batch) -> Iterable[Content | str]:
        for error in item.errors[:MAX_SHOWN_PROBLEMS]:
            place = "" if error.line is None else f"Line {error.line}: "
            yield one_line(place + error.message)
        if item.ended and item.done:
            yield f"portico batches results {item.id}"

    @row_action(
        "c",
        "Cancel",
        "Cancel the batch; answered requests remain in its file",
        when=lambda batch: batch.status in ("validating", "in_progress"),
    )
    async def cancel(self, batch: Batch) -> None:
        if await self.sure("Cancel this batch?", "Cancel it"):
            await self.client.batches.cancel(batch.id)
