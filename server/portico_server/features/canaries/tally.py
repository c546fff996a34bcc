"""The canary counts that are not written yet. Writing them applies the canaries' rules."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from portico_server.core.errors import PorticoError
from portico_server.db import canaries as rows
from portico_server.db.canaries import CanaryCounts, CanaryRow, Decision, Side, SideCounts
from portico_server.db.database import Database
from portico_server.features.canaries.spec import current_spec
from portico_server.features.canaries.verdict import decide

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S: Final = 0.5
"""Seconds between two writes of the counts; a `kill -9` loses at most the counts of one interval."""

RETRY_INTERVAL_S: Final = 5.0
"""Seconds until a failed write of counts is retried."""


class CanaryTally:
    """Counts the results of canary calls in memory, and writes the counts periodically."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending_counts: dict[str, CanaryCounts] = {}
        """Maps canary ids to counts that are not written yet."""
        self._has_counts = asyncio.Event()
        self._writing = asyncio.Lock()
        self._pause = WRITE_INTERVAL_S

    def count(self, canary_id: str, side: Side, side_counts: SideCounts) -> None:
        """Add counts of one side, which the next `flush` writes."""
        canary_counts = self._pending_counts.get(canary_id) or CanaryCounts()
        new_counts = getattr(canary_counts, side) + side_counts
        self._pending_counts[canary_id] = replace(canary_counts, **{side: new_counts})
        self._has_counts.set()

    async def wait(self) -> None:
        """Wait until the next write is due."""
        await self._has_counts.wait()
        await asyncio.sleep(self._pause)

    async def flush(self) -> Sequence[CanaryRow]:
        """Write the counts. Return the canaries that their rules have now ended."""
        async with self._writing:
            self._has_counts.clear()
            canary_counts, self._pending_counts = self._pending_counts, {}
            if not canary_counts:
                return ()
            try:
                canary_rows = await self._database.write(rows.add_counts, canary_counts, _decide)
            except PorticoError as error:
                if self._pause == WRITE_INTERVAL_S:
                    logger.error("counts of canaries cannot be written yet: %s", error.message)
                self._keep(canary_counts)
                return ()
            self._pause = WRITE_INTERVAL_S
        return canary_rows

    def _keep(self, canary_counts: dict[str, CanaryCounts]) -> None:
        for canary_id, counts in canary_counts.items():
            known_canary_counts = self._pending_counts.get(canary_id) or CanaryCounts()
            self._pending_counts[canary_id] = CanaryCounts(
                known_canary_counts.baseline + counts.baseline, known_canary_counts.canary + counts.canary
            )
        self._pause = RETRY_INTERVAL_S
        self._has_counts.set()


def _decide(row: CanaryRow, counts: CanaryCounts) -> Decision | None:
    return decide(current_spec(row), counts).decision
