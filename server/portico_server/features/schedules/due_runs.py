"""Decides which due times of a schedule are started or skipped, and queues the runs."""

from __future__ import annotations

from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, TooMany
from portico_server.core.ids import new_id
from portico_server.db import runs
from portico_server.db import schedules as rows
from portico_server.db.rows import database_time as clock
from portico_server.db.runs import NewRun
from portico_server.db.schedules import RUN_KIND, Cause, ScheduleRow
from portico_server.features.schedules.timing import Timing

GRACE_S: Final = 60.0
"""Seconds after its due time from which a run counts as missed."""

MAX_CAUGHT_UP_RUNS: Final = 24
"""Maximum number of missed times that are caught up: the newest."""

MAX_RUNS_UNDER_WAY: Final = 24
"""Maximum number of waiting or active runs of one schedule."""

STILL_UNDER_WAY: Final = "The previous run was still in progress."
TOO_MANY_UNDER_WAY: Final = f"{MAX_RUNS_UNDER_WAY} runs of the schedule were already in progress."
MISSED: Final = "No daemon was running at that time."
TOO_MANY_MISSED: Final = f"More than {MAX_CAUGHT_UP_RUNS} runs were missed: only the newest are caught up."


@dataclass(frozen=True, slots=True)
class DuePlan:
    """The due times to start with their causes, and the records of skipped times."""

    times: tuple[tuple[float, Cause], ...] = ()
    skipped: tuple[tuple[float, Cause, str], ...] = ()


def timing_of(row: ScheduleRow) -> Timing:
    """Return the timing of a schedule."""
    return Timing(row.cron, row.every, row.timezone)


def current(connection: Any, schedule_id: str) -> ScheduleRow:
    """Return the schedule as the transaction sees it. Raise `Conflict` if it was removed."""
    row = rows.get(connection, schedule_id)
    if row is None:
        raise Conflict("The schedule was removed in the meantime.", code="schedule_removed", param="schedule")
    return row


def plan(row: ScheduleRow, now: float) -> DuePlan:
    """Return which due times of a schedule to start or skip at the time ``now``. Pure."""
    if row.next_at is None or row.next_at > now:
        return DuePlan()
    limit = MAX_CAUGHT_UP_RUNS + 1 if row.missed == "all" else 1
    due = timing_of(row).last(row.next_at, now, row.anchor, limit)
    # If time zone rules have changed, no time may be due now. The schedule then keeps the announced time.
    planned_times = [(moment, _cause(moment, now)) for moment in due or [row.next_at]]
    if row.missed == "all" and len(planned_times) == limit:
        (moment, cause), *planned_times = planned_times
        return DuePlan(tuple(planned_times), ((moment, cause, TOO_MANY_MISSED),))
    if row.missed == "skip" and planned_times[-1][1] == "missed":
        return DuePlan((), ((planned_times[-1][0], "missed", MISSED),))
    return DuePlan(tuple(planned_times))


def _cause(due: float, now: float) -> Cause:
    return "missed" if now - due > GRACE_S else "time"


def take_due(connection: Any, row: ScheduleRow) -> int:
    """Take the due times of a schedule and queue their runs. Return the number of queued runs."""
    now = clock(connection)
    if not rows.advance(connection, row, timing_of(row).next_due(now, row.anchor)):
        return 0
    due_plan = plan(row, now)
    under_way = rows.count_under_way(connection, row.id)
    for due, cause, reason in due_plan.skipped:
        rows.note(connection, row.id, due, cause, skip_reason=reason)
    started_count = 0
    for due, cause in due_plan.times:
        # A schedule that catches up all missed times runs them one after another, regardless of its rule for
        # overlaps.
        queues = row.overlap != "skip" or (row.missed == "all" and cause == "missed")
        if under_way and not queues:
            rows.note(connection, row.id, due, cause, skip_reason=STILL_UNDER_WAY)
        elif under_way >= MAX_RUNS_UNDER_WAY:
            rows.note(connection, row.id, due, cause, skip_reason=TOO_MANY_UNDER_WAY)
        else:
            _queue(connection, row, due, cause)
            under_way, started_count = under_way + 1, started_count + 1
    return started_count


def take_now(connection: Any, row: ScheduleRow) -> str:
    """Queue a run of a schedule regardless of its times. Return the run's id."""
    row = current(connection, row.id)
    under_way = rows.count_under_way(connection, row.id)
    if under_way and row.overlap == "skip":
        raise Conflict(
            f"A run of the schedule '{row.name}' is in progress. Wait until it has ended or cancel it, or "
            'give the schedule "overlap": "queue".',
            code="run_under_way",
            param="schedule",
        )
    if under_way >= MAX_RUNS_UNDER_WAY:
        raise TooMany(
            f"{MAX_RUNS_UNDER_WAY} runs of the schedule '{row.name}' are in progress. Try again when some of "
            "them have ended.",
            code="too_many_runs",
            retry_after=60.0,
        )
    return _queue(connection, row, clock(connection), "hand")


def _queue(connection: Any, row: ScheduleRow, due: float, cause: Cause) -> str:
    run = _new_run(row, due)
    runs.queue(connection, run)
    rows.note(connection, row.id, due, cause, run_id=run.id)
    return run.id


def _new_run(row: ScheduleRow, due: float) -> NewRun:
    """Return a run to queue. Runs with the same name are executed one after another."""
    run_id = new_id("run_")
    name = f"{row.id}/{run_id}" if row.overlap == "allow" else row.id
    payload = {
        "schedule": row.id,
        "kind": row.kind,
        "target": row.target,
        "input": row.input,
        "due_at": due,
    }
    return NewRun(run_id, RUN_KIND, name, row.key, payload)
