"""Evaluations, their runs and the results of items, and searches over settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico._read import Page, read_object
from portico.schemas import json_at
from portico.schemas.resource import Column, Resource, Verb

ENDED = ("completed", "canceled", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Eval:
    """An evaluation. ``testing_criteria`` are graders in OpenAI's format; times are in seconds since 1970."""

    id: str
    name: str
    created_at: float
    testing_criteria: tuple[Mapping[str, Any], ...] = ()
    data_source_config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CriterionScore:
    """How the items of a run scored on one criterion."""

    testing_criteria: str
    passed: int
    failed: int
    mean: float | None
    standard_error: float | None


@dataclass(frozen=True, slots=True)
class EvalRun:
    """A run of an evaluation. ``status``: ``queued``, ``in_progress``, ``completed``, ``canceled`` or ``failed``.
    ``items`` is the number of items, ``result_counts`` the number of finished items by result. ``run_id`` is the id
    of the durable run, which has the events.
    """

    id: str
    eval_id: str
    name: str
    status: str
    model: str
    created_at: float
    items: int
    run_id: str
    result_counts: Mapping[str, int]
    criteria: tuple[CriterionScore, ...] = field(default=(), metadata=json_at("per_testing_criteria_results"))
    finished_at: float | None = None
    score: float | None = None
    standard_error: float | None = None
    cost: float | None = None
    seconds: float = 0.0
    tokens: int = 0
    search_id: str | None = None
    settings: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    error: str = field(default="", metadata=json_at("error.message"))

    @classmethod
    def from_json(cls, value: Any) -> EvalRun:
        """Parse a run. ``tokens`` is the sum over all models."""
        usages = value.get("per_model_usage") or () if isinstance(value, Mapping) else ()
        return read_object(cls, value, tokens=sum(int(usage.get("total_tokens") or 0) for usage in usages))

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class EvalOutput:
    """The result of one item: ``pass``, ``fail`` or ``error``. ``results`` contains the result of each criterion, in
    order.
    """

    id: str
    status: str
    datasource_item_id: int
    datasource_item: Mapping[str, Any]
    results: tuple[Mapping[str, Any], ...]
    sample: Mapping[str, Any]
    score: float = 0.0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The text of the answer."""
        output = self.sample.get("output") or ()
        return str(output[0].get("content") or "") if output else ""


@dataclass(frozen=True, slots=True)
class EvalTrial:
    """A combination of settings that a search has tried. ``id`` is the id of the trial's run. ``stopped``: the trial
    was abandoned because others were better.
    """

    id: str
    settings: Mapping[str, Any]
    status: str
    score: float | None
    standard_error: float | None
    done: int
    passed: int
    failed: int
    errored: int
    tokens: int
    cost: float | None
    seconds: float
    error: str = field(default="", metadata=json_at("error.message"))


@dataclass(frozen=True, slots=True)
class EvalSearch:
    """A search over settings. ``trials`` are sorted, best first. ``best`` is the id of the best trial once the search
    has ended.
    """

    id: str
    eval_id: str
    run_id: str
    name: str
    status: str
    created_at: float
    finished_at: float | None
    items: int
    spec: Mapping[str, Any]
    best: str | None
    error: str = field(default="", metadata=json_at("error.message"))
    trials: tuple[EvalTrial, ...] = ()

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """The cost of a search, computed without starting it: ``asked`` is the total number of items to answer, ``judged``
    the number of judge calls, and ``trained`` the number of models to train.

    ``settings``: the settings of the first trials.
    """

    trials: int
    items: int
    asked: int
    judged: int
    trained: int
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EvalApplied:
    """The new version of each app, keyed by app. ``left``: settings that belong to no app; pass them with each call."""

    trial: str
    versions: Mapping[str, int]
    left: Mapping[str, Any]


EVALS = Resource(
    "Evals",
    "/v1/evals",
    "Evaluations of models, apps and stores, and searches over their settings.",
    {"eval_id": "an evaluation", "run_id": "a run", "search_id": "a search"},
    (
        Verb("get", "GET {eval_id}", Eval),
        Verb("update", "POST {eval_id}", Eval),
        Verb("remove", "DELETE {eval_id}"),
        Verb("get_run", "GET {eval_id}/runs/{run_id}", EvalRun),
        Verb("cancel_run", "POST {eval_id}/runs/{run_id}/cancel", EvalRun),
        Verb("remove_run", "DELETE {eval_id}/runs/{run_id}"),
        Verb("outputs", "GET {eval_id}/runs/{run_id}/output_items", Page[EvalOutput]),
        Verb("searches", "GET /api/evals/{eval_id}/searches", list[EvalSearch]),
        Verb("get_search", "GET /api/evals/{eval_id}/searches/{search_id}", EvalSearch),
        Verb("cancel_search", "POST /api/evals/{eval_id}/searches/{search_id}/cancel", EvalSearch),
        Verb("apply", "POST /api/evals/{eval_id}/searches/{search_id}/apply", EvalApplied),
    ),
    columns=(
        Column("ID"),
        Column("NAME"),
        Column("CRITERIA", "testing_criteria", kind="names"),
        Column("MADE", "created_at", kind="moment"),
    ),
)
