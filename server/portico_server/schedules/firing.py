"""Begins the runs of schedules when they are due, and does them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, EngineFailed, NotFound, PorticoError, TooMany
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import AppInput, AppOutput, ChatReply
from portico_server.core.servable import Card, Servable
from portico_server.core.synced_stores import FollowedStores
from portico_server.db import runs
from portico_server.db import schedules as rows
from portico_server.db.database import Database
from portico_server.db.rows import now as clock
from portico_server.db.runs import NewRun, RunRow
from portico_server.db.schedules import RUN_KIND, Cause, ScheduleRow
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.schedules.timing import Timing

logger = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 5.0
"""Seconds between two looks for what another daemon has changed, or left."""

GRACE_S: Final = 60.0
"""Seconds after its time from which on a run counts as missed."""

MAX_CAUGHT_UP_RUNS: Final = 24
"""Missed times that are made up for at once, the newest."""

MAX_RUNS_UNDER_WAY: Final = 24
"""Runs of one schedule that wait or are at work."""

MAX_RUNS_AT_ONCE: Final = 64
"""Runs of all schedules that one daemon does at once; of one key half as many."""

SYNC_WAIT_S: Final = 5.0
"""Seconds between two looks at a sync that another daemon does."""

BEGUN: Final = "begun"
"""Set in the payload of a run before an app is called that cannot be called twice."""

STILL_UNDER_WAY: Final = "The run before was still under way."
TOO_MANY_UNDER_WAY: Final = f"{MAX_RUNS_UNDER_WAY} runs of it were under way already."
MISSED: Final = "No daemon ran at that time."
TOO_MANY_MISSED: Final = f"More than {MAX_CAUGHT_UP_RUNS} were missed: only the newest are made up for."


@dataclass(frozen=True, slots=True)
class DuePlan:
    """What is to be begun: times and their causes, and what is written down of others as skipped."""

    times: tuple[tuple[float, Cause], ...] = ()
    skipped: tuple[tuple[float, Cause, str], ...] = ()


def timing_of(row: ScheduleRow) -> Timing:
    """When a schedule is due."""
    return Timing(row.cron, row.every, row.timezone)


def plan(row: ScheduleRow, now: float) -> DuePlan:
    """What is to be done at a moment about the times of a schedule that have come. Pure."""
    if row.next_at is None or row.next_at > now:
        return DuePlan()
    most = MAX_CAUGHT_UP_RUNS + 1 if row.missed == "all" else 1
    due = timing_of(row).last(row.next_at, now, row.anchor, most)
    # What it says may have changed meanwhile: time zones do. What was announced is held to.
    found = [(moment, _cause(moment, now)) for moment in due or [row.next_at]]
    if row.missed == "all" and len(found) == most:
        (moment, cause), *found = found
        return DuePlan(tuple(found), ((moment, cause, TOO_MANY_MISSED),))
    if row.missed == "skip" and found[-1][1] == "missed":
        return DuePlan((), ((found[-1][0], "missed", MISSED),))
    return DuePlan(tuple(found))


def _cause(due: float, now: float) -> Cause:
    return "missed" if now - due > GRACE_S else "time"


class ScheduleRuns:
    """The task, and the handler of the runs that it begins."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        stores: FollowedStores,
    ) -> None:
        self._database = database
        self._registry = registry
        self._runner = runner
        self._scheduler = scheduler
        self._stores = stores
        self._wake = asyncio.Event()
        # One run of a schedule at a time, by its name, but for those that allow more: see `_new_run`.
        scheduler.handle(RUN_KIND, self._work, concurrency=MAX_RUNS_AT_ONCE, owned=True)

    def principal(self, row: ScheduleRow) -> Principal:
        """In whose name a schedule runs, with the rights of now. Raises `Forbidden` if its key was revoked."""
        return self._scheduler.principals(row.key)

    async def run(self) -> None:
        """Begin what is due, until cancelled."""
        self._database.on_commit(rows.TOPIC, self._wake)
        while True:
            self._wake.clear()
            pause = POLL_INTERVAL_S
            try:
                coming = await self._database.read(rows.seconds_to_next)
                if coming is not None and coming <= 0:
                    await self.begin_due()
                elif coming is not None:
                    pause = min(pause, coming)
            except PorticoError as error:
                logger.error("the schedules could not be read: %s", error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def begin_due(self) -> None:
        """Begin all that is due now, unless another daemon does."""
        for row in await self._database.read(rows.due):
            reason = self._obstacle(row)
            if reason is not None:
                logger.info("the schedule %s is paused: %s", row.id, reason)
                await self._database.write(rows.pause, row.id, reason)
            elif await self._database.write(take_due, row):
                self._scheduler.look()
        self._wake.set()  # there may be more

    def _obstacle(self, row: ScheduleRow) -> str | None:
        """Why a schedule cannot run any more."""
        try:
            self.principal(row)
            timing_of(row).after(row.anchor, row.anchor)
        except PorticoError as error:
            return error.message
        return None

    async def begin_now(self, row: ScheduleRow) -> str:
        """Begin a run because somebody wants it; its id. Raises `Conflict`, `TooMany`, `Forbidden`."""
        self.principal(row)
        run_id = await self._database.write(take_now, row)
        self._scheduler.look()
        return run_id

    # --- a run ---------------------------------------------------------------------------------------------------

    async def _work(self, payload: Mapping[str, Any], context: Context) -> Any:
        if payload["kind"] == "store":
            return await self._sync(str(payload["target"]), context)
        return await self._call(payload, context)

    async def _call(self, payload: Mapping[str, Any], context: Context) -> Any:
        """What an app answers, as if its caller had called it now."""
        name = str(payload["target"])
        card = (await find_app(self._registry, name, context.caller)).card
        run = self._runner.get(context.run)
        assert run is not None
        run.keeps_steps = _keeps_steps(card)
        if not run.keeps_steps and card.labels.get("app") in ("flow", "agent"):
            if payload.get(BEGUN):
                raise EngineFailed(
                    f"The daemon ended while the app '{name}' was at work, which may have had an effect; it was not "
                    "called again. Look what was done, and run the schedule by hand if need be. A flow with "
                    '"durability": "normal" continues behind its last step instead.',
                    code="effect_unknown",
                )
            await self._database.write(runs.extend_payload, run.id, {BEGUN: True})
        run.meter = self._runner.meter(context.caller)
        with self._runner.admitted(name, context.caller) as admission:
            admission.follow(run)
        result = await context.call(name, AppInput(payload["input"]), listener=context.emit)
        if isinstance(result, AppOutput | ChatReply):
            run.usage = result.usage
        if isinstance(result, AppOutput):
            return result.value
        return result.content if isinstance(result, ChatReply) else None

    async def _sync(self, name: str, context: Context) -> dict[str, Any]:
        """The id and the result of a sync, which may have begun before, or be another daemon's."""
        run_id = await self._stores.sync(await self._stores.followed(name, context.caller))
        row = await self._ended(run_id)
        if row is None or row.status != "completed":
            error = (row.error if row is not None else None) or {}
            raise EngineFailed(
                f"The sync of '{name}' did not end well: {error.get('message', 'it was cancelled')}",
                code=error.get("code") or "sync_failed",
            )
        return {"run": run_id, "result": row.result}

    async def _ended(self, run_id: str) -> RunRow | None:
        """The row of a run once it has ended; ``None`` if it is not kept any more."""
        run = None
        while True:
            living = await self._runner.arrival(run_id, SYNC_WAIT_S, after=run)
            if living is not None and living.task is not None:
                await asyncio.wait([living.task])
                await self._scheduler.settled(run_id)
                run = living
            row = await self._database.read(runs.get, run_id)
            if row is None or row.finished_at is not None:
                return row


async def find_app(registry: Registry, name: str, caller: Principal) -> Servable:
    """The app that a caller means. Raises `NotFound`, and `Forbidden` if it may not call it."""
    servable = await registry.resolve(name, caller)
    if servable.card.kind != "app":
        raise NotFound(
            f"'{name}' is a {servable.card.kind}, and a schedule calls an app.",
            code="app_not_found",
            param="app",
        )
    return servable


def _keeps_steps(card: Card) -> bool:
    return card.labels.get("app") == "flow" and card.labels.get("durability") != "off"


# What is written in one transaction, with the times that it is for.


def take_due(connection: Any, row: ScheduleRow) -> int:
    """Take the times of a schedule that have come, and queue their runs; how many."""
    now = clock(connection)
    if not rows.advance(connection, row, timing_of(row).after(now, row.anchor)):
        return 0
    planned = plan(row, now)
    under_way = rows.count_under_way(connection, row.id)
    for due, cause, reason in planned.skipped:
        rows.note(connection, row.id, due, cause, skipped=reason)
    begun = 0
    for due, cause in planned.times:
        # Who wants all that was missed wants them one after another, whatever becomes of those at their times.
        queues = row.overlap != "skip" or (row.missed == "all" and cause == "missed")
        if under_way and not queues:
            rows.note(connection, row.id, due, cause, skipped=STILL_UNDER_WAY)
        elif under_way >= MAX_RUNS_UNDER_WAY:
            rows.note(connection, row.id, due, cause, skipped=TOO_MANY_UNDER_WAY)
        else:
            _queue(connection, row, due, cause)
            under_way, begun = under_way + 1, begun + 1
    return begun


def take_now(connection: Any, row: ScheduleRow) -> str:
    """Queue a run of a schedule, whatever its times are; its id."""
    under_way = rows.count_under_way(connection, row.id)
    if under_way and row.overlap == "skip":
        raise Conflict(
            f"A run of the schedule '{row.name}' is under way. Wait until it has ended or cancel it, or give the "
            'schedule "overlap": "queue".',
            code="run_under_way",
            param="schedule",
        )
    if under_way >= MAX_RUNS_UNDER_WAY:
        raise TooMany(
            f"{MAX_RUNS_UNDER_WAY} runs of the schedule '{row.name}' are under way. Try again when some have ended.",
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
    """Runs of one name are done one after another."""
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
