"""Output of `portico tune`: the plan of a job, its progress, and its loss during training."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from portico.cli.curve import curve, lasts
from portico.cli.render import amount, console, one_line, print_fields, print_rows
from portico.client import Client
from portico.schemas.fine_tuning import TuningEvent, TuningJob, TuningPlan

EVENT_COUNT = 1000
"""Number of events from which to draw the curve."""

MAX_SHOWN_SENTENCES = 8
"""Maximum number of messages to show below the curve."""


def print_plan(plan: TuningPlan, *, reasons: bool) -> None:
    """Print the examples and the recipe of a plan. With ``reasons``, print each setting and the reason for its
    value.
    """
    data, recipe = plan.data, plan.recipe
    for sentence in plan.warnings:
        typer.secho(one_line(sentence), fg="yellow", err=True)
    print_fields(
        [
            ("model", f"{plan.model}, {plan.parameters:,} parameters"),
            (
                "examples",
                f"{data['examples']:,}, {data['tokens']:,} tokens, the longest with {data['longest']:,}",
            ),
            ("held back", data["validation"] or None),
            ("training", f"{recipe['kind']}, {recipe['steps']:,} steps, {recipe['epochs']} epochs"),
            ("processes", _spread(recipe)),
            ("memory", amount(recipe["memory_bytes"])),
            ("disk", amount(recipe["disk_bytes"])),
            ("time", f"about {lasts(recipe['seconds'])}"),
        ]
    )
    if reasons:
        typer.echo()
        reason = recipe["reasons"]
        names = [name for name in recipe if name in reason]
        print_rows(
            ("SETTING", "VALUE", "REASON"), ((name, _value(recipe[name]), reason[name]) for name in names)
        )
        typer.echo(f"\n{one_line(shlex.join(plan.command))}")


def _spread(recipe: Mapping[str, Any]) -> str | None:
    """Describe how training is distributed over processes. Return ``None`` for a single process."""
    if recipe["processes"] == 1:
        return None
    nodes, parts = recipe["nodes"], recipe["tensor_parallel"]
    words = f"{recipe['processes']}, {recipe['sharding']}"
    words += f", {nodes} nodes" if nodes > 1 else ""
    return words + (f", each layer split across {parts}" if parts > 1 else "")


def _value(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def print_course(client: Client, job_id: str) -> None:
    """Print the loss curve so far, and the last messages."""
    tuning_events = list(reversed(client.tuning.events(job_id, limit=EVENT_COUNT).data))
    losses = [event.data["train_loss"] for event in tuning_events if "train_loss" in event.data]
    if losses:
        typer.echo(f"\n{curve(losses)}  {losses[0]:.3f} → {losses[-1]:.3f}")
    for event in [event for event in tuning_events if event.type == "message"][-MAX_SHOWN_SENTENCES:]:
        typer.echo(one_line(event.message))


def follow(client: Client, job: TuningJob, *, quiet: bool) -> TuningJob:
    """Show a job until it has ended or is paused, and return it. On Ctrl-C, print how to follow the job again.

    On a terminal, show a live curve. Otherwise, print one line per message. ``quiet``: print nothing.
    """
    out = console(error=True)
    screen = _Screen(job)
    try:
        if quiet or not out.is_terminal:
            for item in client.tuning.follow(job.id):
                if isinstance(item, TuningJob):
                    return item
                if not quiet and item.type == "message":
                    typer.echo(one_line(item.message), err=True)
            return client.tuning.get(job.id)
        with Live(screen.draw(), console=out, transient=True, auto_refresh=False) as live:
            for item in client.tuning.follow(job.id):
                if isinstance(item, TuningJob):
                    return item
                for line in screen.take(item):
                    live.console.print(line)
                live.update(screen.draw(), refresh=True)
        return client.tuning.get(job.id)
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe job continues. To follow it: portico tune follow {job.id}\nTo cancel it: portico tune "
            f"cancel {job.id}",
            err=True,
        )
        raise


class _Screen:
    """The part of the terminal that is updated during training."""

    def __init__(self, job: TuningJob) -> None:
        self._job = job
        self._losses: list[float] = []
        self._last: dict[str, Any] = {}
        self._began: tuple[int, float] | None = None

    def take(self, event: TuningEvent) -> list[Text]:
        """Process an event. A message becomes lines to print permanently; a measurement updates the curve."""
        if event.type == "message":
            style = {"warn": "yellow", "error": "red"}.get(event.level, "dim")
            return [Text(one_line(event.message), style)]
        self._last = dict(event.data)
        if isinstance(event.data.get("train_loss"), int | float):
            self._losses.append(float(event.data["train_loss"]))
        if self._began is None and "step" in event.data:
            self._began = (int(event.data["step"]), time.monotonic())
        return []

    def draw(self) -> Group:
        """Return the curve and a line with the latest figures."""
        last = self._last
        if "step" not in last:
            return Group(Text(f"{self._job.id} · Ctrl-C leaves it running", "dim"))
        total = last.get("total_steps")
        figures = [f"step {last['step']} of {total}" if total else f"step {last['step']}"]
        for name, words in (
            ("train_loss", "loss {:.4f}"),
            ("valid_loss", "held back {:.4f}"),
            ("reward", "reward {:.3f}"),
            ("tokens_per_second", "{:.0f} tokens/s"),
        ):
            if isinstance(last.get(name), int | float):
                figures.append(words.format(last[name]))
        if (remaining_s := self._remaining_s()) is not None:
            figures.append(f"{lasts(remaining_s)} left")
        return Group(Text(curve(self._losses), "cyan"), Text(" · ".join(figures)))

    def _remaining_s(self) -> float | None:
        total = self._last.get("total_steps")
        if self._began is None or not total:
            return None
        first, at = self._began
        done_steps = int(self._last["step"]) - first
        return (
            (time.monotonic() - at) / done_steps * (int(total) - first - done_steps)
            if done_steps > 0
            else None
        )
