"""Evaluations, their runs and output items in OpenAI's words.

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
from portico_server.evals import statistics
from portico_server.evals.spec import STOPPED, Evaluation

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


@dataclass(frozen=True, slots=True)
class CriterionResult(CriterionScore):
    """How many items a criterion passed. ``mean`` and ``standard_error`` of its scores are ours."""


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
