"""The result files of a batch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.db import batches
from portico_server.db.batches import BatchRow, SpentTokens
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.features.batches.lines import BatchLine, blocks
from portico_server.features.batches.spec import (
    OUTPUT_PURPOSE,
    BatchFiles,
    BatchSpec,
    LineAnswer,
    ReceivedBytes,
)


def to_result_line(batch_id: str, line: BatchLine, answer: LineAnswer) -> tuple[bytes, SpentTokens]:
    """Return the result line of a request that was answered, even with an error, and the tokens that it used."""
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        document = {"error": {"message": "The answer is not JSON.", "type": "server_error", "code": None}}
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": document}
    return _line(batch_id, line, response, None), _spent_tokens(document)


def unanswered(batch_id: str, line: BatchLine, code: str, message: str) -> bytes:
    """Return the result line of a request that was not executed, with an error."""
    return _line(batch_id, line, None, {"code": code, "message": message})


def _line(batch_id: str, request: BatchLine, response: Any, error: Any) -> bytes:
    line = {
        # The id does not depend on when the request is answered, and ids sort in the order of the input.
        "id": f"batch_req_{batch_id.removeprefix('batch_')}_{request.line:06d}",
        "custom_id": request.custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _spent_tokens(document: Any) -> SpentTokens:
    """Return the tokens in the ``usage`` of an answer, in the form of any endpoint."""
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return SpentTokens()
    prompt_tokens = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion_tokens = usage.get("completion_tokens", usage.get("output_tokens"))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached_tokens = details.get("cached_tokens") if isinstance(details, dict) else 0
    return SpentTokens(
        *(
            number if isinstance(number, int) else 0
            for number in (prompt_tokens, completion_tokens, cached_tokens)
        )
    )


logger = logging.getLogger(__name__)

PAGE_ROWS: Final = 200
"""Number of lines read from the database at once."""

CODES: Final = {
    "expired": (
        "batch_expired",
        "The completion window of the batch ended before this request was answered.",
    ),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
    "failed": ("batch_failed", "The batch ended before this request was answered; its 'errors' say why."),
}
"""Error code and message of requests that were not executed, keyed by how the batch ended."""


@dataclass(frozen=True, slots=True)
class Results:
    """Writes the result files of one batch. If writing fails, no file remains."""

    database: Database
    files: BatchFiles
    row: BatchRow
    longest: int

    async def write(self, status: str, run_id: str, holder: str) -> None:
        """Write both files and end the batch with ``status`` in one transaction.

        Raises `Unavailable` if the disk is full, and `Conflict` if another daemon now owns the run.
        """
        laid: list[ReceivedBytes] = []
        file_rows: list[FileRow | None] = []
        try:
            for name, chunks in (
                ("output", self._answer_lines(has_failed=False)),
                ("error", self._failure_lines(status)),
            ):
                received_file = await self.files.receive(chunks, is_limited=False)
                laid.append(received_file)
                await self.files.place_early(received_file)
                file_rows.append(self._row(name, received_file) if received_file.bytes else None)
            await self.database.write(batches.finish, self.row.id, status, file_rows, run_id, holder)
        finally:
            digests = [item.sha256 for item in laid]
            await asyncio.shield(self._settle(digests))

    async def _settle(self, digests: Sequence[str]) -> None:
        await self.files.release(
            digests
        )  # removes only files without a row: after an error, or an empty file
        await self.files.forget(digests)

    def _row(self, name: str, received_bytes: ReceivedBytes) -> FileRow:
        keep = BatchSpec.from_json(self.row.spec).keep
        now = time.time()
        return FileRow(
            id=new_id("file-"),
            owner=self.row.owner,
            filename=f"{self.row.id}_{name}.jsonl",
            purpose=OUTPUT_PURPOSE,
            bytes=received_bytes.bytes,
            sha256=received_bytes.sha256,
            created_at=now,
            expires_at=None if keep is None else now + keep,
        )

    async def _answer_lines(self, *, has_failed: bool) -> AsyncIterator[bytes]:
        after = 0
        while rows := await self.database.read(batches.lines, self.row.id, has_failed, after, PAGE_ROWS):
            yield b"".join(row.data for row in rows)
            after = rows[-1].line

    async def _failure_lines(self, status: str) -> AsyncIterator[bytes]:
        """Yield the lines of failed requests, then the lines of requests that were not executed."""
        async for chunk in self._answer_lines(has_failed=True):
            yield chunk
        if status not in CODES or not self.row.total:
            return
        code, message = CODES[status]
        done_lines = await self.database.read(batches.done_lines, self.row.id)
        try:
            async for block in read(self.files, self.row, done_lines, self.longest):
                yield b"".join(unanswered(self.row.id, line, code, message) for line in block)
        except FileNotFoundError:  # the batch ends anyway, with the existing answers
            logger.warning(
                "batch %s: the content of its input is missing, so its error file lacks requests", self.row.id
            )


async def read(
    files: BatchFiles, row: BatchRow, done_lines: set[int], longest: int
) -> AsyncGenerator[Sequence[BatchLine], None]:
    """Yield blocks of the requests of a batch, except the lines in ``done_lines``.

    The blocks are read outside the event loop; each block is read while the previous block is being answered.
    """
    async with files.open(row.input_sha256) as path:
        line_blocks: Any = blocks(path, done_lines, longest)
        ahead = pools.FILES.begin(next, line_blocks, None)
        try:
            while block := await asyncio.shield(ahead):
                ahead = pools.FILES.begin(next, line_blocks, None)
                yield block
        finally:
            await asyncio.wait((ahead,))  # the read must end before the file is released
