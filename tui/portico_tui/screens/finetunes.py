"""Fine-tunes: the jobs, the loss of the chosen one as it falls, and a way to stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Footer, Sparkline, Static

from portico_tui.daemon import DaemonError, TuningEvent, TuningJob
from portico_tui.screens.page import AppServices, Listing
from portico_tui.text import cell, clock, lasts, one_line, tuning_state
from portico_tui.widgets.table import Table

PAINT_INTERVAL_S = 0.2
"""Seconds between two pictures of the curve."""

SENTENCES = 5
"""How many of the last events are shown."""

OPEN = ("validating_files", "queued", "running", "paused")


class Finetunes(Listing[TuningJob]):
    """The fine-tuning jobs, newest first."""

    LOOK_AGAIN = 2.0
    CSS_PATH = "finetunes.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "p", "pause", "Pause or resume", tooltip="Stop the job after its last checkpoint, or continue"
        ),
        Binding("c", "cancel", "Cancel", tooltip="End the job for good"),
    ]

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._followed = ""
        self._losses: list[float] = []
        self._reports: list[str] = []
        self._figures = ""
        self._stale = False

    def compose(self) -> ComposeResult:
        yield from self.top("finetunes")
        with Vertical(id="body"):
            yield Table("BEGAN", "BASE", "METHOD", "STATUS", "STEP", "MODEL", id="jobs")
            yield Static(
                "Nothing was trained yet: portico tune examples.jsonl --base default",
                id="no-jobs",
                classes="empty",
            )
        with Vertical(id="course"):
            yield Sparkline(id="losses")
            yield Static(id="figures", markup=False)
            yield Static(id="said", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(PAINT_INTERVAL_S, self._paint)

    async def find(self) -> Sequence[TuningJob]:
        return await self.daemon.tuning_jobs()

    def draw(self) -> None:
        table = self.query_one(Table)
        table.put({job.id: _row(job) for job in self.items.values()})
        table.display = bool(self.items)
        self.query_one("#no-jobs").display = not self.items
        self._choose()

    @on(DataTable.RowHighlighted)
    def _choose(self) -> None:
        job = self.chosen
        self.query_one("#course").display = job is not None
        state = f"{job.id} {job.status in OPEN}" if job is not None else ""
        if job is not None and state != self._followed:
            self._followed = state
            self._follow(job.id)

    @work(exclusive=True, group="follow")
    async def _follow(self, job_id: str) -> None:
        """The chosen job from its first event to its last."""
        self._losses, self._reports, self._figures = [], [], ""
        self._show()
        try:
            async for item in self.daemon.follow_tuning(job_id):
                if isinstance(item, TuningJob):
                    self.items[item.id] = item
                    self.draw()
                else:
                    self._take(item)
        except DaemonError as error:
            self._reports.append(error.message)
        self._show()

    def _take(self, event: TuningEvent) -> None:
        if event.type == "message":
            self._reports = [*self._reports, event.message][-SENTENCES:]
        else:
            data = event.data
            loss = data.get("train_loss", data.get("reward"))
            if isinstance(loss, int | float):
                self._losses.append(float(loss))
            self._figures = event.message
            if isinstance(data.get("tokens_per_second"), int | float):
                self._figures += f" · {data['tokens_per_second']:.0f} tokens/s"
        self._stale = True

    def _paint(self) -> None:
        """Many steps may have passed since the last time."""
        if self._stale:
            self._show()

    def _show(self) -> None:
        if not self.is_attached:
            return
        self._stale = False
        self.query_one(Sparkline).data = self._losses or None
        job = self.chosen
        left = lasts(job.estimated_finish) if job is not None and job.status == "running" else ""
        self.query_one("#figures", Static).update(
            Content(" · ".join(part for part in (self._figures, left) if part))
        )
        self.query_one("#said", Static).update(Content("\n".join(one_line(each) for each in self._reports)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What can only be done to a job that has not ended is dimmed for others."""
        if action in ("pause", "cancel"):
            job = self.chosen if self.is_mounted else None
            return True if job is not None and job.status in OPEN else None
        return True

    @work(group="change")
    async def action_pause(self) -> None:
        if (job := self.chosen) is not None:
            with self.reporting(f"Job {job.id}"):
                change = self.daemon.resume_tuning if job.status == "paused" else self.daemon.pause_tuning
                await change(job.id)
            self.look()

    @work(group="change")
    async def action_cancel(self) -> None:
        job = self.chosen
        if job is None or not await self.sure(f"End the training of {job.model} for good?", "Cancel it"):
            return
        with self.reporting(f"Job {job.id}"):
            await self.daemon.cancel_tuning(job.id)
        self.look()


def _row(job: TuningJob) -> tuple[Text, ...]:
    step = f"{job.step} of {job.total_steps}" if job.step and job.total_steps else ""
    return (
        cell(clock(job.created_at), "dim"),
        cell(job.model, "bold", 24),
        cell(job.method),
        tuning_state(job.status),
        cell(step),
        cell(job.fine_tuned_model or job.error, "" if job.fine_tuned_model else "red"),
    )
