"""The lines of a batch: those of its file, checked and read, and those of its results, written.

Format: https://platform.openai.com/docs/guides/batch and https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import orjson

from portico.schemas.batches import BatchProblem
from portico_server.batches.spec import (
    MAX_FILE_BYTES,
    MAX_LINES,
    OUTPUT_PURPOSE,
    BatchFiles,
    BatchSpec,
    CheckedLines,
    LineAnswer,
    ReceivedBytes,
)
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, nearest
from portico_server.core.ids import new_id
from portico_server.db import batches
from portico_server.db.batches import BatchRow, LineRow, SpentTokens
from portico_server.db.database import Database
from portico_server.db.files import FileRow

MAX_PROBLEMS: Final = 100
"""Problems that are told of one file."""

MAX_ID_CHARS: Final = 512
"""Characters of a custom_id."""

BLOCK_LINES: Final = 64
"""Lines that are read at once."""

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""Bytes of lines after which no more are read at once."""

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of a file; ``body`` is JSON."""

    line: int
    custom_id: str
    body: bytes


class _InvalidLine(Exception):
    """A line that cannot be taken."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


# --- the file that was sent --------------------------------------------------------------------------------------


def check(path: Path, endpoint: str, longest: int) -> CheckedLines:
    """Read the whole file, one line at a time. ``longest``: bytes of a line. Slow: not for the event loop."""
    if path.stat().st_size > MAX_FILE_BYTES:
        words = (
            f"The file is larger than {MAX_FILE_BYTES // 1024**2} MB, the most that a batch takes. Split it."
        )
        return CheckedLines(0, "", (BatchProblem("file_too_large", words, "input_file_id"),))
    problems: list[BatchProblem] = []
    seen: set[str] = set()
    total, model = 0, ""
    with path.open("rb") as file:
        for number, raw in _raw(file, longest):
            total += 1
            if total > MAX_LINES:
                words = (
                    f"The file has more than {MAX_LINES:,} requests, the most that a batch takes. Split it."
                )
                return CheckedLines(total, model, (BatchProblem("too_many_tasks", words, "input_file_id"),))
            if len(problems) >= MAX_PROBLEMS:
                continue
            try:
                model = _require(raw, endpoint, longest, seen, model)
            except _InvalidLine as wrong:
                problems.append(BatchProblem(wrong.code, wrong.message, wrong.param, number))
    if not total:
        words = "The file is empty. Each line of it must be one request: custom_id, method, url and body, as JSON."
        problems.append(BatchProblem("empty_file", words, "input_file_id"))
    return CheckedLines(total, model, tuple(problems))


def _require(raw: bytes, endpoint: str, longest: int, seen: set[str], model: str) -> str:
    """The model of a line that is right; of the first one if ``model`` is empty. Raises `_Wrong`."""
    if len(raw) > longest:
        most = longest // 1024**2
        raise _InvalidLine(
            "request_too_large", f"The line is longer than {most} MB, the most that a request may have."
        )
    value = _object(raw)
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID_CHARS:
        raise _InvalidLine(
            *_lacks("custom_id", f"a text of 1 to {MAX_ID_CHARS} characters", custom_id), "custom_id"
        )
    if custom_id in seen:
        words = f"Another line has the custom_id '{custom_id[:80]}' too; each must have its own."
        raise _InvalidLine("duplicate_custom_id", words, "custom_id")
    seen.add(custom_id)
    if value.get("method") != "POST":
        raise _InvalidLine(*_lacks("method", "'POST'", value.get("method")), "method")
    if value.get("url") != endpoint:
        if not value.get("url"):
            raise _InvalidLine(*_lacks("url", f"'{endpoint}'", None), "url")
        words = f"The url '{str(value['url'])[:80]}' is not the endpoint of the batch, '{endpoint}'."
        raise _InvalidLine("url_mismatch", words, "url")
    body = value.get("body")
    if not isinstance(body, dict):
        raise _InvalidLine(*_lacks("body", "a JSON object", body), "body")
    return _model(body, model)


