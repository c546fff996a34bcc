"""Schedules: apps that run, and stores that sync, at set times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule: the ``app`` to call with ``input``, or the ``store`` to sync, at the times of ``cron`` in
    ``timezone``, or at the interval ``every``.

    ``missed``: what to do about times at which no daemon was running; ``overlap``: what to do about times during a
    run. ``paused``: why the schedule is paused; ``pause_after`` consecutive ``failures`` pause it, 0 means never.
    Times are in seconds since 1970. ``shared``: the schedule belongs to the operator; otherwise ``owner`` is the key
    that owns it. Its runs have the rights of ``key``. Only admins see ``owner`` and ``key``.
    """

    id: str
    name: str
    app: str | None
    store: str | None
    input: Any
    cron: str | None
    every: str | None
    timezone: str
    missed: Literal["skip", "once", "all"]
    overlap: Literal["skip", "queue", "allow"]
    pause_after: int
    paused: str | None
    failures: int
    next_at: float | None
    created_at: float
    updated_at: float
    shared: bool
    owner: str | None
    key: str | None

    @property
    def target(self) -> str:
        """The app that the schedule calls, such as ``app digest``, or the store that it syncs."""
        return f"app {self.app}" if self.app else f"store {self.store}"

    @property
    def times(self) -> str:
        """When the schedule is due: ``every 15m``, or the cron line and its time zone."""
        return f"every {self.every}" if self.every else f"{self.cron} ({self.timezone})"


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """What happened at a scheduled time: a ``run`` and its ``status``, or the reason why it was ``skipped``.

    ``cause``: ``time``, ``missed`` for a missed time that was made up for, or ``hand`` if a person started the run.
    ``status`` is null if the run is no longer stored; ``error`` is the error of a failed run.
    """

    due_at: float
    cause: Literal["time", "missed", "hand"]
    run: str | None
    status: str | None
    error: Mapping[str, Any] | None
    skipped: str | None


SCHEDULES = Resource(
    "Schedules",
    "/api/schedules",
    "Schedules run with the rights of the key that created them. A schedule is identified by name or id.",
    {"schedule": "a schedule"},
    (
        Verb("create", "POST", Schedule),
        Verb("list", "GET", list[Schedule], aliases={"everyone": "all"}),
        Verb("get", "GET {schedule}", Schedule),
        Verb("change", "PATCH {schedule}", Schedule),
        Verb("remove", "DELETE {schedule}"),
        Verb("pause", "POST {schedule}/pause", Schedule),
        Verb("resume", "POST {schedule}/resume", Schedule),
        Verb("run", "POST {schedule}/run", str, key="run"),
        Verb("next", "GET {schedule}/next", list[float]),
        Verb("preview", "POST next", list[float]),
        Verb("runs", "GET {schedule}/runs", list[ScheduledRun]),
    ),
    columns=(
        Column("NAME"),
        Column("RUNS", "target"),
        Column("AT", "times"),
        Column("NEXT", "next_at", kind="moment"),
    ),
)
