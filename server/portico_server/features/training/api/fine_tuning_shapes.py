"""Fine-tuning jobs in OpenAI's format: requests and responses.

https://platform.openai.com/docs/api-reference/fine-tuning
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from portico.schemas.fine_tuning import SearchEvaluation, SearchMeasures
from portico_server.core.attributes import check_metadata
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.names import is_plain
from portico_server.core.words import whole_number
from portico_server.db.tuning import EventRow
from portico_server.features.training.questions import DEFAULT_QUESTION_COUNT, MAX_QUESTIONS, MIN_QUESTIONS
from portico_server.features.training.spec import FineTuningSpec, Hyperparameters, Job
from portico_server.features.training.work import is_better
from portico_server.launchers.protocol import Resources, check_launcher

Auto: TypeAlias = Literal["auto"]

_SUFFIX: Final = re.compile(r"[^\s:/?#%\\]{1,64}")

_LARGEST_SEED: Final = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=100_000)]
Multiplier = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]


class HyperparametersRequest(BaseModel, extra="forbid"):
    """Hyperparameters of all methods; for ``auto``, the recipe chooses the value."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1_000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=4_096)] | None = None
    learning_rate_multiplier: Auto | Multiplier | None = None
    beta: Auto | Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    eval_interval: Auto | Count | None = None
    eval_samples: Auto | Count | None = None
    compute_multiplier: Auto | Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)] | None = None
    reasoning_effort: str | None = None

    def read(self) -> Hyperparameters:
        hyperparameters = self.model_dump(exclude={"reasoning_effort"})
        return Hyperparameters(
            **{name: None if value == "auto" else value for name, value in hyperparameters.items()}
        )


class MethodDetail(BaseModel, extra="forbid"):
    """The settings of one training method."""

    hyperparameters: HyperparametersRequest | None = None
    grader: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class MethodRequest(BaseModel, extra="forbid"):
    """The training method: examples, preferences, or graded answers. ``embedding`` and ``rerank``, Portico's
    additions, train a model to find the passages that answer questions to a store.
    """

    type: Literal["supervised", "dpo", "reinforcement", "embedding", "rerank"]
    supervised: MethodDetail | None = None
    dpo: MethodDetail | None = None
    reinforcement: MethodDetail | None = None
    embedding: MethodDetail | None = None
    rerank: MethodDetail | None = None


class QuestionsRequest(BaseModel, extra="forbid"):
    """How questions are generated from a store's passages: from headings and sentences, or by the chat ``model``."""

    count: int = Field(default=DEFAULT_QUESTION_COUNT, ge=MIN_QUESTIONS, le=MAX_QUESTIONS)
    model: str | None = Field(default=None, min_length=1, max_length=300)


class FineTuningJobRequest(BaseModel):
    """A job to start.

    Portico's additions are ``recipe``, which maps names of settings to values that override the recipe's;
    ``launcher``, which starts the training; ``resources``, requested from a scheduler; ``app``, whose prompts are
    added to the examples; and ``store``. An embedding model or a reranker is trained on the passages of ``store``,
    with the questions in the training file or with generated ``questions``.
    """

    model: str = Field(min_length=1, max_length=300)
    training_file: str | None = Field(default=None, min_length=1, max_length=200)
    validation_file: str | None = Field(default=None, max_length=200)
    method: MethodRequest | None = None
    hyperparameters: HyperparametersRequest | None = None
    suffix: str | None = None
    seed: int | None = Field(default=None, ge=0, le=_LARGEST_SEED)
    metadata: dict[str, Any] | None = None
    integrations: list[Any] | None = None
    recipe: dict[str, Any] | None = None
    launcher: str = ""
    resources: dict[str, int | str] | None = None
    app: str | None = Field(default=None, min_length=1, max_length=200)
    store: str | None = Field(default=None, min_length=1, max_length=200)
    questions: QuestionsRequest | None = None

    def spec(self) -> FineTuningSpec:
        """Return the specification for the daemon. Raises `InvalidRequest`."""
        method = self.method.type if self.method else "supervised"
        detail = (getattr(self.method, method) if self.method else None) or MethodDetail()
        if self.hyperparameters is not None and detail.hyperparameters is not None:
            raise InvalidRequest(
                "'hyperparameters' are given both next to 'method' and inside it; give them only once.",
                param="hyperparameters",
            )
        check_launcher(self.launcher)
        Resources.parse(self.resources or {})
        numbers = detail.hyperparameters or self.hyperparameters or HyperparametersRequest()
        return FineTuningSpec(
            base=self.model,
            training_file=self.training_file or "",
            validation_file=self.validation_file,
            method=method,
            hyperparameters=numbers.read(),
            grader=detail.grader,
            response_format=detail.response_format,
            suffix=_suffix(self.suffix),
            seed=random.randint(0, _LARGEST_SEED) if self.seed is None else self.seed,  # noqa: S311  # no secret
            metadata=check_metadata(self.metadata),
            overrides=self.recipe or {},
            launcher=self.launcher,
            resources=self.resources or {},
            app=self.app or "",
            store=self.store or "",
            questions=self.questions.count if self.questions else 0,
            asker=(self.questions.model if self.questions else None) or "",
        )

    def ignored(self) -> tuple[str, ...]:
        """Return a sentence about each option that is ignored."""
        names = [
            str(integration.get("type", "?"))[:40]
            for integration in self.integrations or ()
            if isinstance(integration, dict)
        ]
        warnings = [
            f"The integration '{name}' is not supported and was ignored; the job's events contain the "
            "metrics."
            for name in names
        ]
        if self.method and self.method.reinforcement and self.method.reinforcement.response_format:
            warnings.append("'response_format' is not enforced in training and was ignored.")
        detail = self.method.reinforcement if self.method else None
        for name in ("eval_samples", "reasoning_effort"):
            if getattr(detail.hyperparameters if detail else None, name, None) not in (
                None,
                "auto",
                "default",
            ):
                warnings.append(f"'{name}' is not supported and was ignored.")
        return tuple(warnings)


