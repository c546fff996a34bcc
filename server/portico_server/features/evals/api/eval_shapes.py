"""Evaluations, their runs and their output items in OpenAI's format.

Source: https://platform.openai.com/docs/api-reference/evals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from portico.schemas.evals import CriterionScore
from portico_server.api.shapes import Moment, shaped
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.db.evals import EvalRunRow, ItemRow, OutputRow
from portico_server.features.evals import statistics
from portico_server.features.evals.spec import STOPPED, Evaluation

RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]


_ITEM: Final = re.compile(r"outputitem_([0-9a-f]+)_(\d{1,9})")


class EvalRequest(BaseModel):
    """An evaluation to create. Its data source and criteria are validated separately, with their own errors."""

    name: str = Field("", max_length=300)
    data_source_config: dict[str, Any]
    testing_criteria: list[Any]
    metadata: dict[str, Any] | None = None


class EvalChange(BaseModel):
    """A new name or new metadata for an evaluation."""

    name: str | None = Field(None, max_length=300)
    metadata: dict[str, Any] | None = None


class EvalRunRequest(BaseModel):
    """A run to start."""

    name: str = Field("", max_length=300)
    data_source: dict[str, Any]
    metadata: dict[str, Any] | None = None


class EvalObject(BaseModel):
    """The definition of an evaluation: the schema of its items, and its graders."""

    object: Literal["eval"] = "eval"
    id: str
    name: str
    created_at: int
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str]


class EvalDeleted(BaseModel):
    """The deleted evaluation."""

    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: bool = True
    eval_id: str


class EvalError(BaseModel):
    """An error of an evaluation run."""

    code: str
    message: str


class ModelUsage(BaseModel):
    """The usage of one model. ``cost``, Portico's addition, is in US dollars, null if no price is known."""

    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class CriterionResult(CriterionScore):
    """How many items passed a criterion. ``mean`` and ``standard_error`` of the criterion's scores are Portico's
    additions.
    """


class EvalCounts(BaseModel):
    """Numbers of finished items by outcome."""

    total: int
    passed: int
    failed: int
    errored: int


class EvalRun(BaseModel):
    """A run of an evaluation.

    Portico's additions are ``items``; ``run_id``, the durable run with its events; ``search_id`` and ``settings`` of a
    trial; ``score`` with ``standard_error``; ``cost``; and ``seconds``, the sum of the times of all items.
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
    """The deleted run."""

    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: bool = True
    run_id: str


class OutputItem(BaseModel):
    """The result of one item: its request, the answer, and the score of each criterion. ``score`` and ``seconds`` are
    Portico's additions.
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


def evaluation(found_evaluation: Evaluation) -> EvalObject:
    """Return an evaluation in OpenAI's response format. Its schema contains the schema of the sample if the evaluation
    includes samples.
    """
    row = found_evaluation.row
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
        testing_criteria=[dict(criterion.grader) for criterion in found_evaluation.criteria],
        metadata=dict(row.metadata),
    )


def run(row: EvalRunRow, url: str) -> EvalRun:
    """Return a run in OpenAI's response format; ``url`` is the daemon's address."""
    tally = row.tally
    mean = statistics.of(tally, "score")
    return shaped(
        EvalRun,
        row,
        status="canceled" if row.status == STOPPED else row.status,
        model=row.target,
        data_source=dict(row.source),
        per_model_usage=[
            ModelUsage(
                model_name=name,
                invocation_count=model_usage["calls"],
                prompt_tokens=model_usage["prompt"],
                completion_tokens=model_usage["completion"],
                cached_tokens=model_usage["cached"],
                total_tokens=model_usage["prompt"] + model_usage["completion"],
                cost=model_usage["cost"],
            )
            for name, model_usage in (tally.get("models") or {}).items()
        ],
        per_testing_criteria_results=[
            _criterion(name, criterion) for name, criterion in (tally.get("criteria") or {}).items()
        ],
        report_url=f"{url}/v1/evals/{row.eval_id}/runs/{row.id}/output_items",
        result_counts=EvalCounts(
            total=statistics.count(tally), passed=tally["pass"], failed=tally["fail"], errored=tally["error"]
        ),
        items=row.total,
        score=mean.value,
        standard_error=mean.error,
        cost=statistics.cost(tally),
        seconds=tally["seconds"],
    )


def _criterion(name: str, criterion: Mapping[str, Any]) -> CriterionResult:
    mean = statistics.mean(criterion["score"])
    return CriterionResult(
        testing_criteria=name,
        passed=criterion["pass"],
        failed=criterion["fail"],
        mean=mean.value,
        standard_error=mean.error,
    )


def output(output_row: OutputRow, item: ItemRow, row: EvalRunRow) -> OutputItem:
    """Return the result of one item in OpenAI's response format."""
    options = row.source.get("sampling_params") or {}
    sample = {
        "error": None,
        "finish_reason": "stop",
        "model": row.target,
        **{name: options.get(name) for name in ("max_completion_tokens", "temperature", "top_p", "seed")},
        **output_row.sample,
    }
    sample.setdefault("usage", None)
    return OutputItem(
        id=f"outputitem_{row.id.rpartition('_')[2]}_{output_row.number}",
        eval_id=row.eval_id,
        run_id=row.id,
        created_at=int(output_row.created_at),
        status=output_row.status,
        datasource_item_id=output_row.number,
        datasource_item=dict(item.item),
        results=[dict(result) for result in output_row.results],
        sample=sample,
        score=output_row.score,
        seconds=output_row.seconds,
    )


def number_of(output_item_id: str, row: EvalRunRow) -> int:
    """Return the number of an item from its output item id. Raise `NotFound` if the id belongs to another run."""
    match = _ITEM.fullmatch(output_item_id)
    if match is None or match[1] != row.id.rpartition("_")[2]:
        raise NotFound(
            f"The run '{row.id}' has no output item '{output_item_id[:80]}'.",
            code="output_item_not_found",
            param="output_item_id",
        )
    return int(match[2])
