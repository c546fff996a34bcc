"""The events that a trainer yields during a job, in order; the last event contains the trained weights."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from portico_server.core.base_models import BaseModel
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.features.training.spec import Job, PreparedData, TrainingRecipe

LogLevel: TypeAlias = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The measurements of step ``step`` of ``total``. ``values`` may contain further numbers under these names:

    ``train_accuracy``, ``valid_loss``, ``valid_accuracy``, ``reward``, ``margin``, ``kl``, ``learning_rate``,
    ``tokens_per_second``, ``memory_bytes``, ``epoch``.
    """

    step: int
    total: int
    loss: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after ``step``, stored in the folder ``path``: adapter, optimiser, random state.

    Training can resume from it, and ``path`` itself is a PEFT adapter.
    """

    step: int
    path: Path
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainLog:
    """A message for the job's events."""

    level: LogLevel
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainedWeights:
    """The last event: ``path`` contains the PEFT adapter or the whole model, trained on ``tokens`` tokens.

    The weights are those of the best checkpoint, after ``step``. ``others`` are the adapters of other checkpoints that
    were kept.
    """

    path: Path
    tokens: int
    values: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    others: tuple[Checkpoint, ...] = ()


TrainEvent: TypeAlias = Metrics | Checkpoint | TrainLog | TrainedWeights


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """The input of a trainer.

    ``folder`` belongs to the job and is kept between attempts; the trainer writes checkpoints to it.
    """

    job: Job
    base: BaseModel
    recipe: TrainingRecipe
    data: PreparedData
    folder: Path


class Trainer(Protocol):
    """Trains models, one at a time on this machine."""

    def train(self, task: TrainingTask, context: Context) -> AsyncGenerator[TrainEvent, None]:
        """Train from the last checkpoint in the folder, or from the start, and yield events; `TrainedWeights` is the
        last event.

        Closing the iterator, or cancelling the task that awaits it, ends the child process and keeps the last
        checkpoint. Raises a `PorticoError` that ends the job: too little disk space or memory (before the training
        starts), or a loss that is not a number.
        """
