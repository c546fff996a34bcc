"""``/api/evals``: searches over the settings of an evaluation, which OpenAI's API does not cover."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Query
from pydantic import BaseModel

from portico.schemas import evals
from portico.schemas.evals import EvalApplied, EvalPlan, EvalTrial
from portico_server.api.endpoint import Caller, new_router
from portico_server.api.shapes import Listed, Moment, shaped
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.db.evals import EvalRunRow
from portico_server.features.evals import statistics
from portico_server.features.evals.api.eval_shapes import EvalError
from portico_server.features.evals.api.evals import TheEvaluations
from portico_server.features.evals.api.evals_service import EvaluationService

router = new_router(prefix="/api/evals", tags=["Evals"])

MAX_SHOWN_SETTINGS_COUNT = 20
"""Maximum number of settings shown in a plan."""


@dataclass(frozen=True, slots=True)
class Trial(EvalTrial):
    """One combination of settings. A trial is a run of the evaluation, identified by its ``id``.

    ``status``: ``queued``, ``in_progress``, ``completed``, ``stopped`` (abandoned because other trials were better),
    ``canceled``, ``failed``. ``score`` is the mean of the objective over the number of items in ``done``; ``cost`` is
    in US dollars; ``seconds`` is the sum of the times of all items.
    """

    error: EvalError | None  # type: ignore[assignment]  # the SDK has its message


@dataclass(frozen=True, slots=True)
class EvalSearch(evals.EvalSearch):
    """A search over settings. ``trials`` are sorted by score, best first; ``best`` is the id of the best trial once
    the search has ended.

    ``spec`` is the requested search, ``items`` the number of items, ``run_id`` the durable run with the search's
    events.
    """

    created_at: Moment
    finished_at: Moment | None
    error: EvalError | None  # type: ignore[assignment]  # the SDK has its message
    trials: tuple[Trial, ...]
    object: str = "eval.search"


class TrialChoice(BaseModel, extra="forbid"):
    """The id of the trial to deploy; by default the best trial."""

    trial: str | None = None


@router.post("/{eval_id}/search", status_code=201)
async def search_settings(
    eval_id: str, body: Annotated[dict[str, Any], Body()], evaluations: TheEvaluations, caller: Caller
) -> EvalSearch | EvalPlan:
    """Try combinations of settings: ``data_source`` as in a run, and ``parameters``, which maps paths to lists of
    values. Paths are, for example, ``model``, ``sampling_params.temperature`` or ``apps.NAME.STEP.system``.
    ``dry_run`` only returns the plan of the search.
    """
    if body.get("dry_run"):
        search_cost = await evaluations.searches.plan(eval_id, body, caller)
        return EvalPlan(
            trials=len(search_cost.settings),
            items=search_cost.items,
            asked=search_cost.items_asked,
            judged=search_cost.judged,
            trained=search_cost.trained,
            settings=tuple(search_cost.settings[:MAX_SHOWN_SETTINGS_COUNT]),
        )
    row = await evaluations.searches.create(eval_id, body, caller)
    return await _search(evaluations, row)


@router.get("/{eval_id}/searches")
async def list_searches(
    eval_id: str, evaluations: TheEvaluations, caller: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Listed[EvalSearch]:
    """List the searches of an evaluation without their trials, newest first."""
    return Listed(
        data=[_to_eval_search(row, ()) for row in await evaluations.searches.list(eval_id, caller, limit)]
    )


@router.get("/{eval_id}/searches/{search_id}")
async def retrieve_search(
    eval_id: str, search_id: str, evaluations: TheEvaluations, caller: Caller
) -> EvalSearch:
    """Return a search with its trials, best first."""
    return await _retrieved(evaluations, eval_id, search_id, caller)


@router.post("/{eval_id}/searches/{search_id}/cancel")
async def cancel_search(
    eval_id: str, search_id: str, evaluations: TheEvaluations, caller: Caller
) -> EvalSearch:
    """Cancel a search; its results so far are kept."""
    return await _search(evaluations, await evaluations.searches.cancel(eval_id, search_id, caller))


@router.post("/{eval_id}/searches/{search_id}/apply")
async def apply_search(
    eval_id: str, search_id: str, choice: TrialChoice, evaluations: TheEvaluations, caller: Caller
) -> EvalApplied:
    """Deploy the best trial's changes to apps, as a new version of each app."""
    trial, versions, unchanged = await evaluations.searches.apply(eval_id, search_id, choice.trial, caller)
    return EvalApplied(trial=trial.id, versions=dict(versions), left=dict(unchanged))


async def _retrieved(
    evaluations: EvaluationService, eval_id: str, search_id: str, caller: Principal
) -> EvalSearch:
    return await _search(evaluations, await evaluations.searches.get(eval_id, search_id, caller))


async def _search(evaluations: EvaluationService, row: EvalSearchRow) -> EvalSearch:
    return _to_eval_search(row, await evaluations.searches.trials(row))


def _to_eval_search(row: EvalSearchRow, trials: Any) -> EvalSearch:
    return shaped(
        EvalSearch,
        row,
        items=row.total,
        best=row.state.get("best"),
        trials=[_trial(trial, row.spec["objective"]) for trial in trials],
    )


def _trial(row: EvalRunRow, objective: str) -> Trial:
    tally = row.tally
    mean = statistics.of(tally, objective)
    return Trial(
        id=row.id,
        settings=dict(row.settings or {}),
        status=row.status,
        score=mean.value,
        standard_error=mean.error,
        done=statistics.count(tally),
        passed=tally["pass"],
        failed=tally["fail"],
        errored=tally["error"],
        tokens=statistics.tokens(tally),
        cost=statistics.cost(tally),
        seconds=tally["seconds"],
        error=None if row.error is None else EvalError(**row.error),
    )
