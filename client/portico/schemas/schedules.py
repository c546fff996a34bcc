"""Schedules: apps that run, and stores that sync, at given times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Schedule:
    """An ``app`` that is called with ``input``, or a ``store`` that syncs, at given times. ``next_at`` is the next one.

    ``paused`` says why it does not run. ``shared``: it is the operator's; ``owner`` and ``key`` are told to an admin.
    """

    id: str
    name: str
    timezone: str
    missed: str
    overlap: str
    pause_after: int
    failures: int
    app: str | None = None
    store: str | None = None
    input: Any = None
    cron: str | None = None
    every: str | None = None
    paused: str | None = None
    next_at: float | None = None
    created_at: float = 0
    updated_at: float = 0
    shared: bool = True
    owner: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """What came of a time: a ``run`` and its ``status``, or why it was ``skipped``.

    ``cause`` is ``time``, ``missed`` (made up for later) or ``hand``.
    """

    due_at: float
    cause: str
    run: str | None = None
    status: str | None = None
    error: Mapping[str, Any] | None = None
    skipped: str | None = None
