"""Batches: created, retrieved and cancelled. A durable run does the work of each batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from portico.schemas.batches import BatchProblem
from portico_server.core import pools, work_slots
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, Unavailable, nearest
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.db import batches, runs
from portico_server.db.batches import BatchRow
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.rows import RowPage
from portico_server.features.batches import lines
from portico_server.features.batches.spec import (
    ENDPOINTS,
    KIND,
    PURPOSE,
    WINDOW_S,
    WORKING,
    AnswerLine,
    BatchFiles,
    BatchSpec,
    CheckedLines,
)
from portico_server.features.batches.work import BatchServices, BatchWork
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler, new_run
from portico_server.runs.throttle import Throttle

PAGE_ROWS: Final = 500
"""Number of lines deleted at once."""


class BatchService:
    """Manages batches. ``at_once`` is the maximum number of concurrent requests that this daemon makes for all
    batches.

    ``ask`` sends a request through the daemon's own API. ``longest`` is the maximum size of a request in bytes; with
    ``yields``, batches pause while a client waits for an answer.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        files: BatchFiles,
        *,
        ask: AnswerLine,
        at_once: int,
        longest: int,
        yields: bool = True,
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._runner = runner
        self._files = files
        self._stops: dict[str, asyncio.Event] = {}
        self._services = BatchServices(
            database,
            registry,
            scheduler,
            files,
            throttle=Throttle(registry, runner, on=yields),
            slots=work_slots.FairSlots(at_once),
            at_once=max(1, at_once),
            longest=longest,
        )
        self._ask = ask

    async def clean_up(self) -> None:
        """Clean up after an interrupted daemon: remove the stored lines of ended batches, and end batches whose runs
        have ended.
        """
        for batch_id in await self._database.read(batches.unfinished_cleanups):
            while await self._database.write(batches.drop, batch_id, PAGE_ROWS):
                pass
        await self.settle_deserted()

    async def settle_deserted(self) -> None:
        """End the batches whose runs were ended elsewhere, because a client may never ask for them."""
        for row in await self._database.read(batches.working):
            await self._settle(row)

    async def create(self, input_file_id: str, endpoint: str, spec: BatchSpec, caller: Principal) -> BatchRow:
        """Create a batch, and check the lines of its file in the background.

        Raises `InvalidRequest`, `NotFound`, and `TooMany` if the caller has reached the limit of batches per key.
        """
        file = await self._check(input_file_id, endpoint, caller)
        now = time.time()
        row = BatchRow(
            id=new_id("batch_"),
            owner=caller.id,
            run_id=new_id("run_"),
            status="validating",
            endpoint=endpoint,
            input_file_id=file.id,
            input_sha256=file.sha256,
            spec=spec.to_json(),
            created_at=now,
            expires_at=now + WINDOW_S,
        )
        run = new_run(KIND, row.id, {"batch": row.id}, caller.id, row.run_id)
        await self._database.write(self._scheduler.within_share(KIND, caller, batches.create), row, run)
        self._scheduler.look()
        return row

    async def check(self, input_file_id: str, endpoint: str, caller: Principal) -> CheckedLines:
        """Return the number of requests in a file and the problems found, without executing a request. Raises the same
        errors as `create`.
        """
        file = await self._check(input_file_id, endpoint, caller)
        try:
            async with self._files.open(file.sha256) as path:
                found_lines = await pools.DATASETS.run_for(
                    caller.id, lines.check, path, endpoint, self._services.longest
                )
        except FileNotFoundError as error:
            raise self._files.missing(file, param="input_file_id") from error
        return await self._services.problems(found_lines, endpoint, caller.id)

    async def _check(self, input_file_id: str, endpoint: str, caller: Principal) -> FileRow:
        if endpoint not in ENDPOINTS:
            raise InvalidRequest(
                f"'{endpoint[:80]}' does not support batches.{nearest(endpoint, ENDPOINTS)} Valid endpoints "
                f"are: {', '.join(ENDPOINTS)}.",
                param="endpoint",
            )
        try:
            file = await self._files.readable(input_file_id, caller)
        except NotFound as error:
            raise NotFound(error.message, code=error.code, param="input_file_id") from error
        if file.purpose != PURPOSE:
            raise InvalidRequest(
                f"'{file.filename}' was uploaded for '{file.purpose}'; upload it with the purpose '{PURPOSE}'.",
                code="invalid_file_purpose",
                param="input_file_id",
            )
        return file

    async def get(self, batch_id: str, caller: Principal) -> BatchRow:
        """Return a batch. Raises `NotFound`."""
        row = await self._database.read(batches.get, batch_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The batch '{batch_id[:80]}' does not exist.", code="batch_not_found", param="batch_id"
            )
        return await self._settle(row)

    async def list(
        self,
        caller: Principal,
        *,
        after: str | None = None,
        limit: int = 20,
        endpoint: str | None = None,
    ) -> RowPage[BatchRow]:
        """Return the caller's batches, newest first; only those of ``endpoint`` if it is given."""
        cursor = None if after is None else await self.get(after, caller)
        owner = None if caller.admin else caller.id
        row_page = await self._database.read(
            batches.page, owner, after=cursor, limit=limit, endpoint=endpoint
        )
        return RowPage(tuple([await self._settle(row) for row in row_page.data]), row_page.has_more)

    async def cancel(self, batch_id: str, caller: Principal) -> BatchRow:
        """Cancel a batch; the answers received so far are written to the output file. Raises `NotFound`, and
        `Conflict` if the batch has ended.
        """
        row = await self.get(batch_id, caller)
        is_moved = await self._database.write(batches.cancel, row)
        row = await self.get(batch_id, caller)
        if not is_moved and row.status != "cancelling":
            raise Conflict(
                f"The batch '{row.id}' is already {row.status}.", code="batch_ended", param="batch_id"
            )
        stop = self._stops.get(row.id)
        if stop is not None:
            stop.set()
        if row.finished_at is not None:
            await self._files.release([row.input_sha256])
        return row

    async def _settle(self, row: BatchRow) -> BatchRow:
        """Return the batch in its current state. If its run was cancelled or abandoned elsewhere, queue another run,
        which writes the result files.
        """
        if row.status not in WORKING:
            return row
        run = await self._database.read(runs.get, row.run_id)
        if run is not None and run.finished_at is None:
            return row
        if run is not None and run.status == "completed":  # between the two checks
            return await self._database.read(batches.get, row.id) or row
        errors: list[Mapping[str, Any]] = []
        if run is None or run.status != "cancelled":
            error = (run.error if run is not None else None) or {}
            words = str(error.get("message") or "The run of the batch no longer exists.")
            errors = [BatchProblem(str(error.get("code") or "run_failed"), words).to_json()]
        await self._scheduler.wait_for_end(row.run_id)
        await self._database.write(batches.requeue_run, row, errors)
        self._scheduler.look()
        return await self._database.read(batches.get, row.id) or row

    async def work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Process a batch. The scheduler calls this for each run of a batch."""
        row = await self._database.read(batches.get, str(payload["batch"]))
        if row is None:
            raise Unavailable(f"The batch '{payload['batch']}' no longer exists.", code="batch_not_found")
        stop = self._stops[row.id] = asyncio.Event()
        try:
            return await BatchWork(self._services, row, self._ask, stop, context).do()
        finally:
            if self._stops.get(row.id) is stop:
                del self._stops[row.id]
