"""Fine-tuning: jobs, their events and checkpoints, and plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico._read import Page, read_object
from portico.schemas import json_at
from portico.schemas.resource import Column, Resource, Verb

ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class SearchMeasures:
    """How well a model ranks the passages that answer a question, from 0 to 1: nDCG@10 and recall@5."""

    ndcg_10: float
    recall_5: float


@dataclass(frozen=True, slots=True)
class SearchEvaluation:
    """An embedding model or a reranker compared with its base, on held-back questions. ``better``: whether its nDCG@10
    is higher.
    """

    questions: int
    before: SearchMeasures
    after: SearchMeasures
    better: bool


@dataclass(frozen=True, slots=True)
class TuningJob:
    """A fine-tuning job. ``status``: ``validating_files``, ``queued``, ``running``, ``succeeded``, ``failed`` or
    ``cancelled``; a paused job is ``queued`` and ``paused``. Times are in seconds since 1970. ``fine_tuned_model`` is
    the name of the new model once the job has succeeded. ``cost`` is in US dollars; it is set if a provider trained
    the model at a known price.
    """

    id: str
    model: str
    status: str
    created_at: float
    run_id: str = ""
    method: str = field(default="supervised", metadata=json_at("method.type"))
    training_file: str = ""
    validation_file: str | None = None
    fine_tuned_model: str | None = None
    finished_at: float | None = None
    estimated_finish: float | None = None
    step: int | None = None
    total_steps: int | None = None
    trained_tokens: int | None = None
    suffix: str = ""
    seed: int = 0
    error: str = field(default="", metadata=json_at("error.message"))
    metadata: Mapping[str, str] = field(default_factory=dict)
    result_files: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None
    cost: float | None = None
    app: str | None = None
    store: str | None = None
    evaluation: SearchEvaluation | None = None
    paused: bool = False

    @property
    def state(self) -> str:
        """``paused`` for a paused job, and the ``status`` of any other job."""
        return "paused" if self.paused else self.status

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def progress(self) -> str:
        """The number of finished steps, such as ``20 of 300``; empty before the first step."""
        return f"{self.step} of {self.total_steps}" if self.step and self.total_steps else ""


@dataclass(frozen=True, slots=True)
class TuningAppCheck:
    """The result of checking whether an app creates the prompts that a model was trained on. ``differences`` are
    sentences; ``same`` is true if there are none. ``model`` is the model that the app calls; ``uses_result`` is
    true if that model is the job's result.
    """

    app: str
    version: int
    trained_version: int
    same: bool
    differences: tuple[str, ...]
    model: str
    uses_result: bool


@dataclass(frozen=True, slots=True)
class TuningEvent:
    """An event of a job. ``type`` is ``message``, or ``metrics`` with measurements in ``data``."""

    id: str
    number: int
    level: str
    message: str
    type: str
    created_at: float
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> TuningEvent:
        """Parse an event. ``number`` is the last part of the event's id."""
        number = str(value.get("id", "")).rpartition("-")[2] if isinstance(value, Mapping) else ""
        return read_object(cls, value, number=int(number) if number.isdigit() else 0)


@dataclass(frozen=True, slots=True)
class TuningCheckpoint:
    """A state from which training can continue, with the measurements at that step. ``served``: whether ``model`` can
    be called.
    """

    id: str
    model: str = field(metadata=json_at("fine_tuned_model_checkpoint"))
    step_number: int
    created_at: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    served: bool = False


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """The plan for a job. ``data`` contains statistics about the examples, ``warnings`` describes anomalies in them.
    ``recipe`` contains the settings, and the explanation of each setting under ``reasons``. ``command`` is the
    command line that starts the training.
    """

    model: str
    parameters: int
    data: Mapping[str, int]
    warnings: tuple[str, ...]
    recipe: Mapping[str, Any]
    command: tuple[str, ...]


TUNING = Resource(
    "Tuning",
    "/v1/fine_tuning",
    "Fine-tuning jobs: models trained on your examples, locally or at their provider.",
    {"job_id": "a fine-tuning job"},
    (
        Verb("list", "GET jobs", Page[TuningJob]),
        Verb("get", "GET jobs/{job_id}", TuningJob),
        Verb("check", "POST /api/fine_tuning/jobs/{job_id}/check", TuningAppCheck, slow=True),
        Verb("cancel", "POST jobs/{job_id}/cancel", TuningJob),
        Verb("pause", "POST jobs/{job_id}/pause", TuningJob),
        Verb("resume", "POST jobs/{job_id}/resume", TuningJob),
        Verb("events", "GET jobs/{job_id}/events", Page[TuningEvent]),
        Verb("checkpoints", "GET jobs/{job_id}/checkpoints", Page[TuningCheckpoint]),
    ),
    columns=(
        Column("ID"),
        Column("BASE", "model"),
        Column("METHOD"),
        Column("STATUS"),
        Column("STEP", "progress"),
        Column("BEGAN", "created_at", kind="moment"),
        Column("MODEL", "fine_tuned_model"),
    ),
)
