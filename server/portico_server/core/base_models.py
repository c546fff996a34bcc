"""What fine-tuning needs from the engines: the files of a base model, this machine, and a place for the result."""

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
    """A model that can be trained. ``path`` is a GGUF file or a folder of safetensors; counts are 0 if unknown. The
    format ``script`` is that of the fake engine, whose training is simulated.

    ``hidden`` is the width of a hidden state, ``longest`` the context in tokens that the model was made for, ``bytes``
    the size of its weights on disk. The base of a model with an adapter is the model without the adapter.
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
    """The machine for training. ``free_bytes`` is the part of ``memory_bytes`` that no process uses now."""

    cores: int
    memory_bytes: int
    free_bytes: int
    devices: tuple[Device, ...] = ()


TrainableTask: TypeAlias = Literal["chat", "embedding", "rerank"]
"""The task that a model is trained for."""


class BaseModels(Protocol):
    """The models of this daemon, as fine-tuning sees them. Names may be aliases; ``task`` is the purpose of the
    model.
    """

    async def base(
        self,
        name: str,
        caller: Principal,
        on_progress: OnProgress | None = None,
        *,
        task: TrainableTask = "chat",
    ) -> BaseModel:
        """Return the model, after fetching its files if necessary.

        Raises `NotFound`, and `InvalidRequest` (``model_not_trainable``) that lists the trainable models.
        """

    def check(self, name: str, caller: Principal, *, task: TrainableTask = "chat") -> str:
        """Return the proper name of a trainable model, judged without its files. Raises the same errors as `base`."""

    def tuner(self, name: str) -> HostedTuner | None:
        """Return the tuner of a model that its provider trains; ``None`` for a local or unknown model."""

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """Serve the result of the provider of ``base``, whose id is ``model``, as the model ``name``."""

    async def machine(self) -> TrainingMachine:
        """Return the current state of this machine."""

    async def publish(
        self, name: str, base: str, folder: Path, owner: str | None, *, task: TrainableTask = "chat"
    ) -> None:
        """Serve a trained model as ``name`` on the engine of ``base``, also after a restart.

        ``folder`` contains a PEFT adapter, which is served beside the base, or a whole model (safetensors, tokenizer),
        which becomes a separate model. A name that exists already, from an interrupted attempt, is not changed.
        """

    async def also(self, name: str, target: str) -> None:
        """Add the alias ``name`` for the model ``target``, also after a restart. A name that exists is not changed."""


Report: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Progress callback: a stage and a short description of the current step."""


class TrainingEnvironment(Protocol):
    """The training environment: an environment with the required packages, and bases in the format that these
    accept.
    """

    async def interpreter(self, report: Report) -> Path:
        """Return the Python with the packages, after building it if necessary. Raises `Unavailable`."""

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """Return a folder of safetensors with tokenizer and chat template; a GGUF file is converted once and stored.

        Raises `InvalidRequest` for a file that cannot be read, `Unavailable` if the disk lacks space.
        """


class TrialTrainer(Protocol):
    """Fine-tuning for a search over its settings. ``body`` is the body that creates a job over HTTP."""

    async def check(self, body: Mapping[str, Any], caller: Principal) -> None:
        """Raise `PorticoError` that names the error in ``body``."""

    async def begin(self, body: Mapping[str, Any], search: str, key: str, caller: Principal) -> str:
        """Return the id of the job for ``body``: a new job, unless this ``search`` has already started one under this
        ``key``.
        """

    async def train(self, job_id: str, caller: Principal, on_progress: OnProgress) -> str:
        """Wait for a job and return the name of its model. Reports steps. Raises `PorticoError` if the job fails."""

    async def stop(self, search: str, caller: Principal) -> None:
        """Cancel the running jobs of a search."""
