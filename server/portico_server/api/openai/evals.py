"""``/v1/evals``: evaluations of models, apps and stores, as OpenAI defines them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Moment, Page, shaped
from portico_server.core.errors import NotFound
from portico_server.db.evals import EvalRunRow, ItemRow, OutputRow
from portico_server.evals import statistics
from portico_server.evals.spec import STOPPED, Evaluation
from portico_server.knowledge.contents import check_metadata

# Evaluations, their runs and output items in OpenAI's words.
#
# https://platform.openai.com/docs/api-reference/evals


RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]

_ITEM: Final = re.compile(r"outputitem_([0-9a-f]+)_(\d{1,9})")


class EvalRequest(BaseModel):
    """An evaluation to be made. What belongs into its parts is checked by its own errors."""

    name: str = Field("", max_length=300)
    data_source_config: dict[str, Any]
    testing_criteria: list[Any]
    metadata: dict[str, Any] | None = None


class EvalChange(BaseModel):
    """Another name, or other metadata."""

    name: str | None = Field(None, max_length=300)
    metadata: dict[str, Any] | None = None


class EvalRunRequest(BaseModel):
    """A run to start."""

    name: str = Field("", max_length=300)
    data_source: dict[str, Any]
    metadata: dict[str, Any] | None = None


class EvalObject(BaseModel):
    """What is tested: the form of the items, and the graders."""

    object: Literal["eval"] = "eval"
    id: str
    name: str
    created_at: int
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str]


class EvalDeleted(BaseModel):
    """What was removed."""

    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: bool = True
    eval_id: str


class EvalError(BaseModel):
    """What went wrong."""

    code: str
    message: str


class ModelUsage(BaseModel):
    """What one model was asked. ``cost`` in US dollars, null where no price is known; ours."""

    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    cost: float | None


class CriterionResult(BaseModel):
    """How many items a criterion passed. ``mean`` and ``standard_error`` of its scores are ours."""

    testing_criteria: str
    passed: int
    failed: int
    mean: float | None
    standard_error: float | None


class EvalCounts(BaseModel):
    """Items that are done, by how they did."""

    total: int
    passed: int
    failed: int
    errored: int


class EvalRun(BaseModel):
    """A run. ``items``, ``run_id`` (the durable run with its events), ``search_id`` and ``settings`` (of a trial),
    ``score`` with ``standard_error``, ``cost`` and ``seconds`` (of all items, one after another) are ours.
    """

    object: Literal["eval.run"] = "eval.run"
    id: str
    eval_id: str
    name: str
    status: RunStatus
    model: str
    created_at: Moment
    finished_at: Moment | None
    data_source: dict[str, Any]
    error: EvalError | None
    metadata: dict[str, str]
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionResult]
    report_url: str
    result_counts: EvalCounts
    items: int
    run_id: str
    search_id: str | None
    settings: dict[str, Any] | None
    score: float | None
    standard_error: float | None
    cost: float | None
    seconds: float


class EvalRunDeleted(BaseModel):
    """What was removed."""

    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: bool = True
    run_id: str


class OutputItem(BaseModel):
    """What became of one item: what was asked and answered, and what each criterion gave it. ``score`` and ``seconds``
    are ours.
    """

    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    id: str
    eval_id: str
    run_id: str
    created_at: int
    status: Literal["pass", "fail", "error"]
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]
    score: float
    seconds: float


def evaluation(found: Evaluation) -> EvalObject:
    """An evaluation as it is answered: the schema in OpenAI's form, with the sample in it if it was asked for."""
    row = found.row
    config = row.spec["data_source_config"]
    properties: dict[str, Any] = {"item": dict(config["item_schema"])}
    if config.get("include_sample_schema"):
        properties["sample"] = {
            "type": "object",
            "properties": {"output_text": {"type": "string"}, "output_json": {}, "output_tools": {}},
            "required": ["output_text"],
        }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return EvalObject(
        id=row.id,
        name=row.name,
        created_at=int(row.created_at),
        data_source_config={"type": "custom", "schema": schema},
        testing_criteria=[dict(one.grader) for one in found.criteria],
        metadata=dict(row.metadata),
    )


