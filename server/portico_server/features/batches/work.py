"""The work of one batch, in a durable run: check the file, execute its requests, and write the results."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import orjson

from portico.schemas.batches import BatchProblem
from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, NotFound, PorticoError, Unavailable
from portico_server.core.registry import Registry
from portico_server.core.work_slots import FairSlots
from portico_server.db import batches, steps
from portico_server.db.batches import BatchRow, LineRow, SpentTokens
from portico_server.db.database import Database
from portico_server.db.steps import StepRow
from portico_server.features.batches import lines, results
from portico_server.features.batches.line_request import LineRequest, RevokedError
from portico_server.features.batches.lines import BatchLine
from portico_server.features.batches.result_writer import ResultWriter, retry_while_disk_full
from portico_server.features.batches.results import Results
from portico_server.features.batches.spec import ENDPOINTS, AnswerLine, BatchFiles, CheckedLines
from portico_server.runs.run import BEHIND
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.throttle import Throttle

logger = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 1.0
"""Seconds between two checks whether the batch was cancelled through another daemon."""

FINISH_TIMEOUT_S: Final = 3_600.0
"""Seconds after a batch's completion window during which its writes are still retried, for example if the disk is
full.
"""


@dataclass(frozen=True, slots=True)
class BatchServices:
    """Services that process batches. ``longest`` is the maximum size of a request in bytes; ``at_once`` is the maximum
    number of concurrent requests.
    """

    database: Database
    registry: Registry
    scheduler: Scheduler
    files: BatchFiles
    throttle: Throttle
    slots: FairSlots
    at_once: int
    longest: int

    async def problems(self, checked_lines: CheckedLines, endpoint: str, owner: str) -> CheckedLines:
        """Add a problem if the model does not exist for ``owner`` or does not support the endpoint."""
        if checked_lines.problems or not checked_lines.model:
            return checked_lines
        try:
            caller = self.scheduler.principals(owner)
            servable = await self.registry.resolve(checked_lines.model, caller)
        except (Forbidden, NotFound) as error:
            problem = BatchProblem(error.code or "", error.message, "body.model", 1)
        else:
            able = ENDPOINTS[endpoint]
            if able in servable.card.capabilities:
                return checked_lines
            can = ", ".join(sorted(servable.card.capabilities)) or "nothing else"
            words = f"The model '{checked_lines.model}' does not support {endpoint}; it supports {can}."
            problem = BatchProblem("unsupported_operation", words, "body.model", 1)
        return CheckedLines(checked_lines.total, checked_lines.model, (problem,))


class BatchWork:
    """One attempt to process one batch. ``stop`` is set when the batch is cancelled."""

    def __init__(
        self, services: BatchServices, row: BatchRow, ask: AnswerLine, stop: asyncio.Event, context: Context
    ) -> None:
        self._services = services
        self._row = row
        self._ask = ask
        self._stop = stop
        self._context = context
        self._done_lines = 0
        self._began = time.time()
        self._is_noted = False

    async def do(self) -> dict[str, Any]:
        """Process the batch from where the last attempt stopped; return the result of the run."""
        if self._row.status == "validating":
            await self._check()
        if self._row.status == "in_progress":
            await self._answer()
        if self._row.status in ("finalizing", "cancelling"):
            await self._finish()
        row = self._row
        await self._services.files.release([row.input_sha256])
        while await self._services.database.write(batches.drop, row.id, results.PAGE_ROWS):
            pass
        return {"batch": row.id, "status": row.status, "completed": row.completed, "failed": row.failed}

    async def _check(self) -> None:
        services, row = self._services, self._row
        await self._context.emit(Progressed("validate", "Reading the file"))
        try:
            async with services.files.open(row.input_sha256) as path:
                checked_lines = await pools.DATASETS.run(lines.check, path, row.endpoint, services.longest)
        except FileNotFoundError:
            errors = [_missing("Upload it again.").to_json()]
            await self._move("failed", {"errors": errors, "finished_at": time.time()})
            return
        checked_lines = await services.problems(checked_lines, row.endpoint, row.owner)
        check_result = {"total": checked_lines.total, "model": checked_lines.model}
        if checked_lines.problems:
            errors = [problem.to_json() for problem in checked_lines.problems]
            await self._move(
                "failed", {"errors": errors, "model": checked_lines.model, "finished_at": time.time()}
            )
        else:
            await self._move("in_progress", check_result)
        await self._note("check", 1, check_result)

    async def _move(self, to: str, values: dict[str, Any] | None = None) -> None:
        """Change the status of the batch unless it was cancelled meanwhile, and reload the batch."""

        async def write() -> None:
            since = ("validating", "in_progress", "finalizing")
            await self._services.database.write(batches.move, self._row.id, to, since=since, values=values)

        await retry_while_disk_full(write, self._row.expires_at + FINISH_TIMEOUT_S)
        await self._look()

    async def _look(self) -> None:
        row = await self._services.database.read(batches.get, self._row.id)
        if row is None:
            raise Unavailable(f"The batch '{self._row.id}' no longer exists.", code="batch_not_found")
        self._row = row

    async def _note(
        self, path: str, number: int, output: dict[str, Any], spent_tokens: SpentTokens | None = None
    ) -> None:
        """Record a step for the trace. A run that has recorded a step is resumed no matter how often it is
        interrupted.
        """
        now = time.time()
        row = StepRow(
            path,
            number,
            "batch",
            "completed",
            output=orjson.dumps(output).decode(),
            started_at=self._began,
            milliseconds=(now - self._began) * 1e3,
            **(spent_tokens._asdict() if spent_tokens else {}),
        )
        await self._services.database.write_soon(
            steps.record, self._context.run, [row], self._services.scheduler.holder
        )
        self._began = now

    async def _answer(self) -> None:
        """Execute the remaining requests until all are done, the batch is cancelled, or its time is over."""
        row = self._row
        errors: Sequence[dict[str, Any]] = ()
        asking = asyncio.create_task(self._ask_all(), name=f"requests of {row.id}")
        stopped_task = asyncio.create_task(self._cancelled(), name=f"cancel of {row.id}")
        try:
            await asyncio.wait(
                (asking, stopped_task),
                timeout=max(0.0, row.expires_at - time.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            tasks = [task for task in (asking, stopped_task) if task.done()]
            for task in (asking, stopped_task):
                task.cancel()
            await asyncio.wait((asking, stopped_task))
        if error := next(
            (found_error for task in tasks if (found_error := task.exception()) is not None), None
        ):
            end_message = "The batch was ended with the answers received so far."
            if isinstance(error, RevokedError):
                code = error.error.code or "key_revoked"
                errors = [BatchProblem(code, f"{error.error.message} {end_message}").to_json()]
            elif isinstance(error, FileNotFoundError):
                errors = [_missing(end_message).to_json()]
            else:
                raise error
        await self._look()
        spent_tokens = SpentTokens(
            self._row.prompt_tokens, self._row.completion_tokens, self._row.cached_tokens
        )
        counts = {"completed": self._row.completed, "failed": self._row.failed}
        await self._note("requests", 2, counts, spent_tokens)
        await self._move("finalizing", {"errors": errors} if errors else None)

    async def _cancelled(self) -> None:
        """Return when the batch is cancelled, through this or another daemon. Raises `RevokedError`."""
        while True:
            try:
                self._services.scheduler.principals(self._row.owner)
                if await self._services.database.read(batches.status, self._row.id) != "in_progress":
                    return
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._stop.wait()
                    return
            except TimeoutError:
                continue
            except Forbidden as error:
                raise RevokedError(error) from error
            except PorticoError as error:
                logger.warning("batch %s: %s", self._row.id, error.message)
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _ask_all(self) -> None:
        services, row = self._services, self._row
        done_lines = await services.database.read(batches.done_lines, row.id)
        self._done_lines = len(done_lines)
        asking = LineRequest(
            self._ask,
            services.scheduler.principals,
            services.slots,
            services.throttle,
            row.owner,
            row.endpoint,
            row.model,
        )
        keeper = ResultWriter(self._write, row.expires_at + FINISH_TIMEOUT_S)

        async def worker(feed: _LineFeed) -> None:
            BEHIND.set(True)
            while (line := await feed.next()) is not None:
                answer = await asking.answer(line.body)
                data, spent_tokens = results.to_result_line(row.id, line, answer)
                await keeper.keep(LineRow(line.line, answer.status >= 400, data), spent_tokens)

        try:
            async with (
                aclosing(results.read(services.files, row, done_lines, services.longest)) as blocks,
                asyncio.TaskGroup() as tasks,
            ):
                feed = _LineFeed(blocks)
                for _ in range(min(services.at_once, row.total)):
                    tasks.create_task(worker(feed))
            await keeper.drain()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            await keeper.close()

    async def _write(self, rows: Sequence[LineRow], spent_tokens: SpentTokens) -> None:
        services, row = self._services, self._row
        status = await services.database.write_soon(
            batches.keep, row.id, rows, spent_tokens, row.run_id, services.scheduler.holder
        )
        if status != "in_progress":
            self._stop.set()
        self._done_lines += len(rows)
        if not self._is_noted:
            self._is_noted = True
            await self._note("requests", 2, {"completed": self._done_lines})
        await self._context.emit(
            Progressed(
                "requests", f"{self._done_lines} of {row.total}", self._done_lines, row.total, "requests"
            )
        )

    async def _finish(self) -> None:
        services, row = self._services, self._row
        await self._context.emit(Progressed("files", "Writing the results"))
        missing = row.total - row.completed - row.failed
        if row.errors:
            status = "failed"
        elif row.status == "cancelling":
            status = "cancelled"
        else:
            status = "expired" if missing else "completed"
        written_results = Results(services.database, services.files, row, services.longest)
        until = max(row.expires_at, time.time()) + FINISH_TIMEOUT_S
        await retry_while_disk_full(
            lambda: written_results.write(status, self._context.run, services.scheduler.holder), until
        )
        await self._look()
        file_ids = {"output_file_id": self._row.output_file_id, "error_file_id": self._row.error_file_id}
        await self._note("files", 3, file_ids)


def _missing(words: str) -> BatchProblem:
    """Return the problem of a batch whose input file no longer has content."""
    return BatchProblem(
        "file_content_missing",
        f"The content of the input file is not on this machine. {words}",
        "input_file_id",
    )


class _LineFeed:
    """Hands out requests to concurrent workers, one at a time."""

    def __init__(self, blocks: AsyncIterator[Sequence[BatchLine]]) -> None:
        self._blocks = blocks
        self._block: list[BatchLine] = []
        self._turn = asyncio.Lock()

    async def next(self) -> BatchLine | None:
        """Return the next request, or ``None`` after the last."""
        async with self._turn:
            if not self._block:
                # reads only the next block: anext with a default fails in Python 3.11
                async for block in self._blocks:
                    self._block = list(reversed(block))
                    break
            return self._block.pop() if self._block else None
