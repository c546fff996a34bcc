"""Runs of evaluations: created, listed, cancelled and deleted. A durable run does the work of each run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from portico.wire import ErrorBody, Progressed
from portico_server.core.binding import binding
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, NotFound, PorticoError, Unavailable
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.work_slots import FairSlots
from portico_server.db import evals as rows
from portico_server.db import runs
from portico_server.db.evals import EvalRunRow, ItemRow, OutputRow
from portico_server.db.rows import Order, RowPage
from portico_server.features.evals import criteria, source
from portico_server.features.evals.evals import Evaluations, evaluation
from portico_server.features.evals.prepare import prepare
from portico_server.features.evals.spec import WORKING, EvalServices
from portico_server.features.evals.statistics import EMPTY
from portico_server.features.evals.work import KIND, EndedError, EvalWork
from portico_server.runs.scheduler import new_run


class EvalRuns:
    """The runs of evaluations. A run that belongs to a search is a trial."""

    def __init__(self, services: EvalServices, evals: Evaluations) -> None:
        self._services = services
        self._evals = evals
        self.slots = FairSlots(services.at_once)
        """Concurrency slots shared by all runs and trials of this daemon."""

    async def create(
        self, eval_id: str, name: str, data_source: Any, metadata: Mapping[str, str], caller: Principal
    ) -> EvalRunRow:
        """Create a run. All errors that can be found without a call are raised immediately."""
        test = await self._evals.get(eval_id, caller)
        criteria.require_rights(test.criteria, caller)
        with binding() as names:
            prepared_run = await prepare(self._services, test, data_source, caller)
            for judge in sorted(criteria.judges_of(test.criteria)):
                await self._services.registry.resolve(judge, caller)
        await self._evals.require_room(sum(item.bytes for item in prepared_run.items), caller)
        run_id = new_id("evalrun_")
        row = EvalRunRow(
            id=run_id,
            eval_id=eval_id,
            owner=caller.id,
            run_id=new_id("run_"),
            name=name or test.row.name,
            source=prepared_run.source.document,
            metadata=metadata,
            data_id=run_id,
            total=len(prepared_run.items),
            tally=EMPTY,
            created_at=time.time(),
        )
        with binding(names.known):
            run = new_run(KIND, row.id, {"eval_run": row.id}, caller.id, row.run_id)
            begin = self._services.scheduler.within_share(KIND, caller, rows.begin)
            await self._services.database.write(begin, row, prepared_run.items, run)
        self._services.scheduler.look()
        return row

    async def get(self, eval_id: str, eval_run_id: str, caller: Principal) -> EvalRunRow:
        """Return a run. Raises `NotFound`."""
        await self._evals.get(eval_id, caller)
        row = await self._services.database.read(rows.run, eval_run_id)
        if row is None or row.eval_id != eval_id:
            raise NotFound(
                f"The run '{eval_run_id[:80]}' does not exist in this evaluation.",
                code="eval_run_not_found",
                param="run_id",
            )
        return await self.settle(row)

    async def list(
        self,
        eval_id: str,
        caller: Principal,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
        statuses: Sequence[str] = (),
    ) -> RowPage[EvalRunRow]:
        """Return the runs of an evaluation, including trials."""
        await self._evals.get(eval_id, caller)
        if after is not None:
            await self.get(eval_id, after, caller)
        row_page = await self._services.database.read(
            rows.runs_of, eval_id, after=after, limit=limit, order=order, statuses=statuses
        )
        return RowPage(tuple([await self.settle(row) for row in row_page.data]), row_page.has_more)

    async def settle(self, row: EvalRunRow) -> EvalRunRow:
        """Return the run in its current state. If its durable run was cancelled or abandoned, end the run too."""
        if row.status not in WORKING or row.search_id is not None:
            return row
        end_status = await final_status(self._services, row.run_id)
        if end_status is None:
            return row
        status, error = end_status
        database = self._services.database
        await database.write(rows.move, row.id, status, since=WORKING, error=error, has_ended=True)
        return await database.read(rows.run, row.id) or row

    async def settle_deserted(self) -> None:
        """End the runs whose durable runs were ended elsewhere, because a client may never ask for them."""
        for row in await self._services.database.read(rows.working):
            await self.settle(row)

    async def cancel(self, eval_id: str, eval_run_id: str, caller: Principal) -> EvalRunRow:
        """Cancel a run; its results are kept. Raises `Conflict` if it has ended, or is a trial."""
        row = await self.get(eval_id, eval_run_id, caller)
        self._require_own(row)
        is_moved = await self._services.database.write(
            rows.move, row.id, "canceled", since=WORKING, has_ended=True
        )
        if not is_moved:
            raise Conflict(f"The run '{row.id}' is already {row.status}.", code="run_ended", param="run_id")
        await stop(self._services, row.run_id)
        return await self.get(eval_id, eval_run_id, caller)

    async def delete(self, eval_id: str, eval_run_id: str, caller: Principal) -> None:
        """Delete a run with its results; an active run is stopped."""
        row = await self.get(eval_id, eval_run_id, caller)
        self._require_own(row)
        if row.status in WORKING:
            await self.cancel(eval_id, eval_run_id, caller)
        await self._services.database.write(rows.remove_run, row.id)

    @staticmethod
    def _require_own(row: EvalRunRow) -> None:
        if row.search_id is not None:
            raise Conflict(
                f"The run '{row.id}' is a trial: cancel its search '{row.search_id}' instead.",
                code="part_of_search",
                param="run_id",
            )

    async def delete_eval(self, eval_id: str, caller: Principal) -> None:
        """Delete an evaluation with all its contents; active runs and searches are stopped."""
        await self._evals.get(eval_id, caller)
        database = self._services.database
        after: str | None = None
        behind: dict[str, None] = {}
        while True:
            row_page = await database.read(rows.runs_of, eval_id, after=after, limit=500, statuses=WORKING)
            behind.update(dict.fromkeys(row.run_id for row in row_page.data))
            if not row_page.has_more:
                break
            after = row_page.data[-1].id
        await database.write(rows.remove, eval_id)
        for run_id in behind:
            await stop(self._services, run_id)

    async def outputs(
        self,
        row: EvalRunRow,
        *,
        after: int | None = None,
        limit: int = 20,
        order: Order = "asc",
        statuses: Sequence[str] = (),
    ) -> tuple[RowPage[OutputRow], Mapping[int, ItemRow]]:
        """Return a page of the results of the items, in order, and the items, keyed by number."""
        database = self._services.database
        row_page = await database.read(
            rows.outputs, row.id, after=after, limit=limit, order=order, statuses=statuses
        )
        numbers = [output.number for output in row_page.data]
        return row_page, await database.read(rows.items_of, row.data_id, numbers)

    async def output(self, row: EvalRunRow, number: int) -> tuple[OutputRow, ItemRow]:
        """Return the result of an item, and the item. Raises `NotFound` if the item does not exist or is not
        finished.
        """
        database = self._services.database
        output_row = await database.read(rows.output, row.id, number)
        item = await database.read(rows.item, row.data_id, number)
        if output_row is None or item is None:
            raise NotFound(
                "The output item does not exist in this run.",
                code="output_item_not_found",
                param="output_item_id",
            )
        return output_row, item

    async def work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Process a run of an evaluation. The scheduler calls this."""
        database = self._services.database
        row = await database.read(rows.run, str(payload["eval_run"]))
        eval_row = None if row is None else await database.read(rows.get, row.eval_id)
        if row is None or eval_row is None:
            raise Unavailable("The evaluation no longer exists.", code="eval_not_found")
        if not await database.write(rows.move, row.id, "in_progress", since=WORKING):
            return {"eval_run": row.id, "status": row.status}

        async def report(done_count: int, total: int) -> None:
            await context.emit(Progressed("evaluate", f"{done_count} of {total}", done_count, total, "items"))

        try:
            work = EvalWork(
                self._services,
                row,
                source.read(row.source),
                evaluation(eval_row).criteria,
                context,
                self.slots,
            )
            await work.do(range(row.total), report)
        except EndedError:
            return {"eval_run": row.id, "status": "canceled"}
        except PorticoError as error:
            failure = {"code": error.code or "error", "message": error.message}
            await database.write(rows.move, row.id, "failed", since=WORKING, error=failure, has_ended=True)
            raise
        await database.write(rows.move, row.id, "completed", since=WORKING, has_ended=True)
        return {"eval_run": row.id, "status": "completed"}


async def final_status(services: EvalServices, run_id: str) -> tuple[str, Mapping[str, Any] | None] | None:
    """Return the evaluation status and error that match the outcome of a durable run; ``None`` while it is active."""
    run = await services.database.read(runs.get, run_id)
    if run is not None and run.finished_at is None:
        return None
    if run is not None and run.status == "cancelled":
        return "canceled", None
    error = dict(run.error) if run is not None and run.error else {}
    message = str(error.get("message") or "The run of this evaluation no longer exists.")
    return "failed", {"code": str(error.get("code") or "error"), "message": message}


async def stop(services: EvalServices, run_id: str) -> None:
    """End a durable run in this daemon or in the queue. If another daemon has the run, that daemon stops at its next
    write.
    """
    run = services.runner.get(run_id)
    if run is not None and not run.ended:
        await run.cancel()
        await services.scheduler.wait_for_end(run_id)
        return
    error = ErrorBody("The run was cancelled before it started.", "server_error", "cancelled")
    await services.database.write(runs.cancel_elsewhere, run_id, error.to_json()["error"])
