"""What a fine-tuning job is, what trains it, the events of a training, and its recipe: every setting with its reason,
and what a caller may override.
"""

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
    """All that a trainer needs to know beside the model and the data.

    ``micro_batch`` examples at once on each replica of the model, ``accumulation`` times before a step; ``max_length``
    tokens at most of an example; ``warmup`` and ``eval_interval`` in steps; ``group`` answers to each prompt and
    ``completion`` tokens of each, for reinforcement; ``beta`` is what straying from the base costs (DPO and
    reinforcement). ``memory_bytes`` is what it is thought to take on each device, ``disk_bytes`` for base and
    checkpoints, ``seconds`` in all. ``reasons`` has a sentence for each setting by name. ``processes`` are those of all
    ``nodes``; so many as ``tensor_parallel`` hold each layer of a replica together.
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
        """Examples in one step."""
        return self.micro_batch * self.accumulation * (self.processes // self.tensor_parallel)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingRecipe:
        """As `to_json` wrote it."""
        return cls(**data)


Method: TypeAlias = Literal["supervised", "dpo", "reinforcement", "embedding", "rerank"]

RETRIEVAL_METHODS: Final[Mapping[Method, TrainableTask]] = {"embedding": "embedding", "rerank": "rerank"}
"""Those that train on the questions to a store, each with what its model does."""

ENDED_STATUSES: Final[tuple[JobStatus, ...]] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Numbers that a caller may set; ``None`` stands for ``auto``: the recipe chooses.

    ``beta`` is DPO's; ``eval_interval`` (steps), ``eval_samples`` and ``compute_multiplier`` are reinforcement's.
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
    """What was asked for. ``overrides`` are settings of the recipe by name; ``grader`` as OpenAI writes graders.

    Files are ids of uploaded ones. ``launcher`` starts the training, the setting's if it is empty; ``resources`` are
    what it asks a scheduler for. ``app`` is a deployed app whose prompts the examples get; empty: they keep their own.
    ``store`` has the passages of `RETRIEVAL_METHODS`. Without a training file so many ``questions`` are made from
    them, by the chat model ``asker`` if there is one.
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
        """What the model does that is trained."""
        return RETRIEVAL_METHODS.get(self.method, "chat")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FineTuningSpec:
        """As `to_json` wrote it."""
        return cls(**{**data, "hyperparameters": Hyperparameters(**data["hyperparameters"])})


@dataclass(frozen=True, slots=True)
class Job(JobRow[FineTuningSpec]):
    """A job as it stands in the database."""

    @classmethod
    def of(cls, row: JobJson) -> Job:
        """The job of a row."""
        values = {name: getattr(row, name) for name in JobRow.__dataclass_fields__}
        return cls(**{**values, "spec": FineTuningSpec.from_json(row.spec)})

    @property
    def ended(self) -> bool:
        return self.status in ENDED_STATUSES

    @property
    def model(self) -> str:
        """The name its result gets: ``ft:BASE:portico:SUFFIX:ID``."""
        return f"ft:{self.base}:portico:{self.spec.suffix}:{self.id.removeprefix('ftjob-')[-12:]}"

    def checkpoint(self, step: int) -> str:
        """The name of what it was after ``step``, as OpenAI makes it of the result's."""
        return f"{self.model}:ckpt-step-{step}"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a recipe must know of the examples. Lengths in tokens, of whole conversations as the template writes them.

    ``typical`` is the length that 95 of 100 examples do not exceed. ``measured`` is how many examples were really
    told in tokens; the others are estimated from their characters.
    """

    examples: int
    tokens: int
    longest: int
    typical: int
    validation: int = 0
    measured: int = 0


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Checked examples, one JSON object a line, in files that nobody else changes. By the method a line is

    supervised: ``{"messages": [...], "tools": [...]}``; an assistant message with ``"weight": 0`` is not trained on.
    dpo: ``{"prompt": [...], "chosen": [...], "rejected": [...], "tools": [...]}``, each a list of messages.
    reinforcement: ``{"prompt": [...], "item": {...}, "tools": [...]}``; ``item`` is what graders see of the line.
    ``tools`` is there only where the line had some.
    embedding and rerank: ``{"query": "…", "positives": ["…"], "negatives": ["…"]}``; the validation file has the
    questions that are held back, with more negatives.
    """

    training: Path
    validation: Path | None
    facts: DataFacts
