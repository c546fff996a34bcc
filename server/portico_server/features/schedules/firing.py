"""Starts the runs of schedules when they are due, and executes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import AppInput, AppOutput, ChatReply
from portico_server.core.servable import Card, Servable
from portico_server.db import runs
from portico_server.db import schedules as rows
from portico_server.db.database import Database
from portico_server.db.schedules import RUN_KIND, ScheduleRow
from portico_server.features.schedules.due_runs import take_due, take_now, timing_of
from portico_server.features.schedules.synced_stores import FollowedStores
from portico_server.runs.run_end import RunEnds
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

logger = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 5.0
"""Seconds between checks for changes by other daemons, and for runs that other daemons have left behind."""

MAX_RUNS_AT_ONCE: Final = 64
"""Maximum number of concurrent runs of all schedules in one daemon; half as many for one key."""

BEGUN: Final = "begun"
"""Field in a run's payload that is set before the call of an app that must not be called twice."""


class ScheduleRuns:
    """The background task of schedules, and the handler of their runs."""

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
        self._ends = RunEnds(database, runner, scheduler)
        self._stores = stores
        self._wake = asyncio.Event()
        # Runs with the same name are executed one at a time. Schedules that allow more give each run its own
        # name: see `_new_run`.
        scheduler.handle(RUN_KIND, self._work, concurrency=MAX_RUNS_AT_ONCE, is_owned=True)

    def principal(self, row: ScheduleRow) -> Principal:
        """Return the caller in whose name a schedule runs, with the caller's current rights.

        Raise `Forbidden` if the caller's key was revoked.
        """
        return self._scheduler.principals(row.key)

    async def run(self) -> None:
        """Start due runs until cancelled."""
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
        """Start all runs that are due now, unless another daemon starts them."""
        for row in await self._database.read(rows.due):
            reason = self._obstacle(row)
            if reason is not None:
                logger.info("pausing the schedule %s: %s", row.id, reason)
                await self._database.write(rows.pause, row.id, reason)
            elif await self._database.write(take_due, row):
                self._scheduler.look()
        self._wake.set()  # there may be more

    def _obstacle(self, row: ScheduleRow) -> str | None:
        """Return why a schedule can no longer run, or ``None`` if it can."""
        try:
            self.principal(row)
            timing_of(row).next_due(row.anchor, row.anchor)
        except PorticoError as error:
            return error.message
        return None

    async def begin_now(self, row: ScheduleRow) -> str:
        """Start a run on request and return its id. Raise `Conflict`, `TooMany`, `Forbidden`."""
        self.principal(row)
        run_id = await self._database.write(take_now, row)
        self._scheduler.look()
        return run_id

    async def _work(self, payload: Mapping[str, Any], context: Context) -> Any:
        if payload["kind"] == "store":
            return await self._sync(str(payload["target"]), context)
        return await self._call(payload, context)

    async def _call(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Return the answer of an app, as if its caller had called it now."""
        name = str(payload["target"])
        card = (await find_app(self._registry, name, context.caller)).card
        run = self._runner.get(context.run)
        assert run is not None
        run.keeps_steps = _keeps_steps(card)
        if not run.keeps_steps and card.labels.get("app") in ("flow", "agent"):
            if payload.get(BEGUN):
                raise EngineFailed(
                    f"The daemon ended while the app '{name}' was running, which may have had an effect, so "
                    "the app was not called again. Check what was done, and run the schedule manually if "
                    'necessary. A flow with "durability": "normal" continues after its last step instead.',
                    code="effect_unknown",
                )
            await self._database.write(runs.extend_payload, run.id, {BEGUN: True})
        run.meter = await self._runner.meter(context.caller)
        with await self._runner.admitted(name, context.caller) as admission:
            admission.follow(run)
        result = await context.call(name, AppInput(payload["input"]), listener=context.emit)
        if isinstance(result, AppOutput | ChatReply):
            run.usage = result.usage
        if isinstance(result, AppOutput):
            return result.value
        return result.content if isinstance(result, ChatReply) else None

    async def _sync(self, name: str, context: Context) -> dict[str, Any]:
        """Start a store's sync, or find the sync that was started earlier, even on another daemon. Return its id and
        result.
        """
        run_id = await self._stores.sync(await self._stores.find_followed(name, context.caller))
        row = await self._ends.wait(run_id)
        if row is None or row.status != "completed":
            error = (row.error if row is not None else None) or {}
            raise EngineFailed(
                f"The sync of '{name}' failed: {error.get('message', 'it was cancelled')}",
                code=error.get("code") or "sync_failed",
            )
        return {"run": run_id, "result": row.result}


async def find_app(registry: Registry, name: str, caller: Principal) -> Servable:
    """Return the app that a caller names. Raise `NotFound`, and `Forbidden` if the caller has no access to the app."""
    servable = await registry.resolve(name, caller)
    if servable.card.kind != "app":
        raise NotFound(
            f"'{name}' is a {servable.card.kind}, but a schedule can only call an app.",
            code="app_not_found",
            param="app",
        )
    return servable


def _keeps_steps(card: Card) -> bool:
    return card.labels.get("app") == "flow" and card.labels.get("durability") != "off"
