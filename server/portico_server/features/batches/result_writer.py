"""Writer of result lines. Lines that arrive while earlier lines are being written are written together."""

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
"""Seconds between two writes, so that several lines are written together: a disk write costs more than a line."""

FULL_WRITE_LINES: Final = 256
"""Number of queued lines that are written without waiting for more lines."""

MAX_WAITING_LINES: Final = 512
"""Maximum number of lines waiting to be written before new requests pause."""

STOP_TIMEOUT_S: Final = 1.0
"""Seconds to write the waiting lines after their batch is stopped."""

FIRST_RETRY_S: Final = 0.5
"""Seconds between the first two write attempts if the disk is full or the database is unavailable; the delay doubles
after each attempt.
"""

MAX_RETRY_S: Final = 15.0
"""Maximum seconds between two attempts."""

PASSING: Final = ("disk_full", "disk_failed", "busy", "database_unavailable", "storage_failed")
"""Codes of errors that may pass, or that an operator may fix, while the batch waits."""

Write: TypeAlias = Callable[[Sequence[LineRow], SpentTokens], Awaitable[None]]


class ResultWriter:
    """Writes result lines in groups. ``write`` stores lines in the database; ``until`` is the time, in seconds since
    1970, after which write errors are no longer retried.
    """

    def __init__(self, write: Write, until: float) -> None:
        self._write = write
        self._until = until
        self._waiting_rows: list[tuple[LineRow, SpentTokens]] = []
        self._writing: asyncio.Task[None] | None = None
        self._has_space = asyncio.Event()
        self._due = asyncio.Event()
        """Set when the next write need not wait: enough lines are queued, or no more lines follow."""
        self._has_ended = False

    async def keep(self, row: LineRow, spent_tokens: SpentTokens) -> None:
        """Queue a line, which is written soon, and wait while too many lines are queued. Raises the error of a failed
        write.
        """
        self._waiting_rows.append((row, spent_tokens))
        if len(self._waiting_rows) >= FULL_WRITE_LINES:
            self._due.set()
        if self._writing is None or self._writing.done():
            self._raise()
            self._writing = asyncio.create_task(self._write_all(), name="lines of a batch")
        while len(self._waiting_rows) > MAX_WAITING_LINES and not self._writing.done():
            self._has_space.clear()
            has_space = asyncio.ensure_future(self._has_space.wait())
            try:
                await asyncio.wait((has_space, self._writing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                has_space.cancel()

    async def drain(self) -> None:
        """Wait until all lines are written; do not add lines afterwards. Raises the error of a failed write."""
        self._end()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
            self._raise()

    async def close(self) -> None:
        """Write the queued lines and stop. Lines that cannot be written in time are discarded."""
        self._end()
        if self._writing is not None:
            tasks, _ = await asyncio.wait((self._writing,), timeout=STOP_TIMEOUT_S)
            if not tasks:
                self._writing.cancel()
                await asyncio.wait((self._writing,))

    def _end(self) -> None:
        self._has_ended = True
        self._due.set()

    def _raise(self) -> None:
        if self._writing is not None and (error := self._writing.exception()) is not None:
            raise error

    async def _write_all(self) -> None:
        while self._waiting_rows:
            group, self._waiting_rows = self._waiting_rows, []
            self._has_space.set()
            if not self._has_ended:
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
    """Write, and retry until the time ``until`` (seconds since 1970) if an error may pass. Raises the last error."""
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