def spec_of(body: Mapping[str, Any], param: str) -> FineTuningSpec:
    """Return a job's specification from JSON, for example from a configuration file instead of a request. Raise
    `InvalidRequest` with ``param``.
    """
    hyperparameters = body.get("hyperparameters")
    for at, value, fields in (
        (param, body, FineTuningJobRequest.model_fields),
        (f"{param}.hyperparameters", hyperparameters, HyperparametersRequest.model_fields),
    ):
        for name in value if isinstance(value, Mapping) else ():
            if name not in fields:
                raise InvalidRequest(
                    f"'{at}' has no field '{str(name)[:80]}'.{nearest(str(name), fields)}",
                    code="unknown_field",
                    param=f"{at}.{name}",
                )
    try:
        return FineTuningJobRequest.model_validate(dict(body)).spec()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([param, *(str(part) for part in first["loc"])])
        raise InvalidRequest(f"'{place}': {first['msg']}.", param=place) from error


def _suffix(suffix: str | None) -> str:
    if not suffix:
        return ""
    if not _SUFFIX.fullmatch(suffix) or not is_plain(suffix):
        raise InvalidRequest(
            "'suffix' must have 1 to 64 characters, without white space and without any of : / ? # % \\ [ ] "
            "< > `.",
            param="suffix",
        )
    return suffix


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


@dataclass(frozen=True, slots=True)
class RankingMeasures(SearchMeasures):
    """How well a model ranks the passages that answer a question, from 0 to 1, measured on held-out questions."""


@dataclass(frozen=True, slots=True)
class RankingEvaluation(SearchEvaluation):
    """A search model compared with its base model on held-out questions. ``better`` compares nDCG@10."""

    before: RankingMeasures
    after: RankingMeasures


class FineTuningJob(BaseModel):
    """A fine-tuning job.

    The status of a paused job is ``queued``, because OpenAI's clients know no other status for it.

    ``run_id``, ``step``, ``total_steps``, ``recipe``, ``paused``, ``app``, ``store``, ``evaluation`` and ``cost`` are
    Portico's additions. The recipe is set once the files are checked. ``cost`` is in US dollars and is set if a
    provider with a known price trains the job.
    """

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = "portico"
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    integrations: list[Any] = []
    seed: int
    suffix: str | None
    metadata: dict[str, str]
    error: JobError | None
    run_id: str
    step: int | None
    total_steps: int | None
    recipe: dict[str, Any] | None
    paused: bool
    cost: float | None = None
    app: str | None = None
    store: str | None = None
    evaluation: RankingEvaluation | None = None


