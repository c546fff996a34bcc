"""Batches: created, found, cancelled. Each is a durable run that does the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from portico.schemas.batches import BatchProblem
from portico_server.batches import lines
from portico_server.batches.spec import (
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
from portico_server.batches.work import BatchServices, BatchWork
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
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler, new_run
from portico_server.runs.throttle import Throttle

MAX_RUNNING_BATCHES: Final = 8
"""Batches that are worked on at a time; they share the requests that are asked at a time."""

PAGE_ROWS: Final = 500
"""Lines that are removed at once."""


class BatchService:
    """``at_once``: requests that this daemon asks at a time for all batches; ``longest``: bytes of one request;
    ``yields``: whether they stand back while somebody waits for an answer.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        files: BatchFiles,
        *,
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
        self.ask: AnswerLine | None = None
        """The gateway for a request; put in by the composition root, which knows the protocol adapters."""
        scheduler.handle(KIND, self._work, concurrency=MAX_RUNNING_BATCHES, bound=True)

    async def start(self) -> None:
        """Clear up behind a daemon that was cut off: lines of batches that have ended, batches whose runs have."""
        for batch_id in await self._database.read(batches.ended):
            while await self._database.write(batches.drop, batch_id, PAGE_ROWS):
                pass
        await self.settle_deserted()

    async def settle_deserted(self) -> None:
        """Let those end whose runs were ended by others: nobody may ask for them."""
        for row in await self._database.read(batches.working):
            await self._settled(row)

    async def create(self, input_file_id: str, endpoint: str, spec: BatchSpec, caller: Principal) -> BatchRow:
        """Begin a batch. The lines of its file are checked in the background. Raises `InvalidRequest`, `NotFound`, and
        `TooMany` if the caller has as many as a key may have.
        """
        file = await self._checked(input_file_id, endpoint, caller)
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
        """What is in a file, and what is wrong with it, without asking anything. Raises as `create`."""
        file = await self._checked(input_file_id, endpoint, caller)
        try:
            async with self._files.open(file.sha256) as path:
                found_lines = await pools.DATASETS.run_for(
                    caller.id, lines.check, path, endpoint, self._services.longest
                )
        except FileNotFoundError as error:
            raise self._files.missing(file, param="input_file_id") from error
        return await self._services.problems(found_lines, endpoint, caller.id)

    async def _checked(self, input_file_id: str, endpoint: str, caller: Principal) -> FileRow:
        if endpoint not in ENDPOINTS:
            raise InvalidRequest(
                f"There are no batches for '{endpoint[:80]}'.{nearest(endpoint, ENDPOINTS)} Endpoints are: "
                f"{', '.join(ENDPOINTS)}.",
                param="endpoint",
            )
        try:
            file = await self._files.get(input_file_id, caller)
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
        """One batch. Raises `NotFound`."""
        row = await self._database.read(batches.get, batch_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(f"There is no batch '{batch_id[:80]}'.", code="batch_not_found", param="batch_id")
        return await self._settled(row)

    async def list(
        self, caller: Principal, *, after: str | None = None, limit: int = 20
    ) -> RowPage[BatchRow]:
        """The caller's batches, the newest first."""
        cursor = None if after is None else await self.get(after, caller)
        owner = None if caller.admin else caller.id
        row_page = await self._database.read(batches.page, owner, after=cursor, limit=limit)
        return RowPage(tuple([await self._settled(row) for row in row_page.data]), row_page.has_more)

    async def cancel(self, batch_id: str, caller: Principal) -> BatchRow:
        """Stop asking; what is done by then gets its file. Raises `NotFound`, and `Conflict` if it has ended."""
        row = await self.get(batch_id, caller)
        is_moved = await self._database.write(batches.cancel, row)
        row = await self.get(batch_id, caller)
        if not is_moved and row.status != "cancelling":
            raise Conflict(
                f"The batch '{row.id}' is {row.status} already.", code="batch_ended", param="batch_id"
            )
        stop = self._stops.get(row.id)
        if stop is not None:
            stop.set()
        if row.finished_at is not None:
            await self._files.release([row.input_sha256])
        return row

    async def _settled(self, row: BatchRow) -> BatchRow:
        """The batch. If its run was ended behind its back, cancelled or given up, another one lays down the files."""
        if row.status not in WORKING:
            return row
        run = await self._database.read(runs.get, row.run_id)
        if run is not None and run.finished_at is None:
            return row
        if run is not None and run.status == "completed":  # between our two looks
            return await self._database.read(batches.get, row.id) or row
        errors: list[Mapping[str, Any]] = []
        if run is None or run.status != "cancelled":
            error = (run.error if run is not None else None) or {}
            words = str(error.get("message") or "The run that did the work is gone.")
            errors = [BatchProblem(str(error.get("code") or "run_failed"), words).to_json()]
        await self._scheduler.settled(row.run_id)
        await self._database.write(batches.requeue_run, row, errors)
        self._scheduler.look()
        return await self._database.read(batches.get, row.id) or row

    async def _work(self, payload: Mapping[str, Any], context: Context) -> Any:
        row = await self._database.read(batches.get, str(payload["batch"]))
        if row is None or self.ask is None:
            raise Unavailable(f"The batch '{payload['batch']}' is gone.", code="batch_not_found")
        stop = self._stops[row.id] = asyncio.Event()
        try:
            return await BatchWork(self._services, row, self.ask, stop, context).do()
        finally:
            if self._stops.get(row.id) is stop:
                del self._stops[row.id]
