"""Usage rows are collected and written together, so that the hot path never waits for a disk."""

from __future__ import annotations

import asyncio
import logging

from portico_server.core.errors import PorticoError
from portico_server.db import usage
from portico_server.db.database import Database
from portico_server.db.usage import UsageRow
from portico_server.runs.tally import Tally

logger = logging.getLogger(__name__)

PERIOD = 0.25
"""Seconds between two writes; a `kill -9` loses at most the rows of one period."""


class UsageLog:
    """Takes rows at once, writes them in the background. ``run`` is owned by the daemon's task group."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: list[UsageRow] = []
        self._some = asyncio.Event()
        self.tally = Tally()

    def add(self, row: UsageRow) -> None:
        self._rows.append(row)
        self.tally.add(row)
        self._some.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(PERIOD)
            await self.flush()

    async def flush(self) -> None:
        """Write what has been collected. A full disk costs the rows, not the calls."""
        self._some.clear()
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            await self._database.write(usage.append, rows)
        except PorticoError as error:
            logger.error("%d usage rows were lost: %s", len(rows), error.message)
