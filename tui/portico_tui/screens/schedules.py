"""Schedules: apps that run, and stores that sync, at set times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from textual.content import Content

from portico.cli.pairs import json_or_text
from portico.schemas.schedules import Schedule, ScheduledRun
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import cell, clock, one_line, shorten
from portico_tui.widgets.dialogs import Answers, Field, Form
from portico_tui.widgets.table_rows import TableColumn

OUTCOME_COLOURS = {"completed": "green", "failed": "red"}


class SchedulesScreen(ListingScreen[Schedule]):
    """The schedules, by name."""

    MODE = "schedules"
    TAB = "Schedules"
    COLUMNS = (
        TableColumn[Schedule]("NAME", lambda schedule: schedule.name, "bold", 24),
        TableColumn[Schedule]("RUNS", lambda schedule: schedule.target, "", 28),
        TableColumn[Schedule]("AT", lambda schedule: schedule.times, "", 32),
        TableColumn[Schedule](
            "NEXT",
            lambda schedule: (
                cell("paused", "red")
                if schedule.paused
                else clock(schedule.next_at)
                if schedule.next_at
                else ""
            ),
            sort=lambda schedule: schedule.next_at or 0,
        ),
        TableColumn[Schedule]("SHARED", lambda schedule: "yes" if schedule.shared else "no", "dim"),
    )
    EMPTY = "No schedules yet.\n\nPress n to create one: it calls an app, or syncs a store, at set times."

    async def find(self) -> Sequence[Schedule]:
        return await self.client.schedules.list()

    def detail(self, item: Schedule) -> Iterable[Content | str]:
        pauses = (
            f"paused after {item.pause_after} consecutive failures" if item.pause_after else "never paused"
        )
        yield f"missed: {item.missed} · overlap: {item.overlap} · {pauses}"
        if item.input is not None:
            yield one_line(shorten(f"input: {_text(item.input)}", 400))
        if item.paused:
            yield Content.styled(one_line(item.paused), "$text-error")

    @row_action("enter", "Runs", "Results of the schedule's last runs")
    async def runs(self, schedule: Schedule) -> None:
        self.app.push_screen(ScheduledRunsScreen(self.services, schedule))

    @action("n", "New", "Make a schedule")
    async def new(self) -> None:
        answers = await self.ask(Form("Make a schedule", *_fields(None)))
        if answers is not None:
            await self.client.schedules.create(answers["name"], **_to_fields(answers))

    @row_action("r", "Run now", "Start a run now, even if the schedule is paused")
    async def begin(self, schedule: Schedule) -> None:
        self.report("Run", f"Began {await self.client.schedules.run(schedule.id)}.")

    @row_action("e", "Edit", "Change the app, store, input or times")
    async def edit(self, schedule: Schedule) -> None:
        answers = await self.ask(Form("Change the schedule", *_fields(schedule)))
        if answers is not None:
            await self.client.schedules.change(schedule.id, name=answers["name"], **_to_fields(answers))

    @row_action("p", "Pause", "Pause the schedule until it is resumed, or resume it")
    async def pause(self, schedule: Schedule) -> None:
        found_schedule = await self.client.schedules.get(schedule.id)
        if found_schedule.paused is None:
            await self.client.schedules.pause(found_schedule.id)
        else:
            await self.client.schedules.resume(found_schedule.id)

    @row_action("t", "Next times", "The next times at which the schedule is due", footer=False)
    async def next_times(self, schedule: Schedule) -> None:
        moments = await self.client.schedules.next(schedule.id)
        self.report("Next times", ", ".join(clock(moment) for moment in moments) or "None.")

    @row_action("d", "Delete", "Delete the schedule; a run in progress continues")
    async def delete(self, schedule: Schedule) -> None:
        if await self.sure(f"Delete '{one_line(schedule.name)}'? A running run continues.", "Delete"):
            await self.client.schedules.remove(schedule.id)


def _fields(schedule: Schedule | None) -> Iterable[Field]:
    values = {
        "name": schedule.name if schedule else "",
        "app": (schedule.app if schedule else None) or "",
        "store": (schedule.store if schedule else None) or "",
        "input": "" if schedule is None or schedule.input is None else _text(schedule.input),
        "when": (schedule.cron or schedule.every or "") if schedule else "",
        "timezone": schedule.timezone if schedule else "",
    }
    yield Field("name", "Name", values["name"])
    yield Field("app", "App to call · or leave empty", values["app"], optional=True)
    yield Field("store", "Store to sync · or leave empty", values["store"], optional=True)
    yield Field("input", "Input of the app, JSON or text · optional", values["input"], optional=True)
    yield Field(
        "when", "Times: a cron expression or an interval", values["when"], hint="0 7 * * 1-5   or   15m"
    )
    yield Field("timezone", "Time zone · optional", values["timezone"], hint="Europe/Berlin", optional=True)


def _to_fields(answers: Answers) -> dict[str, Any]:
    """Convert the answers in the form to arguments of the call. Times are an interval if they begin with a digit and
    contain no spaces, otherwise a cron expression.
    """
    when = answers["when"]
    interval = when[:1].isdigit() and " " not in when
    return {
        "app": answers["app"] or None,
        "store": answers["store"] or None,
        "input": json_or_text(answers["input"]) if answers["input"] else None,
        "every" if interval else "cron": when,
        "timezone": None if interval else answers["timezone"] or None,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class ScheduledRunsScreen(SublistScreen[ScheduledRun]):
    """The results of a schedule's last runs, newest first."""

    MODE = "schedules"
    TAB = "Schedules"
    COLUMNS = (
        TableColumn[ScheduledRun]("DUE", lambda run: clock(run.due_at), "dim", sort=lambda run: run.due_at),
        TableColumn[ScheduledRun]("CAUSE", lambda run: run.cause),
        TableColumn[ScheduledRun](
            "STATUS",
            lambda run: cell(
                "skipped" if run.skipped else run.status or "forgotten",
                OUTCOME_COLOURS.get(run.status or "", "dim"),
            ),
        ),
        TableColumn[ScheduledRun]("RUN", lambda run: run.run or ""),
    )
    EMPTY = "No run yet: press r to start one now."

    def __init__(self, services: AppServices, schedule: Schedule) -> None:
        super().__init__(services, f"Runs of {schedule.name}")
        self._schedule = schedule

    async def find(self) -> Sequence[ScheduledRun]:
        return await self.client.schedules.runs(self._schedule.id, limit=100)

    def identify(self, item: ScheduledRun) -> str:
        return f"{item.due_at} {item.run} {item.cause}"

    def detail(self, item: ScheduledRun) -> Iterable[Content | str]:
        if item.skipped:
            yield one_line(item.skipped)
        if item.error:
            yield Content.styled(one_line(str(item.error.get("message", ""))), "$text-error")
