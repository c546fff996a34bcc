"""Collects usage rows and writes them together, so that the hot path never waits for a disk.

Each call is also counted for monitoring, which costs only a few additions.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

from portico.wire import Usage
from portico_server.core.errors import PorticoError
from portico_server.core.histogram import Histogram
from portico_server.db import usage
from portico_server.db.database import Database
from portico_server.db.usage import UsageRow

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S = 0.25
"""Seconds between two writes; a `kill -9` loses at most the rows of one period."""


RETRY_INTERVAL_S = 5.0
"""Seconds after which rows that could not be written are retried."""

MAX_WAITING_ROWS = 10_000
"""Maximum number of rows that wait while the disk is full. If there are more, the oldest are lost."""


class UsageLog:
    """Accepts rows immediately and writes them in the background. The daemon's task group owns ``run``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: list[UsageRow] = []
        self._has_rows = asyncio.Event()
        self._writing = asyncio.Lock()
        self._pause = WRITE_INTERVAL_S
        self.tally = CallCounts()

    def add(self, row: UsageRow) -> None:
        self._rows.append(row)
        self.tally.add(row)
        self._has_rows.set()

    async def of_run(self, run_id: str, key_id: str, began: float) -> Usage:
        """Return the usage of the ended attempts of a durable run."""
        await self.flush()
        return await self._database.read(usage.of_run, run_id, key_id, began)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._has_rows.wait()
            await asyncio.sleep(self._pause)
            await self.flush()

    async def flush(self) -> None:
        """Write the collected rows, even if the caller is cancelled.

        Afterwards, a reader finds every row that was added before the call. If the disk is full, calls continue and
        their rows wait.
        """
        await asyncio.shield(self._write())

    async def _write(self) -> None:
        async with self._writing:
            self._has_rows.clear()
            rows, self._rows = self._rows, []
            if not rows:
                return
            try:
                await self._database.write(usage.append, rows)
            except PorticoError as error:
                if self._pause == WRITE_INTERVAL_S:
                    logger.error("usage rows cannot be written and are waiting: %s", error.message)
                self._keep(rows)
            else:
                self._pause = WRITE_INTERVAL_S

    def _keep(self, rows: list[UsageRow]) -> None:
        """Keep these rows for a later retry, before rows that arrived in the meantime."""
        waiting_rows = [*rows, *self._rows]
        lost_count = len(waiting_rows) - MAX_WAITING_ROWS
        if lost_count > 0:
            logger.error("%d usage rows were lost: more than %d are waiting.", lost_count, MAX_WAITING_ROWS)
        self._rows = waiting_rows[-MAX_WAITING_ROWS:]
        self._pause = RETRY_INTERVAL_S
        self._has_rows.set()


MAX_SERIES = 500
"""Maximum number of names that are counted separately. Clients can call names that do not exist, so all further names
share one series.
"""

OTHER_NAMES = "(others)"


class CallSeries:
    """The calls of one operation on one name."""

    __slots__ = (
        *("cached_tokens", "completion_tokens", "cost", "prompt_tokens"),
        *("duration", "first_byte", "statuses"),
    )

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.cost = 0.0
        """Cost in dollars of the calls whose price is known."""
        self.duration = Histogram()
        self.first_byte = Histogram()


class CallCounts:
    """All call counts, grouped by name and operation."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], CallSeries] = {}

    def add(self, row: UsageRow) -> None:
        series = self._series.get((row.name, row.operation))
        if series is None:
            series = self._new(row.name, row.operation)
        series.statuses[row.status] += 1
        series.prompt_tokens += row.prompt_tokens
        series.completion_tokens += row.completion_tokens
        series.cached_tokens += row.cached_tokens
        series.cost += row.cost or 0.0
        series.duration.observe(row.milliseconds / 1e3)
        if row.first_byte_milliseconds is not None:
            series.first_byte.observe(row.first_byte_milliseconds / 1e3)

    def _new(self, name: str, operation: str) -> CallSeries:
        if len(self._series) >= MAX_SERIES:
            name = OTHER_NAMES
        return self._series.setdefault((name, operation), CallSeries())

    def __iter__(self) -> Iterator[tuple[str, str, CallSeries]]:
        for (name, operation), series in sorted(self._series.items()):
            yield name, operation, series
