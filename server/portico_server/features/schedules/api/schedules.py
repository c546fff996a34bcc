"""``/api/schedules``: run apps and sync stores at given times."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from portico.schemas.schedules import Schedule, ScheduledRun
from portico_server.api.endpoint import Caller, feature_service, new_router
from portico_server.api.shapes import Listed, RemovedId, StartedRun, shaped
from portico_server.core.principal import Principal
from portico_server.db.schedules import ScheduleRow, ScheduleTime
from portico_server.features.schedules.schedules import ScheduleService
from portico_server.features.schedules.spec import MAX_PAUSE_AFTER, MAX_TARGET_CHARS, parse
from portico_server.features.schedules.timing import MAX_CRON_CHARS, MAX_ZONE_CHARS, Timing

router = new_router(prefix="/api/schedules", tags=["Schedules"])

TheSchedules = Annotated[ScheduleService, feature_service("schedules", ScheduleService)]

MAX_TIMES = 100
"""Maximum number of times computed or shown at once."""

Name = Annotated[str, Field(max_length=128)]
Target = Annotated[str, Field(max_length=MAX_TARGET_CHARS)]
CronText = Annotated[str, Field(max_length=MAX_CRON_CHARS)]
IntervalText = Annotated[str, Field(max_length=30)]
Zone = Annotated[str, Field(max_length=MAX_ZONE_CHARS)]
MissedRule = Literal["skip", "once", "all"]
OverlapRule = Literal["skip", "queue", "allow"]
Failures = Annotated[int, Field(ge=0, le=MAX_PAUSE_AFTER)]
Count = Annotated[int, Query(ge=1, le=MAX_TIMES)]


class ScheduleChange(BaseModel, extra="forbid"):
    """The fields to change: see `Schedule`. Setting ``cron`` removes ``every`` and vice versa; the same is true for
    ``app`` and ``store``.
    """

    name: Name | None = None
    app: Target | None = None
    store: Target | None = None
    input: Any = None
    cron: CronText | None = None
    every: IntervalText | None = None
    timezone: Zone | None = None
    missed: MissedRule | None = None
    overlap: OverlapRule | None = None
    pause_after: Failures | None = None


class ScheduleRequest(ScheduleChange):
    """A schedule to create: an ``app`` to run with its ``input``, or a ``store`` to sync; with ``cron`` or
    ``every``.
    """

    name: Name


class TimingRequest(BaseModel, extra="forbid"):
    """``cron`` in a ``timezone``, or ``every``, and the number of due times to return."""

    cron: CronText | None = None
    every: IntervalText | None = None
    timezone: Zone | None = None
    count: Annotated[int, Field(ge=1, le=MAX_TIMES)] = 5


class ScheduleMoments(BaseModel):
    """The next due times of a schedule, in seconds since 1970."""

    data: list[float]


@router.get("")
async def list_schedules(
    schedules: TheSchedules,
    caller: Caller,
    all: Annotated[
        bool, Query(description="For admins: include the schedules of other keys, listed by id")
    ] = False,
) -> Listed[Schedule]:
    """List the caller's schedules and the shared schedules, by name."""
    if all:
        caller.require("admin")
    schedule_rows = await schedules.list(caller, include_all=all)
    return Listed(data=[_schedule(row, caller) for row in schedule_rows])


@router.post("")
async def create_schedule(body: ScheduleRequest, schedules: TheSchedules, caller: Caller) -> Schedule:
    """Create a schedule. Each run has the rights that the caller's key has when the run starts."""
    spec = parse(body.model_dump(exclude_unset=True))
    return _schedule(await schedules.create(spec, caller), caller)


@router.post("/next")
async def preview_schedule(body: TimingRequest, schedules: TheSchedules, _caller: Caller) -> ScheduleMoments:
    """Return the times at which a schedule would be due if it were created now. Nothing is created."""
    timing = Timing.parse(body.cron, body.every, body.timezone)
    return ScheduleMoments(data=list(await schedules.preview(timing, body.count)))


@router.get("/{schedule}")
async def retrieve_schedule(schedule: str, schedules: TheSchedules, caller: Caller) -> Schedule:
    """Return a schedule."""
    return _schedule(await schedules.get(schedule, caller), caller)


@router.patch("/{schedule}")
async def change_schedule(
    schedule: str, body: ScheduleChange, schedules: TheSchedules, caller: Caller
) -> Schedule:
    """Change the given fields of a schedule. If its times change, intervals are counted from now."""
    changes = body.model_dump(exclude_unset=True)
    return _schedule(await schedules.change(schedule, changes, caller), caller)


@router.delete("/{schedule}")
async def remove_schedule(schedule: str, schedules: TheSchedules, caller: Caller) -> RemovedId:
    """Delete a schedule. A run in progress continues."""
    return RemovedId(id=(await schedules.remove(schedule, caller)).id)


@router.post("/{schedule}/pause")
async def pause_schedule(schedule: str, schedules: TheSchedules, caller: Caller) -> Schedule:
    """Pause a schedule until it is resumed. A run in progress continues."""
    return _schedule(await schedules.pause(schedule, caller), caller)


@router.post("/{schedule}/resume")
async def resume_schedule(schedule: str, schedules: TheSchedules, caller: Caller) -> Schedule:
    """Resume a schedule, starting with its next due time. Missed runs are not made up."""
    return _schedule(await schedules.resume(schedule, caller), caller)


@router.post("/{schedule}/run")
async def run_schedule(schedule: str, schedules: TheSchedules, caller: Caller) -> StartedRun:
    """Start a run now, even if the schedule is paused."""
    return StartedRun(run=await schedules.run(schedule, caller))


@router.get("/{schedule}/next")
async def next_times(
    schedule: str, schedules: TheSchedules, caller: Caller, count: Count = 5
) -> ScheduleMoments:
    """Return the next times at which a schedule is due, or would be due if it were not paused."""
    return ScheduleMoments(data=list(await schedules.next(schedule, caller, count)))


@router.get("/{schedule}/runs")
async def list_scheduled_runs(
    schedule: str, schedules: TheSchedules, caller: Caller, limit: Count = 20
) -> Listed[ScheduledRun]:
    """List the results of recent scheduled runs, newest first. The last hundred are kept."""
    schedule_times = await schedules.times(schedule, caller, limit)
    return Listed(data=[_scheduled(row) for row in schedule_times])


def _schedule(row: ScheduleRow, caller: Principal) -> Schedule:
    return shaped(
        Schedule,
        row,
        app=row.target if row.kind == "app" else None,
        store=row.target if row.kind == "store" else None,
        shared=row.owner is None,
        owner=row.owner if caller.admin else None,
        key=row.key if caller.admin else None,
    )


def _scheduled(row: ScheduleTime) -> ScheduledRun:
    return shaped(ScheduledRun, row, run=row.run_id)
