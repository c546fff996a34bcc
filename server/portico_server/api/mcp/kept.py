"""Tasks as rows: a client finds its tasks and their results after a crash.

The run of most tasks lives in memory and is lost then. That of a durable flow has a row of its own and is taken up
again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.mcp.held import RESULT_LIFETIME_S, HeldRun, HeldRuns
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.principal import Principal
from portico_server.db import runs
from portico_server.db import tasks as rows
from portico_server.db.database import Database
from portico_server.db.runs import RunRow
from portico_server.db.tasks import TaskRow, TaskStatus

logger = logging.getLogger(__name__)

LEASE_S: Final = 30.0
"""Seconds after which the tasks of a daemon that has gone silent are lost, where several share a database."""


RETRY_S: Final = 1.0


class KeptTasks:
    """The rows of all tasks. ``alone``: no other daemon shares the database."""

    def __init__(self, database: Database, held: HeldRuns, *, alone: bool) -> None:
        self._database = database
        self._held = held
        self._alone = alone

    async def start(self) -> None:
        """What was at work when its daemon ended has failed: its run lived in that daemon alone.

        Where the database cannot be written just now, MCP waits until it can: a task that is begun before would be
        taken for one that was left.
        """
        while True:
            try:
                await self._mark_lost(at_start=True)
                await self._database.write(rows.forget, RESULT_LIFETIME_S)
                return
            except Unavailable as error:
                logger.warning("MCP waits for the database: %s", error.message)
            await asyncio.sleep(RETRY_S)

    async def run(self) -> None:
        """Keep the leases on what is at work here, until cancelled. Nothing to do if there is no other daemon."""
        while not self._alone:
            await asyncio.sleep(LEASE_S / 3)
            working = [held.id for held in self._held.tasks if not held.settled]
            try:
                if working:
                    await self._database.write_soon(rows.renew, working, LEASE_S)
            except PorticoError as error:
                logger.warning("the leases of MCP tasks were not renewed: %s", error.message)

    async def begin(self, held: HeldRun) -> None:
        """Write one before the client hears of it."""
        run = held.run
        row = TaskRow(held.id, run.caller.id, run.id, run.created_at)
        await self._database.write(rows.begin, row, LEASE_S, RESULT_LIFETIME_S)

    async def end(
        self, task_id: str, status: TaskStatus, message: str, result: Mapping[str, Any] | None = None
    ) -> None:
        """Write how one ended, before the client hears of it. Only its memory knows if it cannot be written."""
        try:
            await self._database.write(rows.end, task_id, status, message, result)
        except PorticoError as error:
            logger.error("the end of an MCP task is not written: %s", error.message)

    async def run_of(self, run_id: str) -> RunRow | None:
        """The row of the run behind a task, if that is durable."""
        return await self._database.read(runs.get, run_id)

    async def find(self, task_id: str, caller: Principal) -> TaskRow | None:
        """One that this caller began, here before the last start or with another daemon; none that is over for long."""
        row = await self._database.read(rows.get, task_id)
        if row is not None and row.status == "working" and await self._database.read(rows.is_left, task_id):
            await self._mark_lost(at_start=False)
            row = await self._database.read(rows.get, task_id)
        if row is None or row.owner != caller.id:
            return None
        return (
            None if row.finished_at is not None and row.finished_at + RESULT_LIFETIME_S < time.time() else row
        )

    async def _mark_lost(self, *, at_start: bool) -> None:
        await self._database.write(rows.lose, every=at_start and self._alone)
