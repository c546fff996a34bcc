"""Searches for the best settings: each trial is a run of the evaluation, and the best trial can be deployed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from portico_server.core.binding import binding
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PorticoError,
    Unavailable,
    nearest,
)
from portico_server.core.ids import is_id, new_id
from portico_server.core.invalid import not_one_of, wrong, wrong_type
from portico_server.core.principal import Principal
from portico_server.core.work_slots import FairSlots
from portico_server.db import eval_searches
from portico_server.db import evals as eval_rows
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.db.evals import EvalRunRow
from portico_server.features.evals import axes, criteria, run_items
from portico_server.features.evals.axes import Settings
from portico_server.features.evals.evals import Evaluations, evaluation
from portico_server.features.evals.prepare import PARAM, prepare
from portico_server.features.evals.runs import final_status, stop
from portico_server.features.evals.search_work import SearchWork
from portico_server.features.evals.source import FIELDS as TYPES
from portico_server.features.evals.spec import WORKING, EvalServices, Evaluation
from portico_server.features.evals.statistics import EMPTY
from portico_server.features.evals.trial_changes import APPS, INTO, TUNING, of_apps, of_training, overridden
from portico_server.features.evals.trials import Trials, error_document, rank_trials
from portico_server.features.evals.work import EndedError
from portico_server.runs.scheduler import new_run

KIND: Final = "eval_search"

MAX_NAME_CHARS: Final = 300

FIELDS: Final = (
    *("name", "data_source", "parameters", "method", "trials", "seed", "objective", "direction", "halving"),
    *("fine_tuning", "dry_run"),
)


@dataclass(frozen=True, slots=True)
class SearchCost:
    """The cost of a search: the number of trials, items, items processed in all rounds, judge calls, and training
    jobs.
    """

    settings: tuple[Settings, ...]
    items: int
    items_asked: int
    judged: int
    trained: int = 0


@dataclass(frozen=True, slots=True)
class _SearchRequest:
    """A checked search request."""

    spec: Mapping[str, Any]
    settings: list[Settings]
    prepared: Any
    sources: list[Mapping[str, Any]]
    plan: SearchCost


class EvalSearches:
    """The searches of evaluations."""

    def __init__(self, services: EvalServices, evals: Evaluations, slots: FairSlots) -> None:
        self._services = services
        self._evals = evals
        self._slots = slots

    async def plan(self, eval_id: str, document: Mapping[str, Any], caller: Principal) -> SearchCost:
        """Check a search completely and return its cost. Raises the same errors as `create`."""
        return (await self._check(await self._evals.get(eval_id, caller), document, caller)).plan

    async def create(self, eval_id: str, document: Mapping[str, Any], caller: Principal) -> EvalSearchRow:
        """Create a search. All errors that can be found without a call are raised immediately."""
        test = await self._evals.get(eval_id, caller)
        criteria.require_rights(test.criteria, caller)
        with binding() as names:
            search = await self._check(test, document, caller)
            for judge in sorted(criteria.judges_of(test.criteria)):
                await self._services.registry.resolve(judge, caller)
        now = time.time()
        row = EvalSearchRow(
            id=new_id("evalsearch_"),
            eval_id=eval_id,
            owner=caller.id,
            run_id=new_id("run_"),
            name=str(document.get("name") or test.row.name),
            spec=search.spec,
            total=search.plan.items,
            created_at=now,
        )
        run_rows = [
            EvalRunRow(
                id=new_id("evalrun_"),
                eval_id=eval_id,
                owner=caller.id,
                run_id=row.run_id,
                search_id=row.id,
                name=f"{row.name} {number}",
                source=source,
                settings=settings,
                data_id=row.id,
                total=row.total,
                tally=EMPTY,
                created_at=now,
            )
            for number, (settings, source) in enumerate(zip(search.settings, search.sources, strict=True), 1)
        ]
        # Ids begin with the time and end with random digits, so they must be sorted to match the order of the
        # trials.
        ids = sorted(trial.id for trial in run_rows)
        run_rows = [replace(trial, id=trial_id) for trial, trial_id in zip(run_rows, ids, strict=True)]
        await self._evals.require_room(sum(item.bytes for item in search.prepared.items), caller)
        with binding(names.known):
            run = new_run(KIND, row.id, {"search": row.id}, caller.id, row.run_id)
            begin = self._services.scheduler.within_share(KIND, caller, eval_searches.begin_search)
            await self._services.database.write(begin, row, run_rows, search.prepared.items, run)
        self._services.scheduler.look()
        return row

    async def _check(
        self, test: Evaluation, given_document: Mapping[str, Any], caller: Principal
    ) -> _SearchRequest:
        for name in given_document:
            if name not in FIELDS:
                raise InvalidRequest(
                    f"A search has no field '{str(name)[:80]}'.{nearest(str(name), FIELDS)}",
                    code="unknown_field",
                    param=str(name),
                )
        name = given_document.get("name", "")
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARS:
            wrong("name", f"must be a string of at most {MAX_NAME_CHARS} characters")
        found_axes = axes.read(given_document)
        objective, direction = (
            given_document.get("objective") or "score",
            given_document.get("direction") or "maximize",
        )
        objectives = ["score", "pass_rate", *(criterion.name for criterion in test.criteria)]
        if objective not in objectives:
            not_one_of("objective", objective, objectives)
        if direction not in ("maximize", "minimize"):
            not_one_of("direction", direction, ("maximize", "minimize"))
        settings = found_axes.settings()
        base = given_document.get("data_source")
        tuning = given_document.get("fine_tuning")
        if tuning is not None and not isinstance(tuning, Mapping):
            wrong_type("fine_tuning", "the settings of a fine-tuning job", tuning)
        first = _first(base, tuning, settings[0])
        prepared_run = await prepare(self._services, test, first, caller)
        if prepared_run.source.kind == "jsonl":
            raise InvalidRequest(
                "No setting can change existing answers: a search needs a data source of the type "
                "'completions', 'responses' or 'retrieval'.",
                param=f"{PARAM}.type",
            )
        assert isinstance(base, Mapping)
        document = {**base, "source": prepared_run.source.document["source"]}
        making = Trials(self._services, document, tuning, caller)
        trials = [await making.make(setting) for setting in settings]
        fields: frozenset[str] = frozenset().union(*(trial.source.fields for trial in trials))
        run_items.need(fields, prepared_run.items, "parameters")
        total = len(prepared_run.items)
        halving = axes.read_halving(given_document.get("halving"), total)
        calls = axes.items_asked(axes.rounds(len(trials), total, halving))
        judged_calls = calls * criteria.judgements(test.criteria)
        trained_count = len({trial.key for trial in trials if trial.training is not None})
        plan = SearchCost(tuple(settings), total, calls, judged_calls, trained_count)
        spec = {
            "data_source": document,
            "parameters": dict(given_document["parameters"]),
            "fine_tuning": tuning,
            "method": found_axes.method,
            "trials": len(trials),
            "seed": found_axes.seed,
            "objective": objective,
            "direction": direction,
            "halving": None if halving is None else {"first": halving.first, "factor": halving.factor},
        }
        return _SearchRequest(spec, settings, prepared_run, [trial.source.document for trial in trials], plan)

    async def get(self, eval_id: str, search_id: str, caller: Principal) -> EvalSearchRow:
        """Return a search. Raises `NotFound`."""
        await self._evals.get(eval_id, caller)
        row = await self._services.database.read(eval_searches.get_search, search_id)
        if row is None or row.eval_id != eval_id or not is_id(row.id, "evalsearch_"):
            raise NotFound(
                f"The search '{search_id[:80]}' does not exist in this evaluation.",
                code="search_not_found",
                param="search_id",
            )
        return await settle(self._services, row)

    async def list(self, eval_id: str, caller: Principal, limit: int = 20) -> list[EvalSearchRow]:
        """Return the searches of an evaluation, newest first."""
        await self._evals.get(eval_id, caller)
        search_rows = await self._services.database.read(eval_searches.newest_searches, eval_id, limit)
        return [await settle(self._services, row) for row in search_rows]

    async def trials(self, row: EvalSearchRow) -> Sequence[EvalRunRow]:
        """Return the trials of a search, best first."""
        run_rows = await self._services.database.read(eval_searches.trials, row.id)
        return rank_trials(run_rows, row.spec["objective"], row.spec["direction"])

    async def cancel(self, eval_id: str, search_id: str, caller: Principal) -> EvalSearchRow:
        """Cancel a search; its results are kept. Raises `Conflict` if it has ended."""
        row = await self.get(eval_id, search_id, caller)
        is_moved = await self._services.database.write(
            eval_searches.move_search, row.id, "canceled", since=WORKING, has_ended=True
        )
        if not is_moved:
            raise Conflict(
                f"The search '{row.id}' is already {row.status}.", code="search_ended", param="search_id"
            )
        await stop(self._services, row.run_id)
        if row.spec.get("fine_tuning"):
            trainer = await self._services.find_trainer()
            await trainer.stop(row.id, caller)
        return await self.get(eval_id, search_id, caller)

    async def apply(
        self, eval_id: str, search_id: str, trial_id: str | None, caller: Principal
    ) -> tuple[EvalRunRow, Mapping[str, int], Settings]:
        """Deploy the changes that a trial (by default the best) makes to apps.

        Returns the trial, the new version numbers by app, and the settings that belong to no app, which must be sent
        with each call. Raises `Conflict` if nothing can be deployed.
        """
        row = await self.get(eval_id, search_id, caller)
        run_rows = await self.trials(row)
        if trial_id is None and row.status != "completed":
            raise Conflict(
                f"The search '{row.id}' is {row.status}: it has no best trial yet. Name the trial in 'trial'.",
                code="search_not_ended",
                param="search_id",
            )
        run_row = next((trial_row for trial_row in run_rows if trial_id in (None, trial_row.id)), None)
        if (
            run_row is None
            or run_row.settings is None
            or (trial_id is None and run_row.status != "completed")
        ):
            raise NotFound(
                f"The search '{row.id}' does not have this trial.", code="trial_not_found", param="trial"
            )
        changes = of_apps(run_row.settings, self._services.variants.names(caller))
        unapplied = {path: value for path, value in run_row.settings.items() if not path.startswith(APPS)}
        if row.spec.get("fine_tuning"):
            into = str(row.spec["fine_tuning"].get(INTO) or "model")
            model = run_row.metadata.get("model")
            unapplied = {path: value for path, value in unapplied.items() if not path.startswith(TUNING)}
            if into.startswith(APPS):
                changes = of_apps({**run_row.settings, into: model}, self._services.variants.names(caller))
            else:
                unapplied[into] = model
        if not changes:
            setting_list = ", ".join(f"{path} = {value!r}" for path, value in unapplied.items())
            raise Conflict(
                "None of these settings can be deployed, because no app has them. Send them with each call: "
                f"{setting_list}.",
                code="nothing_to_deploy",
                param="trial",
            )
        versions: dict[str, int] = {}
        for name, changed_spec in changes.items():
            note = f"best of {row.id}"
            versions[name] = await self._services.variants.settle(name, changed_spec, caller, note)
        return run_row, versions, unapplied

    async def work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Process a search. The scheduler calls this."""
        database = self._services.database
        row = await database.read(eval_searches.get_search, str(payload["search"]))
        eval_row = None if row is None else await database.read(eval_rows.get, row.eval_id)
        if row is None or eval_row is None:
            raise Unavailable("The evaluation no longer exists.", code="eval_not_found")
        if not await database.write(eval_searches.move_search, row.id, "in_progress", since=WORKING):
            return {"search": row.id, "status": row.status}
        try:
            best = await SearchWork(self._services, row, evaluation(eval_row), context, self._slots).do()
        except EndedError:
            return {"search": row.id, "status": "canceled"}
        except PorticoError as error:
            await database.write(
                eval_searches.move_search,
                row.id,
                "failed",
                since=WORKING,
                error=error_document(error),
                has_ended=True,
            )
            raise
        state = {"best": best}
        await database.write(
            eval_searches.move_search, row.id, "completed", since=WORKING, state=state, has_ended=True
        )
        return {"search": row.id, "status": "completed", **state}


async def settle(services: EvalServices, row: EvalSearchRow) -> EvalSearchRow:
    """Return the search in its current state. If its durable run was cancelled or abandoned, end the search too."""
    if row.status not in WORKING:
        return row
    end_status = await final_status(services, row.run_id)
    if end_status is None:
        return row
    status, error = end_status
    await services.database.write(
        eval_searches.move_search, row.id, status, since=WORKING, error=error, has_ended=True
    )
    return await services.database.read(eval_searches.get_search, row.id) or row


def _first(base: Any, tuning: Mapping[str, Any] | None, settings: Settings) -> Any:
    """Return the data source of the first trial, because a setting may supply a field that is missing in the request,
    such as the model.
    """
    if not isinstance(base, Mapping) or base.get("type") not in TYPES:
        return base  # the parser reports the error
    if tuning is not None and not str(tuning.get(INTO) or "model").startswith(APPS):
        model = of_training(tuning, settings).get("model")
        settings = {**settings, str(tuning.get(INTO) or "model"): model}
    return overridden(base, settings)
