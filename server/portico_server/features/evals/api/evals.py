"""``/v1/evals``: evaluations of models, apps and stores, in OpenAI's format."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from portico_server.api.endpoint import Caller, TheServices, feature_service, new_router
from portico_server.api.shapes import Page
from portico_server.core.attributes import check_metadata
from portico_server.features.evals.api.eval_shapes import (
    EvalChange,
    EvalDeleted,
    EvalObject,
    EvalRequest,
    EvalRun,
    EvalRunDeleted,
    EvalRunRequest,
    OutputItem,
    RunStatus,
    evaluation,
    number_of,
    output,
    run,
)
from portico_server.features.evals.api.evals_service import EvaluationService
from portico_server.features.evals.spec import STOPPED

router = new_router(prefix="/v1/evals", tags=["OpenAI: evals"])

TheEvaluations = Annotated[EvaluationService, feature_service("evals", EvaluationService)]
"""The evaluations of the daemon."""

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


@router.post("", status_code=201)
async def create_eval(body: EvalRequest, evaluations: TheEvaluations, caller: Caller) -> EvalObject:
    """Create an evaluation from the schema of its items and the criteria for the answers."""
    metadata = check_metadata(body.metadata)
    return evaluation(
        await evaluations.evals.create(
            body.name, body.data_source_config, body.testing_criteria, metadata, caller
        )
    )


@router.get("")
async def list_evals(
    evaluations: TheEvaluations,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> Page[EvalObject]:
    """Return the caller's evaluations."""
    page = await evaluations.evals.list(
        caller, after=after, limit=limit, order=order, by_update=order_by == "updated_at"
    )
    data = [evaluation(found_evaluation) for found_evaluation in page.data]
    return Page.of(data, page.has_more)


@router.get("/{eval_id}")
async def retrieve_eval(eval_id: str, evaluations: TheEvaluations, caller: Caller) -> EvalObject:
    """Return one evaluation."""
    return evaluation(await evaluations.evals.get(eval_id, caller))


@router.post("/{eval_id}")
async def update_eval(
    eval_id: str, change: EvalChange, evaluations: TheEvaluations, caller: Caller
) -> EvalObject:
    """Change the name or the metadata of an evaluation."""
    metadata = None if change.metadata is None else check_metadata(change.metadata)
    return evaluation(await evaluations.evals.update(eval_id, change.name, metadata, caller))


@router.delete("/{eval_id}")
async def delete_eval(eval_id: str, evaluations: TheEvaluations, caller: Caller) -> EvalDeleted:
    """Delete an evaluation with its runs and searches. Runs and searches in progress are cancelled."""
    await evaluations.runs.delete_eval(eval_id, caller)
    return EvalDeleted(eval_id=eval_id)


@router.post("/{eval_id}/runs", status_code=201)
async def create_eval_run(
    eval_id: str, body: EvalRunRequest, services: TheServices, evaluations: TheEvaluations, caller: Caller
) -> EvalRun:
    """Start a run. Errors in its items, names or templates are reported before any request is sent."""
    metadata = check_metadata(body.metadata)
    row = await evaluations.runs.create(eval_id, body.name, body.data_source, metadata, caller)
    return run(row, services.url)


@router.get("/{eval_id}/runs")
async def list_eval_runs(
    eval_id: str,
    services: TheServices,
    evaluations: TheEvaluations,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> Page[EvalRun]:
    """Return the runs of an evaluation, including the trials of searches."""
    statuses = () if status is None else ("canceled", STOPPED) if status == "canceled" else (status,)
    page = await evaluations.runs.list(
        eval_id, caller, after=after, limit=limit, order=order, statuses=statuses
    )
    data = [run(row, services.url) for row in page.data]
    return Page.of(data, page.has_more)


@router.get("/{eval_id}/runs/{run_id}")
async def retrieve_eval_run(
    eval_id: str, run_id: str, services: TheServices, evaluations: TheEvaluations, caller: Caller
) -> EvalRun:
    """Return one run of an evaluation, with its results so far."""
    return run(await evaluations.runs.get(eval_id, run_id, caller), services.url)


@router.post("/{eval_id}/runs/{run_id}", include_in_schema=False)
@router.post("/{eval_id}/runs/{run_id}/cancel")
async def cancel_eval_run(
    eval_id: str, run_id: str, services: TheServices, evaluations: TheEvaluations, caller: Caller
) -> EvalRun:
    """Cancel a run of an evaluation; its results so far are kept. Older clients omit ``/cancel``."""
    return run(await evaluations.runs.cancel(eval_id, run_id, caller), services.url)


@router.delete("/{eval_id}/runs/{run_id}")
async def delete_eval_run(
    eval_id: str, run_id: str, evaluations: TheEvaluations, caller: Caller
) -> EvalRunDeleted:
    """Delete a run of an evaluation with its results."""
    await evaluations.runs.delete(eval_id, run_id, caller)
    return EvalRunDeleted(run_id=run_id)


@router.get("/{eval_id}/runs/{run_id}/output_items")
async def list_eval_run_output_items(
    eval_id: str,
    run_id: str,
    evaluations: TheEvaluations,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Literal["pass", "fail", "error"] | None = None,
) -> Page[OutputItem]:
    """Return the results of the finished items."""
    row = await evaluations.runs.get(eval_id, run_id, caller)
    behind = None if after is None else number_of(after, row)
    page, items = await evaluations.runs.outputs(
        row, after=behind, limit=limit, order=order, statuses=() if status is None else (status,)
    )
    data = [output(output_row, items[output_row.number], row) for output_row in page.data]
    return Page.of(data, page.has_more)


@router.get("/{eval_id}/runs/{run_id}/output_items/{output_item_id}")
async def retrieve_eval_run_output_item(
    eval_id: str, run_id: str, output_item_id: str, evaluations: TheEvaluations, caller: Caller
) -> OutputItem:
    """Return the result of one item."""
    row = await evaluations.runs.get(eval_id, run_id, caller)
    output_row, item = await evaluations.runs.output(row, number_of(output_item_id, row))
    return output(output_row, item, row)
