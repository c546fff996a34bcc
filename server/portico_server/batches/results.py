"""The two files at the end of a batch: what was answered, and what was not; each in the order of the input."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from portico_server.batches import lines
from portico_server.batches.lines import Asked
from portico_server.batches.spec import OUTPUT_PURPOSE, Laid, Spec, Uploads
from portico_server.core import threads
from portico_server.core.ids import new_id
from portico_server.db import batches
from portico_server.db.batches import BatchRow
from portico_server.db.database import Database
from portico_server.db.files import FileRow

logger = logging.getLogger(__name__)

ROWS: Final = 200
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
    files: Uploads
    row: BatchRow
    longest: int

    async def write(self, status: str, run_id: str, holder: str) -> None:
        """Write both files and end the batch with ``status`` in one transaction.

        Raises `Unavailable` if the disk is full, and `Conflict` if another daemon has the run by now.
        """
        laid: list[Laid] = []
        made: list[FileRow | None] = []
        try:
            for name, chunks in (("output", self._answered(failed=False)), ("error", self._failed(status))):
                received = await self.files.receive(chunks, limited=False)
                laid.append(received)
                await self.files.lay(received)
                made.append(self._row(name, received) if received.bytes else None)
            await self.database.write(batches.finish, self.row.id, status, made, run_id, holder)
        finally:
            digests = [item.sha256 for item in laid]
            await asyncio.shield(self._settle(digests))

    async def _settle(self, digests: Sequence[str]) -> None:
        await self.files.release(digests)  # those that have no row: a file that failed, or is empty
        await self.files.forget(digests)

    def _row(self, name: str, received: Laid) -> FileRow:
        keep = Spec.from_json(self.row.spec).keep
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
        while rows := await self.database.read(batches.lines, self.row.id, failed, after, ROWS):
            yield b"".join(row.data for row in rows)
            after = rows[-1].line

    async def _failed(self, status: str) -> AsyncIterator[bytes]:
        """What failed, and then what nobody was asked."""
        async for chunk in self._answered(failed=True):
            yield chunk
        if status not in CODES or not self.row.total:
            return
        code, message = CODES[status]
        done = await self.database.read(batches.done, self.row.id)
        try:
            async for block in read(self.files, self.row, done, self.longest):
                yield b"".join(lines.unanswered(self.row.id, asked, code, message) for asked in block)
        except FileNotFoundError:  # the batch ends all the same, with what was answered
            logger.warning(
                "batch %s: the bytes of its input are gone, so its error file lacks requests", self.row.id
            )


async def read(
    files: Uploads, row: BatchRow, done: set[int], longest: int
) -> AsyncGenerator[Sequence[Asked], None]:
    """The requests of a batch that are not ``done``, some at a time, read off the event loop."""
    found: Any = lines.blocks(files.blob(row.input_sha256), done, longest)
    while block := await threads.FILES.run(next, found, None):
        yield block
