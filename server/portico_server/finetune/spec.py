"""What a fine-tuning job is, what trains it, the events of a training, and its recipe: every setting with its reason,
and what a caller may override.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from portico_server.core.base_models import BaseModel, TrainableTask
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
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


# Settings of a recipe that a caller gives instead of leaving them to it.


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A number from ``least`` to ``most``."""

    least: float
    most: float
    whole: bool = True

    def holds(self, value: Any) -> bool:
        kinds = int if self.whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class YesNo:
    """A truth value."""

    def holds(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


SETTINGS: Final[Mapping[str, NumberRange | OneOf | YesNo]] = {
    "kind": OneOf(("lora", "qlora", "full")),
    "rank": NumberRange(1, 512),
    "alpha": NumberRange(1, 2048),
    "dropout": NumberRange(0, 0.9, whole=False),
    "precision": OneOf(("float32", "bfloat16", "float16")),
    "device": OneOf(("cpu", "cuda")),
    "processes": NumberRange(1, 1024),
    "sharding": OneOf(("none", "ddp", "zero2", "zero3", "fsdp")),
    "tensor_parallel": NumberRange(1, 64),
    "micro_batch": NumberRange(1, 4096),
    "max_length": NumberRange(16, 10_000_000),
    "packing": YesNo(),
    "checkpointing": YesNo(),
    "attention": OneOf(("eager", "sdpa", "flash_attention_2")),
    "optimiser": OneOf(("adamw_torch", "adamw_8bit", "paged_adamw_8bit")),
    "learning_rate": NumberRange(1e-8, 1.0, whole=False),
    "schedule": OneOf(("linear", "cosine", "constant")),
    "warmup": NumberRange(0, 1_000_000),
    "weight_decay": NumberRange(0, 1, whole=False),
    "eval_interval": NumberRange(0, 1_000_000),
    "patience": NumberRange(0, 1000),
    "group": NumberRange(2, 256),
    "completion": NumberRange(1, 1_000_000),
    "threads": NumberRange(1, 1024),
}
"""What may be given, and what it may be. Epochs, batch size and beta are hyperparameters."""


def check_overrides(given: Mapping[str, Any], param: str = "overrides") -> None:
    """Raise `InvalidRequest` that names the first setting which is unknown or out of its range."""
    for name, value in given.items():
        allowed = SETTINGS.get(name)
        if allowed is None:
            raise InvalidRequest(
                f"A recipe has no setting '{str(name)[:80]}'.{nearest(str(name), SETTINGS)}",
                param=f"{param}.{str(name)[:80]}",
            )
        if not allowed.holds(value):
            raise InvalidRequest(
                f"'{name}' of a recipe must be {allowed}, not {str(value)[:80]!r}.", param=f"{param}.{name}"
            )


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


# The seam between a job and what trains it: events in order, a folder of its own, the adapter at the end.


LogLevel: TypeAlias = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """What one step of ``total`` measured. ``values`` holds further numbers by these names, where they exist:

    ``train_accuracy``, ``valid_loss``, ``valid_accuracy``, ``reward``, ``margin``, ``kl``, ``learning_rate``,
    ``tokens_per_second``, ``memory_bytes``, ``epoch``.
    """

    step: int
    total: int
    loss: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after ``step`` lies in the folder ``path``: adapter, optimiser, random numbers. Training can continue
    from it, and ``path`` itself is a PEFT adapter.
    """

    step: int
    path: Path
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainLog:
    """A sentence for the job's events."""

    level: LogLevel
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainedWeights:
    """The last event: the PEFT adapter, or the whole model, lies in ``path``; ``tokens`` is what was trained on.

    It is that of the checkpoint after ``step``, the best one. ``others`` are further adapters that were kept.
    """

    path: Path
    tokens: int
    values: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    others: tuple[Checkpoint, ...] = ()


TrainEvent: TypeAlias = Metrics | Checkpoint | TrainLog | TrainedWeights


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """All that a trainer is given. ``folder`` is the job's own and stays between attempts: checkpoints go there."""

    job: Job
    base: BaseModel
    recipe: TrainingRecipe
    data: PreparedData
    folder: Path


class Trainer(Protocol):
    """Trains. One at a time on this machine."""

    def train(self, task: TrainingTask, context: Context) -> AsyncGenerator[TrainEvent, None]:
        """Train, from the last checkpoint in the folder if there is one, and yield events; `TrainedWeights` comes last.

        Closing the iterator, or cancelling whoever awaits it, ends the child and leaves the last checkpoint. Raises
        `PorticoError` for what ends the job: not enough disk or memory (before it starts), a loss that is not a number.
        """
