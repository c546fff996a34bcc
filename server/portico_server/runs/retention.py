"""Deletes old data: ended runs, their artifacts, usage, and expired files."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.db import artifacts as artifact_rows
from portico_server.db import chats as chat_rows
from portico_server.db import conversations as conversation_rows
from portico_server.db import responses as response_rows
from portico_server.db import retention as rows
from portico_server.db import sessions as session_rows
from portico_server.db import steps
from portico_server.db import webhooks as webhook_rows
from portico_server.db.database import Database
from portico_server.db.retention import Count, Forget
from portico_server.db.usage import DAY_S
from portico_server.runs.artifacts import ArtifactStore

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 3600.0
"""Seconds between checks, and thus the maximum time that data is kept beyond its retention."""

MIN_VACUUM_BYTES: Final = 16 * 1024 * 1024
"""Minimum unused bytes in the database's file that are worth freeing. Less space is soon used again."""

BATCH_ROWS: Final = 50
"""Number of rows that one transaction deletes. Between transactions, other writers can proceed."""


class Expires(Protocol):
    """Files, uploads or containers with their own expiry time."""

    async def expire(self, *, dry_run: bool = False) -> int:
        """Delete the expired objects and return their number."""


@dataclass(frozen=True, slots=True)
class PrunedCounts:
    """Numbers of objects that were deleted, or that a dry run would delete."""

    runs: int = 0
    questions: int = 0
    artifacts: int = 0
    files: int = 0
    usage: int = 0
    sessions: int = 0
    responses: int = 0
    conversations: int = 0
    uploads: int = 0
    chats: int = 0
    deliveries: int = 0
    containers: int = 0


class Retention:
    """Deletes old data at the daemon's start and then every hour. A run that has not ended is never deleted.

    ``runs_days``, ``usage_days`` and ``responses_days``: how long runs, usage and stored responses are kept after
    their end; ``sessions_days``: how long sessions and conversations are kept after their last turn; 0 means forever.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        files: Expires,
        uploads: Expires,
        containers: Expires,
        *,
        runs_days: int,
        usage_days: int,
        sessions_days: int = 0,
        responses_days: int = 0,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._files = files
        self._uploads = uploads
        self._containers = containers
        self._runs_days = runs_days
        self._usage_days = usage_days
        self._sessions_days = sessions_days
        self._responses_days = responses_days
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Prune until cancelled. Failures are logged and retried an hour later."""
        while True:
            try:
                await self._artifacts.sweep()
                pruned_counts = await self.prune()
                if pruned_counts != PrunedCounts():
                    logger.info("forgot %s", pruned_counts)
                vacuum_result = await self._database.vacuum(convert=False, worth_bytes=MIN_VACUUM_BYTES)
                if vacuum_result is not None:
                    logger.info("the database freed %d bytes", vacuum_result.freed)
            except (PorticoError, OSError) as error:
                logger.warning("old data could not be deleted: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def prune(self, *, runs_days: float | None = None, dry_run: bool = False) -> PrunedCounts:
        """Delete data that is older than the settings allow, or runs older than ``runs_days``. ``dry_run`` only
        counts.
        """
        async with self._one_at_a_time:
            days = self._runs_days if runs_days is None else runs_days
            runs = _cutoff(days, for_ever=runs_days is None)
            usage = _cutoff(self._usage_days, for_ever=True)
            talks = _cutoff(self._sessions_days, for_ever=True)
            answers = _cutoff(self._responses_days, for_ever=True)
            if dry_run:
                return await self._count(runs, usage, talks, answers)
            while await self._database.write(steps.forget_expired, BATCH_ROWS):
                pass  # outputs of steps whose retention has ended: nobody can see them any more
            return PrunedCounts(
                runs=await self._batches(rows.forget_runs, runs),
                questions=await self._batches(rows.forget_questions, runs),
                artifacts=0 if runs is None else await self._artifacts.expire(runs),
                files=await self._files.expire(),
                usage=await self._batches(rows.forget_usage, usage),
                sessions=await self._batches(session_rows.forget, talks),
                responses=await self._batches(response_rows.forget, answers),
                conversations=await self._batches(conversation_rows.forget, talks),
                uploads=await self._uploads.expire(),
                containers=await self._containers.expire(),
                chats=await self._batches(chat_rows.forget, answers),
                deliveries=await self._batches(webhook_rows.forget, runs),
            )

    async def _count(
        self, runs: float | None, usage: float | None, talks: float | None, answers: float | None
    ) -> PrunedCounts:
        async def count(function: Count, before: float | None) -> int:
            return 0 if before is None else await self._database.read(function, before)

        return PrunedCounts(
            runs=await count(rows.count_runs, runs),
            questions=await count(rows.count_questions, runs),
            artifacts=await count(artifact_rows.count_orphaned, runs),
            files=await self._files.expire(dry_run=True),
            usage=await count(rows.count_usage, usage),
            sessions=await count(session_rows.count_old, talks),
            responses=await count(response_rows.count_old, answers),
            conversations=await count(conversation_rows.count_old, talks),
            uploads=await self._uploads.expire(dry_run=True),
            containers=await self._containers.expire(dry_run=True),
            chats=await count(chat_rows.count_old, answers),
            deliveries=await count(webhook_rows.count_old, runs),
        )

    async def _batches(self, forget: Forget, before: float | None) -> int:
        if before is None:
            return 0
        total = 0
        while removed_count := await self._database.write(forget, before, BATCH_ROWS):
            total += removed_count
        return total


def _cutoff(days: float, *, for_ever: bool) -> float | None:
    """Return the time ``days`` days ago. Return ``None`` for 0 days if 0 means ``for_ever``."""
    return None if for_ever and days == 0 else time.time() - days * DAY_S
