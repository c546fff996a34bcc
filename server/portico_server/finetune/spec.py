"""What a fine-tuning job is: its method, its hyperparameters, its files, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

Method: TypeAlias = Literal["supervised", "dpo", "reinforcement"]

METHODS: Final[tuple[Method, ...]] = ("supervised", "dpo", "reinforcement")

Status: TypeAlias = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]

ENDED: Final[tuple[Status, ...]] = ("succeeded", "failed", "cancelled")


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
class Spec:
    """What was asked for. ``overrides`` are settings of the recipe by name; ``grader`` as OpenAI writes graders.

    Files are ids of uploaded ones.
    """

    base: str
    training_file: str
    validation_file: str | None = None
    method: Method = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    grader: Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    suffix: str = ""
    seed: int = 42
    metadata: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """As `to_json` wrote it."""
        return cls(**{**data, "hyperparameters": Hyperparameters(**data["hyperparameters"])})


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands in the database. ``state`` holds what became known: recipe, tokens, end, the result's name."""

    id: str
    owner: str | None
    run_id: str
    base: str
    spec: Spec
    state: Mapping[str, Any]
    status: Status
    error: Mapping[str, Any] | None
    created_at: float
    finished_at: float | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

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
class Prepared:
    """Checked examples, one JSON object a line, in files that nobody else changes. By the method a line is

    supervised: ``{"messages": [...], "tools": [...]}``; an assistant message with ``"weight": 0`` is not trained on.
    dpo: ``{"prompt": [...], "chosen": [...], "rejected": [...], "tools": [...]}``, each a list of messages.
    reinforcement: ``{"prompt": [...], "item": {...}, "tools": [...]}``; ``item`` is what graders see of the line.
    ``tools`` is there only where the line had some.
    """

    training: Path
    validation: Path | None
    facts: DataFacts
