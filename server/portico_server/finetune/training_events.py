"""What a job and its trainer tell each other: events in order, and the weights at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from portico_server.core.base_models import BaseModel
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.finetune.spec import Job, PreparedData, TrainingRecipe

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
