"""Waits for the end of durable runs, in this daemon and in others on its database."""

from __future__ import annotations

import asyncio
from typing import Final

from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.runs import RunRow
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

CHECK_INTERVAL_S: Final = 5.0
"""Seconds between checks of a run in another daemon."""


class RunEnds:
    """Waits until durable runs have ended."""

    def __init__(self, database: Database, runner: Runner, scheduler: Scheduler) -> None:
        self._database = database
        self._runner = runner
        self._scheduler = scheduler

    async def wait(self, run_id: str) -> RunRow | None:
        """Wait until a run has ended, and return its row; ``None`` if the run was deleted."""
        attempt = None
        while True:
            living = await self._runner.arrival(run_id, CHECK_INTERVAL_S, after=attempt)
            if living is not None and living.task is not None:
                await asyncio.wait([living.task])
                await self._scheduler.wait_for_end(run_id)
                attempt = living
            row = await self._database.read(runs.get, run_id)
            if row is None or row.finished_at is not None:
                return row