def _model(body: dict[str, Any], model: str) -> str:
    named = body.get("model")
    if not isinstance(named, str) or not named:
        raise _InvalidLine(*_lacks("body.model", "the name of a model or an app", named), "body.model")
    for field in ("stream", "background"):
        if body.get(field):
            words = f"'{field}' has no meaning in a batch, whose answers come as a file; leave it out."
            raise _InvalidLine("unsupported_parameter", words, f"body.{field}")
    if model and named != model:
        words = (
            f"The model '{named[:80]}' is not that of the first line, '{model[:80]}'; make a batch for each."
        )
        raise _InvalidLine("model_mismatch", words + nearest(named, [model]), "body.model")
    return named


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        what = str(error).partition(": line")[0]
        raise _InvalidLine(
            "invalid_json_line", f"This line is not JSON: {what}, at column {error.colno}."
        ) from None
    if not isinstance(value, dict):
        raise _InvalidLine("invalid_json_line", "This line is not a JSON object.")
    return value


def _lacks(name: str, wanted: str, given: object) -> tuple[str, str]:
    if given is None:
        return "missing_required_parameter", f"'{name}' is missing; it must be {wanted}."
    return "invalid_value", f"'{name}' must be {wanted}."


def _raw(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1; of one that is too long, one byte too many."""
    number = 0
    while raw := file.readline(longest + 2):
        number += 1
        rest = raw
        while not rest.endswith(b"\n") and (rest := file.readline(1024 * 1024)):
            pass
        text = raw.removeprefix(_BOM) if number == 1 else raw
        if text := text.strip():
            yield number, text


def blocks(path: Path, done: Collection[int], longest: int) -> Iterator[list[BatchLine]]:
    """The requests of a checked file that are not ``done``, some at a time."""
    block: list[BatchLine] = []
    size = 0
    with path.open("rb") as file:
        for number, raw in _raw(file, longest):
            if number in done:
                continue
            value = orjson.loads(raw)
            line = BatchLine(number, value["custom_id"], orjson.dumps(value["body"]))
            block.append(line)
            size += len(line.body)
            if len(block) == BLOCK_LINES or size > BLOCK_BYTES:
                yield block
                block, size = [], 0
    if block:
        yield block


# --- the files of results ----------------------------------------------------------------------------------------


def answered(batch_id: str, line: BatchLine, answer: LineAnswer) -> tuple[bytes, SpentTokens]:
    """The line for a request that was answered, whatever with, and the tokens that this took."""
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        document = {"error": {"message": "The answer is not JSON.", "type": "server_error", "code": None}}
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": document}
    return _line(batch_id, line, response, None), _spent(document)


def unanswered(batch_id: str, line: BatchLine, code: str, message: str) -> bytes:
    """The line for a request that nobody was asked."""
    return _line(batch_id, line, None, {"code": code, "message": message})


def _line(batch_id: str, request: BatchLine, response: Any, error: Any) -> bytes:
    line = {
        # The same whenever it is answered, and in the order of the input.
        "id": f"batch_req_{batch_id.removeprefix('batch_')}_{request.line:06d}",
        "custom_id": request.custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _spent(document: Any) -> SpentTokens:
    """Tokens by the ``usage`` of an answer, in the words of any endpoint."""
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return SpentTokens()
    prompt_tokens = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion_tokens = usage.get("completion_tokens", usage.get("output_tokens"))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return SpentTokens(
        *(number if isinstance(number, int) else 0 for number in (prompt_tokens, completion_tokens, cached))
    )


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
                yield b"".join(unanswered(self.row.id, line, code, message) for line in block)
        except FileNotFoundError:  # the batch ends all the same, with what was answered
            logger.warning(
                "batch %s: the bytes of its input are gone, so its error file lacks requests", self.row.id
            )


async def read(
    files: BatchFiles, row: BatchRow, done: set[int], longest: int
) -> AsyncGenerator[Sequence[BatchLine], None]:
    """The requests of a batch that are not ``done``, some at a time, read off the event loop; the next ones while
    these are asked.
    """
    async with files.open(row.input_sha256) as path:
        found: Any = blocks(path, done, longest)
        ahead = pools.FILES.begin(next, found, None)
        try:
            while block := await asyncio.shield(ahead):
                ahead = pools.FILES.begin(next, found, None)
                yield block
        finally:
            await asyncio.wait((ahead,))  # it reads the file, which is let go of


# Keeps lines as they are done, those together that are done while the ones before are written.


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

    async def keep(self, row: LineRow, spent: SpentTokens) -> None:
        """Have a line written soon; wait while too many are not. Raises what keeps the lines from being written."""
        self._waiting.append((row, spent))
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
            done, _ = await asyncio.wait((self._writing,), timeout=STOP_TIMEOUT_S)
            if not done:
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
            rows = [row for row, _spent in group]
            total = SpentTokens(
                *(sum(numbers) for numbers in zip(*(spent for _row, spent in group), strict=True))
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
