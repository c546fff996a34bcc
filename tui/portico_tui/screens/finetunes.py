"""Fine-tuning: start, list and stop jobs; show the live loss and the checkpoints of the chosen job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from portico_tui.daemon import DaemonError, TuningEvent, TuningJob, TuningPlan
from portico_tui.screens.page import AppServices, ListingScreen, action, row_action
from portico_tui.text import amount, cell, clock, lasts, one_line, safe, span, tuning_state
from portico_tui.widgets.chart import Chart, Point
from portico_tui.widgets.dialogs import Confirm, Field, Form, Reader
from portico_tui.widgets.schema_form import json_object, local_path, reader
from portico_tui.widgets.table_rows import TableColumn

PAINT_INTERVAL_S = 0.2
"""Seconds between two updates of the curve."""

MAX_SENTENCES = 5
"""Maximum number of recent messages to show."""

OPEN = ("validating_files", "queued", "running", "paused")

METHODS = ("supervised", "dpo", "reinforcement")

CURVES = {"train_loss": "training loss", "valid_loss": "validation loss", "reward": "reward"}
"""The measurements to draw, and their labels."""


FORM = (
    Field("model", "Model to train", "default"),
    Field("training_file", "Local file of examples", hint="~/examples.jsonl", check=local_path),
    Field("validation_file", "File of held-back examples · optional", optional=True, check=local_path),
    Field(
        "method", "Method", "supervised", choices=METHODS, check=reader({"type": "string", "enum": METHODS})
    ),
    Field("n_epochs", "Epochs · optional", optional=True, check=reader({"type": "integer"})),
    Field(
        "recipe",
        "Settings of the recipe · optional",
        hint='{"rank": 16}; chosen by the daemon by default',
        optional=True,
        check=json_object,
    ),
    Field(
        "grader",
        "Grader for reinforcement · optional",
        hint="OpenAI's JSON",
        optional=True,
        check=json_object,
    ),
    Field("suffix", "Suffix of the model name · optional", optional=True),
)


class FinetunesScreen(ListingScreen[TuningJob]):
    """The fine-tuning jobs, newest first."""

    MODE = "finetunes"
    TAB = "Fine-tunes"
    COLUMNS = (
        TableColumn[TuningJob](
            "BEGAN", lambda job: clock(job.created_at), "dim", sort=lambda job: job.created_at
        ),
        TableColumn[TuningJob]("BASE", lambda job: job.model, "bold", 24),
        TableColumn[TuningJob]("METHOD", lambda job: job.method),
        TableColumn[TuningJob]("STATUS", lambda job: tuning_state(job.state)),
        TableColumn[TuningJob]("STEP", lambda job: _step(job), sort=lambda job: job.step),
        TableColumn[TuningJob]("MODEL", lambda job: _outcome(job)),
    )
    EMPTY = "No fine-tuning jobs yet.\n\nPress n to train a model on a file of examples."

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._followed_state = ""
        self._curves: dict[str, list[Point]] = {}
        self._reports: list[str] = []
        self._figures = ""
        self._stale = False

    def more(self) -> ComposeResult:
        with Vertical(id="course"):
            yield Chart(id="losses")
            yield Static(id="figures", markup=False)
            yield Static(id="said", markup=False)

    def on_mount(self) -> None:
        self.set_interval(PAINT_INTERVAL_S, self._paint)

    async def find(self) -> Sequence[TuningJob]:
        return await self.daemon.pages(self.client.tuning.list)

    def chose(self) -> None:
        job = self.chosen
        self.query_one("#course").display = job is not None
        state = f"{job.id} {job.state in OPEN}" if job is not None else ""
        if job is not None and state != self._followed_state:
            self._followed_state = state
            self._follow(job.id)

    @work(exclusive=True, group="follow")
    async def _follow(self, job_id: str) -> None:
        """Follow the events of the chosen job, from the first to the last."""
        self._curves, self._reports, self._figures = {}, [], ""
        self._show()
        try:
            async for item in self.client.tuning.follow(job_id):
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
            self._reports = [*self._reports, event.message][-MAX_SENTENCES:]
        else:
            step = event.data.get("step")
            for name, title in CURVES.items():
                value = event.data.get(name)
                if isinstance(value, int | float) and isinstance(step, int | float):
                    self._curves.setdefault(title, []).append((float(step), float(value)))
            self._figures = event.message
            if isinstance(event.data.get("tokens_per_second"), int | float):
                self._figures += f" · {event.data['tokens_per_second']:.0f} tokens/s"
        self._stale = True

    def _paint(self) -> None:
        """Redraw the curve if it is outdated. Several steps may have ended since the last drawing."""
        if self._stale:
            self._show()

    def _show(self) -> None:
        if not self.is_attached:
            return
        self._stale = False
        chart = self.query_one(Chart)
        chart.plot(self._curves)
        chart.display = bool(self._curves)
        job = self.chosen
        remaining_time = lasts(job.estimated_finish) if job is not None and job.status == "running" else ""
        figures = " · ".join(part for part in (self._figures, remaining_time) if part)
        self.query_one("#figures", Static).update(Content(one_line(figures)))
        self.query_one("#said", Static).update(
            Content("\n".join(one_line(report) for report in self._reports))
        )

    @action("n", "New", "Train a model: the data is checked and the recipe shown before training starts")
    async def start(self) -> None:
        answers = await self.ask(Form("Train a model on examples", *FORM))
        if answers is None:
            return
        validation = answers["validation_file"]
        options: dict[str, Any] = {
            "validation_file": local_path(validation) if validation else None,
            "method": answers["method"],
            "hyperparameters": {"n_epochs": int(answers["n_epochs"])} if answers["n_epochs"] else None,
            "recipe": json_object(answers["recipe"]) if answers["recipe"] else None,
            "grader": json_object(answers["grader"]) if answers["grader"] else None,
        }
        examples = local_path(answers["training_file"])
        plan = await self.client.tuning.plan(answers["model"], examples, **options)
        question = Confirm(safe(describe_plan(plan)), "Train", wide=True)
        if await self.app.push_screen_wait(question):
            job = await self.client.tuning.create(
                answers["model"], examples, suffix=answers["suffix"], **options
            )
            self.report("Fine-tuning", f"{job.id} has begun.")

    @row_action(
        "p",
        "Pause",
        "Stop the job after its last checkpoint, or continue",
        when=lambda job: job.state in OPEN,
    )
    async def pause(self, job: TuningJob) -> None:
        change = self.client.tuning.resume if job.state == "paused" else self.client.tuning.pause
        await change(job.id)

    @row_action("c", "Cancel", "Cancel the job permanently", when=lambda job: job.state in OPEN)
    async def cancel(self, job: TuningJob) -> None:
        if await self.sure(f"Cancel the training of {one_line(job.model)} permanently?", "Cancel it"):
            await self.client.tuning.cancel(job.id)

    @row_action(
        "s",
        "Promote",
        "Point a name such as default to the trained model",
        when=lambda job: job.fine_tuned_model,
    )
    async def promote(self, job: TuningJob) -> None:
        model = job.fine_tuned_model or ""
        answers = await self.ask(
            Form(f"Another name for {one_line(model)}", Field("name", "Name", hint="default"))
        )
        if answers is not None:
            await self.client.models.alias(answers["name"], model)
            self.report("Promote", f"'{answers['name']}' means {model} now.")

    @row_action("enter", "Checkpoints", "The job's checkpoints and its recipe")
    async def checkpoints(self, job: TuningJob) -> None:
        page = await self.client.tuning.checkpoints(job.id, limit=100)
        lines = [
            f"step {tuning_checkpoint.step_number} · {tuning_checkpoint.model} · "
            + " · ".join(f"{name} {value:.4g}" for name, value in tuning_checkpoint.metrics.items())
            for tuning_checkpoint in page
        ] or ["No checkpoints yet."]
        reasons = (job.recipe or {}).get("reasons") or {}
        lines += [
            "",
            *(f"{name}: {(job.recipe or {}).get(name)} · {reason}" for name, reason in reasons.items()),
        ]
        self.app.push_screen(Reader(f"Checkpoints of {job.id}", safe("\n".join(lines))))


def describe_plan(plan: TuningPlan) -> str:
    """Describe a plan: statistics and anomalies of the data, and the recipe with the reason for each setting."""
    data, recipe = plan.data, plan.recipe
    reasons = recipe.get("reasons") or {}
    lines = [
        f"Train {plan.model} ({plan.parameters:,} parameters)?",
        "",
        " · ".join(f"{name} {value:,}" for name, value in data.items()),
        *(f"! {warning}" for warning in plan.warnings),
        f"{recipe.get('kind', '')} · {recipe.get('steps', 0):,} steps · about {span(recipe.get('seconds'))} "
        f"· {amount(recipe.get('memory_bytes'))} memory",
        "",
        *(f"{name} = {recipe[name]} · {reason}" for name, reason in reasons.items() if name in recipe),
    ]
    return "\n".join(lines)


def _step(job: TuningJob) -> str:
    return f"{job.step} of {job.total_steps}" if job.step and job.total_steps else ""


def _outcome(job: TuningJob) -> Text:
    return cell(job.fine_tuned_model or job.error, "" if job.fine_tuned_model else "red")
