"""The specification of a fine-tuning job, its recipe (every setting with its reason), and the checked training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.base_models import TrainableTask
from portico_server.core.dataclass import dataclass
from portico_server.db.tuning import JobJson, JobRow, JobStatus


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """All settings that a trainer needs in addition to the model and the data.

    Each replica of the model processes ``micro_batch`` examples at a time, ``accumulation`` times before a step.
    ``max_length`` limits an example, in tokens. ``warmup`` and ``eval_interval`` are in steps. Reinforcement samples
    ``group`` answers to each prompt, each of at most ``completion`` tokens. ``beta`` penalises deviation from the base
    model (DPO and reinforcement).

    ``memory_bytes`` estimates the memory on each device, ``disk_bytes`` the disk space of the base model and the
    checkpoints, and ``seconds`` the total time. ``reasons`` maps each setting to the reason for its value.
    ``processes`` is the number of processes on all ``nodes`` together; ``tensor_parallel`` is the number of processes
    that share each layer of a replica.
    """

    kind: Literal["lora", "qlora", "full"]
    rank: int
    alpha: int
    dropout: float
    precision: Literal["float32", "bfloat16", "float16"]
    device: Literal["cpu", "cuda"]
    processes: int
    sharding: Literal["none", "ddp", "zero2", "zero3", "fsdp", "tensor"]
    micro_batch: int
    accumulation: int
    max_length: int
    packing: bool
    checkpointing: bool
    attention: Literal["eager", "sdpa", "flash_attention_2"]
    optimiser: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"]
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup: int
    weight_decay: float
    epochs: int
    steps: int
    eval_interval: int
    patience: int
    beta: float
    group: int
    completion: int
    threads: int
    seed: int
    memory_bytes: int
    disk_bytes: int
    seconds: float
    reasons: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    tensor_parallel: int = 1

    @property
    def batch(self) -> int:
        """Number of examples in one step."""
        return self.micro_batch * self.accumulation * (self.processes // self.tensor_parallel)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingRecipe:
        """Create a recipe from the JSON form that `to_json` returned."""
        return cls(**data)


Method: TypeAlias = Literal["supervised", "dpo", "reinforcement", "embedding", "rerank"]

RETRIEVAL_METHODS: Final[Mapping[Method, TrainableTask]] = {"embedding": "embedding", "rerank": "rerank"}
"""Methods that train on questions to a store, each with the task of the model that it trains."""

ENDED_STATUSES: Final[tuple[JobStatus, ...]] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Numbers that a caller may set. ``None`` means ``auto``: the recipe chooses the number.

    ``beta`` is for DPO; ``eval_interval`` (steps), ``eval_samples`` and ``compute_multiplier`` are for reinforcement.
    """

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    eval_interval: int | None = None
    eval_samples: int | None = None
    compute_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class FineTuningSpec:
    """The specification of a requested fine-tuning job.

    ``overrides`` maps names of recipe settings to values; ``grader`` is in OpenAI's grader format. Files are given as
    ids of uploaded files. ``launcher`` starts the training; if empty, the configured launcher does. ``resources`` are
    requested from a scheduler. ``app`` is a deployed app whose prompts replace the examples' own prompts; if empty,
    the examples keep their prompts.

    ``store`` supplies the passages for `RETRIEVAL_METHODS`. Without a training file, ``questions`` questions are
    generated from the passages, by the chat model ``asker`` if it is set.
    """

    base: str
    training_file: str = ""
    validation_file: str | None = None
    method: Method = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    grader: Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    suffix: str = ""
    seed: int = 42
    metadata: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    launcher: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    app: str = ""
    store: str = ""
    questions: int = 0
    asker: str = ""

    @property
    def task(self) -> TrainableTask:
        """The task for which the model is trained."""
        return RETRIEVAL_METHODS.get(self.method, "chat")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FineTuningSpec:
        """Create a specification from the JSON form that `to_json` returned."""
        return cls(**{**data, "hyperparameters": Hyperparameters(**data["hyperparameters"])})


@dataclass(frozen=True, slots=True)
class Job(JobRow[FineTuningSpec]):
    """A job as stored in the database."""

    @classmethod
    def of(cls, row: JobJson) -> Job:
        """Return the job of a database row."""
        values = {name: getattr(row, name) for name in JobRow.__dataclass_fields__}
        return cls(**{**values, "spec": FineTuningSpec.from_json(row.spec)})

    @property
    def ended(self) -> bool:
        return self.status in ENDED_STATUSES

    @property
    def model(self) -> str:
        """The name of the trained model: ``ft:BASE:portico:SUFFIX:ID``."""
        return f"ft:{self.base}:portico:{self.spec.suffix}:{self.id.removeprefix('ftjob-')[-12:]}"

    def checkpoint(self, step: int) -> str:
        """Return the name of the checkpoint after ``step``, derived from the name of the trained model as in OpenAI's
        API.
        """
        return f"{self.model}:ckpt-step-{step}"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data about the examples that the choice of a recipe needs. Lengths are in tokens of whole conversations, as
    the template formats them.

    95 of 100 examples have at most ``typical`` tokens. ``measured`` is the number of examples whose tokens were
    counted; the lengths of the other examples are estimated from their characters.
    """

    examples: int
    tokens: int
    longest: int
    typical: int
    validation: int = 0
    measured: int = 0


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Checked examples, one JSON object per line, in files that no other code changes. The format of a line depends on
    the method:

    supervised: ``{"messages": [...], "tools": [...]}``; an assistant message with ``"weight": 0`` is not learned. dpo:
    ``{"prompt": [...], "chosen": [...], "rejected": [...], "tools": [...]}``; the first three are lists of messages.
    reinforcement: ``{"prompt": [...], "item": {...}, "tools": [...]}``; graders receive ``item``. ``tools`` is present
    only if the uploaded line had tools. embedding and rerank: ``{"query": "…", "positives": ["…"], "negatives":
    ["…"]}``; the validation file contains the held-back questions, with more negatives.
    """

    training: Path
    validation: Path | None
    facts: DataFacts