def run(row: EvalRunRow, url: str) -> EvalRun:
    """A run as it is answered; ``url`` is the daemon's address."""
    done = row.tally
    mean = statistics.of(done, "score")
    return shaped(
        EvalRun,
        row,
        status="canceled" if row.status == STOPPED else row.status,
        model=row.target,
        data_source=dict(row.source),
        per_model_usage=[
            ModelUsage(
                model_name=name,
                invocation_count=used["calls"],
                prompt_tokens=used["prompt"],
                completion_tokens=used["completion"],
                cached_tokens=used["cached"],
                total_tokens=used["prompt"] + used["completion"],
                cost=used["cost"],
            )
            for name, used in (done.get("models") or {}).items()
        ],
        per_testing_criteria_results=[
            _criterion(name, one) for name, one in (done.get("criteria") or {}).items()
        ],
        report_url=f"{url}/v1/evals/{row.eval_id}/runs/{row.id}/output_items",
        result_counts=EvalCounts(
            total=statistics.count(done), passed=done["pass"], failed=done["fail"], errored=done["error"]
        ),
        items=row.total,
        score=mean.value,
        standard_error=mean.error,
        cost=statistics.cost(done),
        seconds=done["seconds"],
    )


def _criterion(name: str, found: Mapping[str, Any]) -> CriterionResult:
    mean = statistics.mean(found["score"])
    return CriterionResult(
        testing_criteria=name,
        passed=found["pass"],
        failed=found["fail"],
        mean=mean.value,
        standard_error=mean.error,
    )


def output(found: OutputRow, item: ItemRow, row: EvalRunRow) -> OutputItem:
    """What became of one item as it is answered."""
    options = row.source.get("sampling_params") or {}
    sample = {
        "error": None,
        "finish_reason": "stop",
        "model": row.target,
        **{name: options.get(name) for name in ("max_completion_tokens", "temperature", "top_p", "seed")},
        **found.sample,
    }
    sample.setdefault("usage", None)
    return OutputItem(
        id=f"outputitem_{row.id.rpartition('_')[2]}_{found.number}",
        eval_id=row.eval_id,
        run_id=row.id,
        created_at=int(found.created_at),
        status=found.status,
        datasource_item_id=found.number,
        datasource_item=dict(item.item),
        results=[dict(result) for result in found.results],
        sample=sample,
        score=found.score,
        seconds=found.seconds,
    )


def number_of(output_item_id: str, row: EvalRunRow) -> int:
    """The number of an item, by the id of what became of it. Raises `NotFound` for that of another run."""
    found = _ITEM.fullmatch(output_item_id)
    if found is None or found[1] != row.id.rpartition("_")[2]:
        raise NotFound(
            f"The run '{row.id}' has no output item '{output_item_id[:80]}'.",
            code="output_item_not_found",
            param="output_item_id",
        )
    return int(found[2])


router = new_router(prefix="/v1/evals", tags=["OpenAI: evals"])

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


@router.post("", status_code=201)
async def create_eval(body: EvalRequest, services: TheServices, caller: Caller) -> EvalObject:
    """Create an evaluation: the form of its items, and the criteria that answers are tested by."""
    metadata = check_metadata(body.metadata)
    return evaluation(
        await services.evals.create(
            body.name, body.data_source_config, body.testing_criteria, metadata, caller
        )
    )