class JobEvent(BaseModel):
    """An event of a job: a message, or the measurements of a training step in ``data``."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class JobCheckpoint(BaseModel):
    """A state of the model from which training can continue.

    ``served``, Portico's addition, is whether requests can use the checkpoint's name as a model. This is true for the
    checkpoint that became the result, and for the other checkpoint kept on disk.
    """

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]
    served: bool


def job(found_job: Job) -> FineTuningJob:
    """Return a job in OpenAI's format."""
    spec, state = found_job.spec, found_job.state
    end = state.get("estimated_finish")
    numbers = _hyperparameters(found_job)
    detail: dict[str, Any] = {"hyperparameters": numbers}
    if spec.grader is not None:
        detail["grader"] = dict(spec.grader)
    hyperparameters = {name: numbers[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")}
    return FineTuningJob(
        id=found_job.id,
        created_at=int(found_job.created_at),
        finished_at=None if found_job.finished_at is None else int(found_job.finished_at),
        estimated_finish=None if end is None else int(end),
        model=found_job.base,
        fine_tuned_model=state.get("fine_tuned_model"),
        status="queued" if found_job.status == "paused" else found_job.status,
        paused=found_job.status == "paused",
        training_file=spec.training_file,
        validation_file=spec.validation_file,
        result_files=list(state.get("result_files") or ()),
        trained_tokens=state.get("trained_tokens"),
        hyperparameters=hyperparameters,
        method={"type": spec.method, spec.method: detail},
        seed=spec.seed,
        suffix=spec.suffix or None,
        metadata=dict(spec.metadata),
        error=_error(found_job),
        run_id=found_job.run_id,
        step=state.get("step"),
        total_steps=(state.get("recipe") or {}).get("steps") or state.get("total"),
        recipe=state.get("recipe"),
        cost=state.get("cost"),
        app=found_job.spec.app or None,
        store=found_job.spec.store or None,
        evaluation=_evaluation(state.get("values") or {}),
    )


def _evaluation(values: Mapping[str, float]) -> RankingEvaluation | None:
    if "base_ndcg_10" not in values:
        return None
    return RankingEvaluation(
        questions=int(values["held_back_questions"]),
        before=RankingMeasures(ndcg_10=values["base_ndcg_10"], recall_5=values["base_recall_5"]),
        after=RankingMeasures(ndcg_10=values["ndcg_10"], recall_5=values["recall_5"]),
        better=is_better(values),
    )


def _hyperparameters(found_job: Job) -> dict[str, Any]:
    """Return the hyperparameters; each is ``auto`` until its value is chosen."""
    hyperparameters, recipe = found_job.spec.hyperparameters, found_job.state.get("recipe")
    numbers: dict[str, Any] = {
        "n_epochs": hyperparameters.n_epochs or (recipe["epochs"] if recipe else "auto"),
        "batch_size": hyperparameters.batch_size or (_batch(recipe) if recipe else "auto"),
        "learning_rate_multiplier": hyperparameters.learning_rate_multiplier or (1.0 if recipe else "auto"),
    }
    if found_job.spec.method == "dpo":
        numbers["beta"] = hyperparameters.beta or (recipe["beta"] if recipe else "auto")
    if found_job.spec.method == "reinforcement":
        for name in ("eval_interval", "eval_samples", "compute_multiplier"):
            numbers[name] = getattr(hyperparameters, name) or "auto"
    return numbers


def _batch(recipe: dict[str, Any]) -> int:
    sequences = recipe["micro_batch"] * recipe["accumulation"] * recipe["processes"]
    return int(sequences // max(1, recipe["group"]))


def _error(found_job: Job) -> JobError | None:
    if not found_job.error:
        return None
    return JobError(
        code=str(found_job.error.get("code") or "server_error"),
        message=str(found_job.error.get("message")),
        param=found_job.error.get("param"),
    )


def _event_id(job_id: str, number: int) -> str:
    return f"ftevent-{job_id.removeprefix('ftjob-')}-{number}"


def _checkpoint_id(job_id: str, number: int) -> str:
    return f"ftckpt_{job_id.removeprefix('ftjob-')}-{number}"


def number_of(identifier: str, param: str = "after") -> int:
    """Return the number in the id of an event or a checkpoint. Raises `InvalidRequest`."""
    number = whole_number(identifier.rpartition("-")[2], 11)
    if number is None:
        raise InvalidRequest(f"'{param}' must be the id of an item of this list.", param=param)
    return number


def event(row: EventRow) -> JobEvent:
    """Return an event in OpenAI's format."""
    return JobEvent(
        id=_event_id(row.job_id, row.seq),
        created_at=int(row.created_at),
        level=row.level,  # type: ignore[arg-type]  # only ours are written
        message=row.message,
        type="metrics" if row.kind == "metrics" else "message",
        data=dict(row.data),
    )


def checkpoint(row: EventRow, found_job: Job, is_served: Callable[[str], bool]) -> JobCheckpoint:
    """Return a checkpoint in OpenAI's format; ``is_served`` returns whether a model with a given name exists."""
    step = row.step or 0
    name = found_job.checkpoint(step)
    metric_names = {
        "train_accuracy": "train_mean_token_accuracy",
        "valid_accuracy": "valid_mean_token_accuracy",
    }
    metrics = {
        metric_names.get(name, name): float(value)
        for name, value in row.data.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if "valid_loss" in metrics:
        metrics["full_valid_loss"] = metrics["valid_loss"]
    return JobCheckpoint(
        id=_checkpoint_id(row.job_id, row.seq),
        created_at=int(row.created_at),
        fine_tuned_model_checkpoint=name,
        fine_tuning_job_id=row.job_id,
        step_number=step,
        metrics={"step": float(step), **metrics},
        served=is_served(name),
    )
