"""Schedules: apps that run, and stores that sync, at given times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule: an ``app`` that is called with ``input``, or a ``store`` that syncs, at the times of ``cron`` by the
    clocks of ``timezone``, or ``every`` so long.

    ``missed``: what becomes of times at which no daemon ran; ``overlap``: of those at which a run was under way.
    ``paused``: why it does not run; so many ``failures`` in a row as ``pause_after`` says pause it, 0 never does.
    Times in seconds since 1970. ``shared``: it is the operator's; ``owner``: the key whose it is otherwise, ``key``: in
    whose name it runs, as an admin sees them.
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
        """The app that the schedule calls, or the store that it syncs: ``app digest``."""
        return f"app {self.app}" if self.app else f"store {self.store}"

    @property
    def times(self) -> str:
        """When the schedule is due: ``every 15m``, or the cron line and its time zone."""
        return f"every {self.every}" if self.every else f"{self.cron} ({self.timezone})"


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """What came of a time: a ``run`` and its ``status``, or why it was ``skipped``.

    ``cause``: it was ``time``, it was ``missed`` and made up for, or somebody began it by ``hand``. ``status`` is null
    when the run is not kept any more; ``error`` is that of one that failed.
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
    "They run with the rights of the key that made them. A name or an id says which is meant.",
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
