"""Improvements of apps: created, listed, and staged as a version of the app."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.binding import binding
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, NotFound, PorticoError, Unavailable
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.work_slots import FairSlots
from portico_server.db import eval_searches
from portico_server.db import evals as eval_rows
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.features.evals import cases, criteria
from portico_server.features.evals.evals import Evaluations, evaluation
from portico_server.features.evals.improve_work import ImproveWork
from portico_server.features.evals.prepare import prepare
from portico_server.features.evals.searches import settle
from portico_server.features.evals.spec import WORKING, EvalServices, Evaluation
from portico_server.features.evals.trials import error_document
from portico_server.features.evals.work import EndedError
from portico_server.runs.scheduler import new_run

KIND: Final = "improve"

ANSWER: Final[Mapping[str, Any]] = {
    "type": "string_check",
    "name": "answer",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
"""The criterion without an evaluation: the answer contains the expected answer."""


class Improvements:
    """The improvements of apps. Callers see only their own improvements."""

    def __init__(self, services: EvalServices, evals: Evaluations, slots: FairSlots) -> None:
        self._services = services
        self._evals = evals
        self._slots = slots

    async def create(
        self,
        app: str,
        data: Sequence[Mapping[str, Any]],
        cases_from_use: Sequence[Mapping[str, Any]],
        eval_ref: str,
        model: str,
        caller: Principal,
    ) -> EvalSearchRow:
        """Create an improvement of ``app`` with the cases ``data``, and with those ``cases_from_use`` that the criteria
        can grade and that ask another question. ``model`` is another model to try. Raises the errors that can be found
        without a call.
        """
        services = self._services
        parts = await services.variants.parts(app, caller)
        with binding() as names:
            if model:
                await services.registry.resolve(model, caller)
            test = await self._evaluation(app, eval_ref, caller)
            criteria.require_rights(test.criteria, caller)
            questions = {str(case.get("question")) for case in data}
            needed_fields = criteria.fields_of(test.criteria)
            new_cases = [
                case
                for case in cases_from_use
                if needed_fields <= set(case) and case["question"] not in questions
            ]
            # The first case of a question counts, because corrections come before bad answers.
            data = [*data, *{case["question"]: case for case in reversed(new_cases)}.values()]
            data_source = {
                "type": "completions",
                "model": app,
                "source": {"type": "file_content", "content": [{"item": dict(case)} for case in data]},
                "input_messages": {
                    "type": "template",
                    "template": [{"role": "user", "content": "{{item.question}}"}],
                },
            }
            prepared = await prepare(services, test, data_source, caller)
            cases.check_cases(prepared.items)
            for judge in sorted(criteria.judges_of(test.criteria)):
                await services.registry.resolve(judge, caller)
        await self._evals.require_room(sum(item.bytes for item in prepared.items), caller)
        row = EvalSearchRow(
            id=new_id("improvement_"),
            eval_id=test.row.id,
            owner=caller.id,
            run_id=new_id("run_"),
            name=app,
            spec={"data_source": prepared.source.document, "version": parts.version, "model": model},
            total=len(prepared.items),
            created_at=time.time(),
        )
        with binding(names.known):
            run = new_run(KIND, row.id, {"improvement": row.id}, caller.id, row.run_id)
            begin = services.scheduler.within_share(KIND, caller, eval_searches.begin_search)
            await services.database.write(begin, row, [], prepared.items, run)
        services.scheduler.look()
        return row

    async def _evaluation(self, app: str, eval_ref: str, caller: Principal) -> Evaluation:
        """Return the evaluation with this name or id. Without a name, use one that looks for the expected answer."""
        if eval_ref:
            return await self._evals.find(eval_ref, caller)
        name = f"Improvement of {app}"
        for row in await self._services.database.read(eval_rows.by_name, name, caller.id):
            if row.owner == caller.id and row.spec["testing_criteria"] == [ANSWER]:
                return evaluation(row)
        config = {"type": "custom", "item_schema": {"type": "object"}}
        return await self._evals.create(name, config, [dict(ANSWER)], {}, caller)

    async def get(self, improvement_id: str, caller: Principal) -> EvalSearchRow:
        """Return an improvement. Raises `NotFound`."""
        caller.require("chat")
        row = await self._services.database.read(eval_searches.get_search, improvement_id)
        is_improvement = row is not None and row.id.startswith(eval_searches.IMPROVEMENT_PREFIX)
        if row is None or not is_improvement or not caller.sees(row.owner):
            raise NotFound(
                f"The improvement '{improvement_id[:80]}' does not exist.",
                code="improvement_not_found",
                param="improvement_id",
            )
        return await settle(self._services, row)

    async def list(self, app: str | None, caller: Principal, limit: int) -> list[EvalSearchRow]:
        """Return the caller's improvements, newest first: of one app or of all."""
        caller.require("chat")
        owner = None if caller.admin else caller.id
        improvement_rows = await self._services.database.read(
            eval_searches.newest_improvements, app, owner, limit
        )
        return [await settle(self._services, row) for row in improvement_rows]

    async def offer(self, improvement_id: str, number: int, caller: Principal) -> Mapping[str, Any]:
        """Return a proposal that can be applied. Raises `NotFound`, and `Conflict` if it may not be applied: only a
        measured change of the current version that improves the held-back half is offered.
        """
        row = await self.get(improvement_id, caller)
        proposals = row.state.get("proposals") or []
        proposal = next((item for item in proposals if item["number"] == number), None)
        if proposal is None:
            numbers = ", ".join(str(item["number"]) for item in proposals) or "none"
            raise NotFound(
                f"The improvement has no proposal {number}; its proposals are: {numbers}.",
                code="proposal_not_found",
                param="proposal",
            )
        if not proposal["is_offered"]:
            raise Conflict(
                f"Proposal {number} cannot be applied. {proposal['reason']}",
                code="proposal_not_offered",
                param="proposal",
            )
        current = (await self._services.variants.parts(row.name, caller)).version
        if current != row.spec["version"]:
            raise Conflict(
                f"The proposal was measured on version {row.spec['version']} of '{row.name}', which is now at version "
                f"{current}. Improve the app again.",
                code="version_conflict",
                param="proposal",
            )
        return dict(proposal)

    async def stage(self, row: EvalSearchRow, proposal: Mapping[str, Any], caller: Principal) -> int:
        """Store the app with a proposal as a version that only ``NAME@NUMBER`` calls; return the version number."""
        note = f"proposal {proposal['number']} of {row.id}"
        return await self._services.variants.stage(row.name, proposal["changes"], caller, note)

    async def work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Process an improvement. The scheduler calls this."""
        database = self._services.database
        row = await database.read(eval_searches.get_search, str(payload["improvement"]))
        eval_row = None if row is None else await database.read(eval_rows.get, row.eval_id)
        if row is None or eval_row is None:
            raise Unavailable("The evaluation no longer exists.", code="eval_not_found")
        if not await database.write(eval_searches.move_search, row.id, "in_progress", since=WORKING):
            return {"improvement": row.id, "status": row.status}
        try:
            state = await ImproveWork(self._services, row, evaluation(eval_row), context, self._slots).do()
        except EndedError:
            return {"improvement": row.id, "status": "canceled"}
        except PorticoError as error:
            failure = error_document(error)
            await database.write(
                eval_searches.move_search, row.id, "failed", since=WORKING, error=failure, has_ended=True
            )
            raise
        await database.write(
            eval_searches.move_search, row.id, "completed", since=WORKING, state=state, has_ended=True
        )
        return {"improvement": row.id, "status": "completed", "part": state["part"]}
