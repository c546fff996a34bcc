"""Durable work: queued in SQL, held by a lease, taken up again after a crash."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from portico.wire import Delta, Event, Failed, Finished, event_to_json
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id
from portico_server.core.principal import SYSTEM, Principal
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.runs import RunRow
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

logger = logging.getLogger(__name__)

LEASE = 30.0
"""Seconds after which another daemon may take over a run whose owner has gone silent."""

ATTEMPTS = 5
"""How often a run that was cut off is begun before it is called failed."""

Handler: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[Any]]


class Scheduler:
    """Runs handlers by kind, each kind with its own concurrency; one run at a time for each (kind, name).

    A handler must be idempotent: it begins again from the start when it was cut off.
    """

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._handlers: dict[str, tuple[Handler, int]] = {}
        self._running: dict[str, tuple[str, Run]] = {}
        self._wake = asyncio.Event()
        self._me = f"{os.uname().nodename}:{os.getpid()}:{os.urandom(4).hex()}"
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopping = False

    def handle(self, kind: str, handler: Handler, *, concurrency: int = 1) -> None:
        self._handlers[kind] = (handler, concurrency)

    async def ensure(
        self, kind: str, name: str, payload: Mapping[str, Any] | None = None, *, caller: Principal = SYSTEM
    ) -> str:
        """Queue a run unless one of this kind and name waits already; its id."""
        run_id = await self._database.write(runs.ensure, new_id("run_"), kind, name, caller.id, payload or {})
        self._wake.set()
        return run_id

    async def settled(self, run_id: str) -> None:
        """Wait until the end of a run that ends here stands in its row."""
        name = f"journal {run_id}"
        watchers = [watcher for watcher in self._watchers if watcher.get_name() == name]
        if watchers:
            await asyncio.wait(watchers)

    async def run(self, *, alone: bool) -> None:
        """Work until cancelled. ``alone``: no other daemon shares the database, so every old lease is dead."""
        if alone:
            await self._database.write(runs.release_all)
        try:
            while True:
                self._wake.clear()
                while await self._take_one():
                    pass
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEASE / 3):
                        await self._wake.wait()
                if self._running:
                    await self._database.write(runs.renew, list(self._running), self._me, LEASE)
        finally:
            self._stopping = True  # what is cancelled now goes back into the queue
            for _kind, run in tuple(self._running.values()):
                await run.cancel()
            if self._watchers:
                await asyncio.wait(self._watchers)

    async def _take_one(self) -> bool:
        busy = [kind for kind, _run in self._running.values()]
        kinds = [kind for kind, (_, limit) in self._handlers.items() if busy.count(kind) < limit]
        row = await self._database.write(runs.claim, kinds, self._me, LEASE) if kinds else None
        if row is None:
            return False
        if row.attempts > ATTEMPTS:
            error = PorticoError(f"Given up: it was cut off {ATTEMPTS} times.", code="gave_up")
            await self._database.write(runs.finish, row.id, "failed", None, error.body().to_json()["error"])
            return True
        handler, _limit = self._handlers[row.kind]
        run = self._runner.spawn(
            row.kind,
            row.name,
            SYSTEM,
            lambda context: handler(row.payload, context),
            run_id=row.id,
            last_event=await self._database.read(runs.last_event, row.id),
            timeout=None,
        )
        self._running[row.id] = (row.kind, run)
        watcher = asyncio.create_task(self._watch(row, run), name=f"journal {row.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return True

    async def _watch(self, row: RunRow, run: Run) -> None:
        """Journal the run's events and its end."""
        batch: list[tuple[int, Mapping[str, Any]]] = []
        last_stage = ""
        async for seq, event in run.log.follow():
            stage = getattr(event, "stage", "")
            if isinstance(event, Delta) or (stage and stage == last_stage):
                continue  # the journal keeps the turns of the road, not every step
            last_stage = stage
            batch.append((seq, event_to_json(event)))
            if _ends(event) or len(batch) >= 50:
                await self._database.write(runs.append_events, row.id, batch)
                batch = []
        if run.task is not None:
            await asyncio.wait([run.task])
        if run.status == "cancelled" and self._stopping:
            await self._database.write(runs.requeue, row.id)
        else:
            error = run.error.to_json()["error"] if run.error else None
            result = run.result if run.status == "completed" else None
            status = run.status if run.ended else "failed"
            await self._database.write(runs.finish, row.id, status, result, error)
        self._running.pop(row.id, None)
        self._wake.set()


def _ends(event: Event) -> bool:
    return isinstance(event, Finished | Failed)
