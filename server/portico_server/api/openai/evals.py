"""``/v1/evals``: evaluations of models, apps and stores, as OpenAI defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Query

from portico_server.api.depends import Caller, TheParts
from portico_server.api.openai import evals_shapes as shapes
from portico_server.api.openai.evals_shapes import (
    EvalChange,
    EvalDeleted,
    EvalList,
    EvalObject,
    EvalRun,
    EvalRunDeleted,
    EvalRunList,
    EvalWish,
    OutputItem,
    OutputItemList,
    RunStatus,
    RunWish,
)
from portico_server.api.router import router as new_router
from portico_server.evals.spec import STOPPED
from portico_server.knowledge.contents import check_metadata

router = new_router(prefix="/v1/evals", tags=["OpenAI: evals"])

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


@router.post("", status_code=201)
async def create_eval(wish: EvalWish, parts: TheParts, caller: Caller) -> EvalObject:
    """Make an evaluation: the form of its items, and the criteria that answers are tested by."""
    metadata = check_metadata(wish.metadata)
    return shapes.evaluation(
        await parts.evals.create(wish.name, wish.data_source_config, wish.testing_criteria, metadata, caller)
    )


@router.get("")
async def list_evals(
    parts: TheParts,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> EvalList:
    """The caller's evaluations."""
    page = await parts.evals.list(
        caller, after=after, limit=limit, order=order, by_update=order_by == "updated_at"
    )
    data = [shapes.evaluation(found) for found in page.data]
    return EvalList(data=data, first_id=_first(data), last_id=_first(data[-1:]), has_more=page.has_more)


@router.get("/{eval_id}")
async def retrieve_eval(eval_id: str, parts: TheParts, caller: Caller) -> EvalObject:
    """One of them."""
    return shapes.evaluation(await parts.evals.get(eval_id, caller))


@router.post("/{eval_id}")
async def update_eval(eval_id: str, change: EvalChange, parts: TheParts, caller: Caller) -> EvalObject:
    """Give it another name or other metadata."""
    metadata = None if change.metadata is None else check_metadata(change.metadata)
    return shapes.evaluation(await parts.evals.update(eval_id, change.name, metadata, caller))


@router.delete("/{eval_id}")
async def delete_eval(eval_id: str, parts: TheParts, caller: Caller) -> EvalDeleted:
    """Forget it with its runs and searches; those at work are ended."""
    await parts.eval_runs.delete_eval(eval_id, caller)
    return EvalDeleted(eval_id=eval_id)


@router.post("/{eval_id}/runs", status_code=201)
async def create_eval_run(eval_id: str, wish: RunWish, parts: TheParts, caller: Caller) -> EvalRun:
    """Begin a run. What is wrong with its items, names or templates is told before anything is asked."""
    metadata = check_metadata(wish.metadata)
    row = await parts.eval_runs.create(eval_id, wish.name, wish.data_source, metadata, caller)
    return shapes.run(row, parts.url)


@router.get("/{eval_id}/runs")
async def list_eval_runs(
    eval_id: str,
    parts: TheParts,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> EvalRunList:
    """The runs of an evaluation, the trials of searches among them."""
    statuses = () if status is None else ("canceled", STOPPED) if status == "canceled" else (status,)
    page = await parts.eval_runs.list(
        eval_id, caller, after=after, limit=limit, order=order, statuses=statuses
    )
    data = [shapes.run(row, parts.url) for row in page.data]
    return EvalRunList(data=data, first_id=_first(data), last_id=_first(data[-1:]), has_more=page.has_more)


@router.get("/{eval_id}/runs/{run_id}")
async def retrieve_eval_run(eval_id: str, run_id: str, parts: TheParts, caller: Caller) -> EvalRun:
    """One run, with what it has come to so far."""
    return shapes.run(await parts.eval_runs.get(eval_id, run_id, caller), parts.url)


@router.post("/{eval_id}/runs/{run_id}", include_in_schema=False)
@router.post("/{eval_id}/runs/{run_id}/cancel")
async def cancel_eval_run(eval_id: str, run_id: str, parts: TheParts, caller: Caller) -> EvalRun:
    """End a run; what is done of it stays. Older clients leave out ``/cancel``."""
    return shapes.run(await parts.eval_runs.cancel(eval_id, run_id, caller), parts.url)


@router.delete("/{eval_id}/runs/{run_id}")
async def delete_eval_run(eval_id: str, run_id: str, parts: TheParts, caller: Caller) -> EvalRunDeleted:
    """Forget a run with what came of it."""
    await parts.eval_runs.delete(eval_id, run_id, caller)
    return EvalRunDeleted(run_id=run_id)


@router.get("/{eval_id}/runs/{run_id}/output_items")
async def list_eval_run_output_items(
    eval_id: str,
    run_id: str,
    parts: TheParts,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Literal["pass", "fail", "error"] | None = None,
) -> OutputItemList:
    """What became of the items that are done."""
    row = await parts.eval_runs.get(eval_id, run_id, caller)
    behind = None if after is None else shapes.number_of(after, row)
    page, items = await parts.eval_runs.outputs(
        row, after=behind, limit=limit, order=order, statuses=() if status is None else (status,)
    )
    data = [shapes.output(found, items[found.number], row) for found in page.data]
    return OutputItemList(data=data, first_id=_first(data), last_id=_first(data[-1:]), has_more=page.has_more)


@router.get("/{eval_id}/runs/{run_id}/output_items/{output_item_id}")
async def retrieve_eval_run_output_item(
    eval_id: str, run_id: str, output_item_id: str, parts: TheParts, caller: Caller
) -> OutputItem:
    """What became of one item."""
    row = await parts.eval_runs.get(eval_id, run_id, caller)
    found, item = await parts.eval_runs.output(row, shapes.number_of(output_item_id, row))
    return shapes.output(found, item, row)


def _first(data: Sequence[EvalObject | EvalRun | OutputItem]) -> str | None:
    return data[0].id if data else None
