"""What fine-tuning needs from the engines: the files of a base model, data about this machine, and a way to serve the
result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.principal import Principal

OnProgress: TypeAlias = Callable[[int, int | None], Awaitable[None]]
"""Progress callback: the bytes fetched so far and the total, ``None`` if unknown."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that can be trained. ``path`` is a GGUF file or a folder of safetensors; a count of 0 means unknown. The
    format ``script`` belongs to the fake engine, whose training is simulated.

    ``hidden`` is the width of a hidden state, ``longest`` is the context in tokens that the model was made for, and
    ``bytes`` is the size of its weights on disk. The base of a model with an adapter is the model without the adapter.
    """

    name: str
    path: Path
    format: Literal["gguf", "safetensors", "script"]
    engine: str
    architecture: str
    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    longest: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU with its own memory. ``capability`` is NVIDIA's compute capability, 0 if unknown."""

    name: str
    memory_bytes: int
    capability: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingMachine:
    """The machine that trains. ``free_bytes`` is the part of ``memory_bytes`` that no process is using."""

    cores: int
    memory_bytes: int
    free_bytes: int
    devices: tuple[Device, ...] = ()


TrainableTask: TypeAlias = Literal["chat", "embedding", "rerank"]
"""The task that a model is trained for."""


class BaseModels(Protocol):
    """The models of this daemon, as fine-tuning uses them. Names may be aliases; ``task`` is what the model is trained
    for.
    """

    async def base(
        self,
        name: str,
        caller: Principal,
        on_progress: OnProgress | None = None,
        *,
        task: TrainableTask = "chat",
    ) -> BaseModel:
        """Return the model ``name``; its files are downloaded if necessary.

        Raises `NotFound`, and `InvalidRequest` (``model_not_trainable``) that lists the trainable models.
        """

    def check(self, name: str, caller: Principal, *, task: TrainableTask = "chat") -> str:
        """Return the name of a trainable model, with aliases resolved; its files are not read. Raises the same errors
        as `base`.
        """

    def tuner(self, name: str) -> HostedTuner | None:
        """Return the tuner of a model that its provider trains, or ``None`` for a local or unknown model."""

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """Serve a model that the provider of ``base`` has trained, and that has the id ``model`` there, as ``name``."""

    async def machine(self) -> TrainingMachine:
        """Return the current state of this machine."""

    async def publish(
        self, name: str, base: str, folder: Path, owner: str | None, *, task: TrainableTask = "chat"
    ) -> None:
        """Serve a trained model as ``name`` on the engine of ``base``; a restart keeps it.

        ``folder`` contains a PEFT adapter, which is served together with the base, or a whole model (safetensors,
        tokenizer), which becomes a separate model. A name that already exists, from an interrupted attempt, is not
        changed.
        """

    async def also(self, name: str, target: str) -> None:
        """Add the alias ``name`` for the model ``target``; a restart keeps it. An existing name is not changed."""


Report: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Progress callback: ``(stage, description)``, where the description of the current step is short."""


class TrainingEnvironment(Protocol):
    """The training environment: a Python with the required packages, and base models in the format that these packages
    read.
    """

    async def interpreter(self, report: Report) -> Path:
        """Return the path of the Python interpreter with the packages, after building the environment if necessary.
        Raises `Unavailable`.
        """

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """Return a folder of safetensors with tokenizer and chat template. A GGUF file is converted once, and the
        result is stored.

        Raises `InvalidRequest` for a file that cannot be read, and `Unavailable` if the disk lacks space.
        """


class TrialTrainer(Protocol):
    """Fine-tuning for a search over hyperparameters. ``body`` is the request body that creates a job over HTTP."""

    async def check(self, body: Mapping[str, Any], caller: Principal) -> None:
        """Raise a `PorticoError` that names the error if ``body`` is invalid."""

    async def begin(self, body: Mapping[str, Any], search: str, key: str, caller: Principal) -> str:
        """Return the id of the job for ``body``: a new job, unless this ``search`` has already started a job under
        this ``key``.
        """

    async def train(self, job_id: str, caller: Principal, on_progress: OnProgress) -> str:
        """Wait for a job and return the name of the trained model. Reports training steps. Raises `PorticoError` if
        the job fails.
        """

    async def stop(self, search: str, caller: Principal) -> None:
        """Cancel the running jobs of a search."""