@router.get("")
async def list_evals(
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> Page[EvalObject]:
    """Return the caller's evaluations."""
    page = await services.evals.list(
        caller, after=after, limit=limit, order=order, by_update=order_by == "updated_at"
    )
    data = [evaluation(found) for found in page.data]
    return Page.of(data, page.has_more)


@router.get("/{eval_id}")
async def retrieve_eval(eval_id: str, services: TheServices, caller: Caller) -> EvalObject:
    """Return one evaluation."""
    return evaluation(await services.evals.get(eval_id, caller))


@router.post("/{eval_id}")
async def update_eval(eval_id: str, change: EvalChange, services: TheServices, caller: Caller) -> EvalObject:
    """Change the name or the metadata of an evaluation."""
    metadata = None if change.metadata is None else check_metadata(change.metadata)
    return evaluation(await services.evals.update(eval_id, change.name, metadata, caller))


@router.delete("/{eval_id}")
async def delete_eval(eval_id: str, services: TheServices, caller: Caller) -> EvalDeleted:
    """Delete an evaluation with its runs and searches. Those in progress are cancelled."""
    await services.eval_runs.delete_eval(eval_id, caller)
    return EvalDeleted(eval_id=eval_id)


@router.post("/{eval_id}/runs", status_code=201)
async def create_eval_run(
    eval_id: str, body: EvalRunRequest, services: TheServices, caller: Caller
) -> EvalRun:
    """Start a run. Errors in its items, names or templates are reported before any request."""
    metadata = check_metadata(body.metadata)
    row = await services.eval_runs.create(eval_id, body.name, body.data_source, metadata, caller)
    return run(row, services.url)


@router.get("/{eval_id}/runs")
async def list_eval_runs(
    eval_id: str,
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> Page[EvalRun]:
    """Return the runs of an evaluation, including the trials of searches."""
    statuses = () if status is None else ("canceled", STOPPED) if status == "canceled" else (status,)
    page = await services.eval_runs.list(
        eval_id, caller, after=after, limit=limit, order=order, statuses=statuses
    )
    data = [run(row, services.url) for row in page.data]
    return Page.of(data, page.has_more)


@router.get("/{eval_id}/runs/{run_id}")
async def retrieve_eval_run(eval_id: str, run_id: str, services: TheServices, caller: Caller) -> EvalRun:
    """Return one run of an evaluation, with its results so far."""
    return run(await services.eval_runs.get(eval_id, run_id, caller), services.url)


@router.post("/{eval_id}/runs/{run_id}", include_in_schema=False)
@router.post("/{eval_id}/runs/{run_id}/cancel")
async def cancel_eval_run(eval_id: str, run_id: str, services: TheServices, caller: Caller) -> EvalRun:
    """Cancel a run of an evaluation; its results so far stay. Older clients leave out ``/cancel``."""
    return run(await services.eval_runs.cancel(eval_id, run_id, caller), services.url)


@router.delete("/{eval_id}/runs/{run_id}")
async def delete_eval_run(eval_id: str, run_id: str, services: TheServices, caller: Caller) -> EvalRunDeleted:
    """Delete a run of an evaluation with its results."""
    await services.eval_runs.delete(eval_id, run_id, caller)
    return EvalRunDeleted(run_id=run_id)


@router.get("/{eval_id}/runs/{run_id}/output_items")
async def list_eval_run_output_items(
    eval_id: str,
    run_id: str,
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Literal["pass", "fail", "error"] | None = None,
) -> Page[OutputItem]:
    """Return the results of the items that are done."""
    row = await services.eval_runs.get(eval_id, run_id, caller)
    behind = None if after is None else number_of(after, row)
    page, items = await services.eval_runs.outputs(
        row, after=behind, limit=limit, order=order, statuses=() if status is None else (status,)
    )
    data = [output(found, items[found.number], row) for found in page.data]
    return Page.of(data, page.has_more)


@router.get("/{eval_id}/runs/{run_id}/output_items/{output_item_id}")
async def retrieve_eval_run_output_item(
    eval_id: str, run_id: str, output_item_id: str, services: TheServices, caller: Caller
) -> OutputItem:
    """Return the result of one item."""
    row = await services.eval_runs.get(eval_id, run_id, caller)
    found, item = await services.eval_runs.output(row, number_of(output_item_id, row))
    return output(found, item, row)
