"""The two files at the end of a batch: what was answered, and what was not; each in the order of the input."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from portico_server.batches import lines
from portico_server.batches.lines import BatchLine
from portico_server.batches.spec import OUTPUT_PURPOSE, BatchFiles, BatchSpec, ReceivedBytes
from portico_server.core import pools
from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id
from portico_server.db import batches
from portico_server.db.batches import BatchRow, LineRow, SpentTokens
from portico_server.db.database import Database
from portico_server.db.files import FileRow

logger = logging.getLogger(__name__)

PAGE_ROWS: Final = 200
"""Lines that are read from the database at once."""

CODES: Final = {
    "expired": (
        "batch_expired",
        "The completion window of the batch ended before this request was answered.",
    ),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
    "failed": ("batch_failed", "The batch ended before this request was answered; its 'errors' say why."),
}
"""What is said of requests that nobody was asked, by how the batch ended."""


@dataclass(frozen=True, slots=True)
class Results:
    """Writes the files of one batch. Nothing of them is left if that fails."""

    database: Database
    files: BatchFiles
    row: BatchRow
    longest: int

    async def write(self, status: str, run_id: str, holder: str) -> None:
        """Write both files and end the batch with ``status`` in one transaction.

        Raises `Unavailable` if the disk is full, and `Conflict` if another daemon has the run by now.
        """
        laid: list[ReceivedBytes] = []
        made: list[FileRow | None] = []
        try:
            for name, chunks in (("output", self._answered(failed=False)), ("error", self._failed(status))):
                received = await self.files.receive(chunks, limited=False)
                laid.append(received)
                await self.files.place_early(received)
                made.append(self._row(name, received) if received.bytes else None)
            await self.database.write(batches.finish, self.row.id, status, made, run_id, holder)
        finally:
            digests = [item.sha256 for item in laid]
            await asyncio.shield(self._settle(digests))

    async def _settle(self, digests: Sequence[str]) -> None:
        await self.files.release(digests)  # those that have no row: a file that failed, or is empty
        await self.files.forget(digests)

    def _row(self, name: str, received: ReceivedBytes) -> FileRow:
        keep = BatchSpec.from_json(self.row.spec).keep
        now = time.time()
        return FileRow(
            id=new_id("file-"),
            owner=self.row.owner,
            filename=f"{self.row.id}_{name}.jsonl",
            purpose=OUTPUT_PURPOSE,
            bytes=received.bytes,
            sha256=received.sha256,
            created_at=now,
            expires_at=None if keep is None else now + keep,
        )

    async def _answered(self, *, failed: bool) -> AsyncIterator[bytes]:
        after = 0
        while rows := await self.database.read(batches.lines, self.row.id, failed, after, PAGE_ROWS):
            yield b"".join(row.data for row in rows)
            after = rows[-1].line

    async def _failed(self, status: str) -> AsyncIterator[bytes]:
        """What failed, and then what nobody was asked."""
        async for chunk in self._answered(failed=True):
            yield chunk
        if status not in CODES or not self.row.total:
            return
        code, message = CODES[status]
        done = await self.database.read(batches.done_lines, self.row.id)
        try:
            async for block in read(self.files, self.row, done, self.longest):
                yield b"".join(lines.unanswered(self.row.id, line, code, message) for line in block)
        except FileNotFoundError:  # the batch ends all the same, with what was answered
            logger.warning(
                "batch %s: the bytes of its input are gone, so its error file lacks requests", self.row.id
            )


async def read(
    files: BatchFiles, row: BatchRow, done: set[int], longest: int
) -> AsyncGenerator[Sequence[BatchLine], None]:
    """The requests of a batch that are not ``done``, some at a time, read off the event loop."""
    found: Any = lines.blocks(files.blob(row.input_sha256), done, longest)
    while block := await pools.FILES.run(next, found, None):
        yield block


# Keeps lines as they are done, those together that are done while the ones before are written.


WRITE_INTERVAL_S: Final = 0.1
"""Seconds between two writes, so that many lines go together: the way to the disk costs more than a line."""

MAX_WAITING_LINES: Final = 256
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
        self._last = asyncio.Event()
        """Set once no more lines come: there is nothing to wait for between two writes."""

    async def keep(self, row: LineRow, spent: SpentTokens) -> None:
        """Have a line written soon; wait while too many are not. Raises what keeps the lines from being written."""
        self._waiting.append((row, spent))
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
        self._last.set()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
            self._raise()

    async def close(self) -> None:
        """Let what is there be written, and end. What waits for a full disk is given up."""
        self._last.set()
        if self._writing is not None:
            done, _ = await asyncio.wait((self._writing,), timeout=STOP_TIMEOUT_S)
            if not done:
                self._writing.cancel()
                await asyncio.wait((self._writing,))

    def _raise(self) -> None:
        if self._writing is not None and (error := self._writing.exception()) is not None:
            raise error

    async def _write_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            self._has_space.set()
            rows = [row for row, _spent in group]
            total = SpentTokens(
                *(sum(numbers) for numbers in zip(*(spent for _row, spent in group), strict=True))
            )
            await self._patiently(rows, total)
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_INTERVAL_S):
                    await self._last.wait()

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
