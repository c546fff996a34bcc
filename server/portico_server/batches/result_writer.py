"""Keeps lines as they are done, those together that are done while the ones before are written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from portico_server.core.errors import PorticoError
from portico_server.db.batches import LineRow, SpentTokens

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S: Final = 0.1
"""Seconds between two writes, so that many lines go together: the way to the disk costs more than a line."""

FULL_WRITE_LINES: Final = 256
"""Lines that are written without waiting for more of them."""

MAX_WAITING_LINES: Final = 512
"""Lines that may wait to be written before no more are asked."""

STOP_TIMEOUT_S: Final = 1.0
"""Seconds that the lines which are there have to be written once their batch is stopped."""

FIRST_RETRY_S: Final = 0.5
"""Seconds between the first two attempts to write where the disk is full or the database away; each next time is twice
as long.
"""

MAX_RETRY_S: Final = 15.0
"""Seconds between two attempts at most."""

PASSING: Final = ("disk_full", "disk_failed", "busy", "database_unavailable", "storage_failed")
"""Errors that somebody can put right while we wait."""

Write: TypeAlias = Callable[[Sequence[LineRow], SpentTokens], Awaitable[None]]


class ResultWriter:
    """``write`` puts lines into the database; ``until`` is when waiting for a full disk ends, in seconds since 1970."""

    def __init__(self, write: Write, until: float) -> None:
        self._write = write
        self._until = until
        self._waiting: list[tuple[LineRow, SpentTokens]] = []
        self._writing: asyncio.Task[None] | None = None
        self._has_space = asyncio.Event()
        self._due = asyncio.Event()
        """Set once there is nothing to wait for before the next write: enough lines are there, or no more come."""
        self._ended = False

    async def keep(self, row: LineRow, spent_tokens: SpentTokens) -> None:
        """Have a line written soon; wait while too many are not. Raises what keeps the lines from being written."""
        self._waiting.append((row, spent_tokens))
        if len(self._waiting) >= FULL_WRITE_LINES:
            self._due.set()
        if self._writing is None or self._writing.done():
            self._raise()
            self._writing = asyncio.create_task(self._write_all(), name="lines of a batch")
        while len(self._waiting) > MAX_WAITING_LINES and not self._writing.done():
            self._has_space.clear()
            has_space = asyncio.ensure_future(self._has_space.wait())
            try:
                await asyncio.wait((has_space, self._writing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                has_space.cancel()

    async def drain(self) -> None:
        """Return once all lines are written, which no more follow. Raises what keeps them from being written."""
        self._end()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
            self._raise()

    async def close(self) -> None:
        """Let what is there be written, and end. What waits for a full disk is given up."""
        self._end()
        if self._writing is not None:
            tasks, _ = await asyncio.wait((self._writing,), timeout=STOP_TIMEOUT_S)
            if not tasks:
                self._writing.cancel()
                await asyncio.wait((self._writing,))

    def _end(self) -> None:
        self._ended = True
        self._due.set()

    def _raise(self) -> None:
        if self._writing is not None and (error := self._writing.exception()) is not None:
            raise error

    async def _write_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            self._has_space.set()
            if not self._ended:
                self._due.clear()
            rows = [row for row, _tokens in group]
            total = SpentTokens(
                *(sum(numbers) for numbers in zip(*(tokens for _row, tokens in group), strict=True))
            )
            await self._patiently(rows, total)
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_INTERVAL_S):
                    await self._due.wait()

    async def _patiently(self, rows: Sequence[LineRow], total: SpentTokens) -> None:
        await retry_while_disk_full(lambda: self._write(rows, total), self._until)


async def retry_while_disk_full(write: Callable[[], Awaitable[None]], until: float) -> None:
    """Write; where the disk is full, again and again ``until`` a moment in seconds since 1970. Raises what is left."""
    pause = FIRST_RETRY_S
    while True:
        try:
            return await write()
        except PorticoError as error:
            if error.code not in PASSING or time.time() + pause > until:
                raise
            if pause == FIRST_RETRY_S:
                logger.warning("a batch waits: %s", error.message)
        await asyncio.sleep(pause)
        pause = min(MAX_RETRY_S, pause * 2)
