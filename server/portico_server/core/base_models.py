"""What fine-tuning asks of the engines: a base model's files, this machine, and a place for the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.principal import Principal

OnProgress: TypeAlias = Callable[[int, int | None], Awaitable[None]]
"""Called with the bytes fetched so far and the bytes in all, ``None`` if that is not known."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that can be trained. ``path`` is a GGUF file or a folder of safetensors; counts are 0 if unknown.
    The format ``script`` is that of the fake engine, whose training is played.

    ``hidden`` is the width of a hidden state, ``longest`` the tokens the model was made for, ``bytes`` what its
    weights take on disk. A base with an adapter is the base.
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
    """One GPU with memory of its own. ``capability`` is NVIDIA's compute capability, 0 if not known."""

    name: str
    memory_bytes: int
    capability: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingMachine:
    """Where training would run. ``free_bytes`` is what no process holds of ``memory_bytes`` now."""

    cores: int
    memory_bytes: int
    free_bytes: int
    devices: tuple[Device, ...] = ()


TrainableTask: TypeAlias = Literal["chat", "embedding", "rerank"]
"""What a model is trained for."""


class BaseModels(Protocol):
    """The models of this daemon, as fine-tuning sees them. Names may be aliases; ``task`` is what a model does."""

    async def base(
        self,
        name: str,
        caller: Principal,
        on_progress: OnProgress | None = None,
        *,
        task: TrainableTask = "chat",
    ) -> BaseModel:
        """The model, its files fetched if need be.

        Raises `NotFound`, `InvalidRequest` (``model_not_trainable``) that says which can be trained.
        """

    def check(self, name: str, caller: Principal, *, task: TrainableTask = "chat") -> str:
        """The proper name of a model that can be trained, judged without its files. Raises as `base` does."""

    def tuner(self, name: str) -> HostedTuner | None:
        """What trains a model at its provider; ``None`` for one that is trained here, or is not there."""

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """Serve what the provider of ``base`` made, under its id ``model`` there, as the model ``name``."""

    async def machine(self) -> TrainingMachine:
        """This machine as it is now."""

    async def publish(
        self, name: str, base: str, folder: Path, owner: str | None, *, task: TrainableTask = "chat"
    ) -> None:
        """Serve what was trained as the model ``name`` on the engine of ``base``, also after a restart.

        ``folder`` has a PEFT adapter, which answers beside the base, or a whole model (safetensors, tokenizer), which
        becomes one of its own. A name that is there already, from an attempt that was cut off, is left as it is.
        """

    async def also(self, name: str, target: str) -> None:
        """Let ``name`` mean the model ``target``, too, also after a restart. A name that is taken stays as it is."""


Report: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Told a stage and what continues, in a few words."""


class TrainingEnvironment(Protocol):
    """Where models are trained: an environment with the packages for it, and bases in the form that these take."""

    async def interpreter(self, report: Report) -> Path:
        """The Python that has them; built first if need be. Raises `Unavailable`."""

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """A folder of safetensors with tokenizer and chat template; made once of a GGUF file, and kept.

        Raises `InvalidRequest` for a file that cannot be read, `Unavailable` if the disk has no room for it.
        """


class TrialTrainer(Protocol):
    """Fine-tuning, as a search over its settings asks for it. ``body`` is what a job is created with over HTTP."""

    async def check(self, body: Mapping[str, Any], caller: Principal) -> None:
        """Raise `PorticoError` that names what is wrong with ``body``."""

    async def begin(self, body: Mapping[str, Any], search: str, key: str, caller: Principal) -> str:
        """The id of the job for ``body``: a new one, unless this ``search`` already started one under this ``key``."""

    async def trained(self, job_id: str, caller: Principal, on_progress: OnProgress) -> str:
        """The name of the model that a job makes, when it is done. Reports steps. Raises `PorticoError` if it fails."""

    async def stop(self, search: str, caller: Principal) -> None:
        """Cancel the running jobs of a search."""
