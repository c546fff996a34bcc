"""Models for fine-tuning: base models, the training environment, and fully trained models."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico_server.core import pools
from portico_server.core.base_models import (
    BaseModel,
    Device,
    OnProgress,
    TrainableTask,
    TrainingMachine,
)
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, nearest
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.principal import SYSTEM, Principal
from portico_server.models.adapters import peft
from portico_server.models.adapters.gguf_adapter import LAYERS
from portico_server.models.adapters.service import AdapterService
from portico_server.models.catalog import engines_that
from portico_server.models.deployment import Deployment
from portico_server.models.gguf import Gguf, read_gguf
from portico_server.models.protocol import TriesAdapters, TunesElsewhere
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.models.spec import ModelSpec

if TYPE_CHECKING:
    from portico_server.models.hardware import Hardware
from portico_server.models.trained_models import TrainedModels

FindDeployment: TypeAlias = Callable[[str], Deployment | None]

SetAlias: TypeAlias = Callable[[str, str], Awaitable[None]]

_PLAYED: Final = (1_000_000, 2, 64, 1_000)
"""Assumed parameters, layers, width and vocabulary of a scripted model."""


class ModelBases:
    """The base models for training.

    ``find`` returns a model by name or alias; ``names`` lists the known names; ``alias`` adds another name to a model.
    """

    def __init__(
        self,
        find: FindDeployment,
        names: Callable[[], list[str]],
        fetcher: ModelFetcher,
        adapters: AdapterService,
        trained_models: TrainedModels,
        alias: SetAlias,
    ) -> None:
        self._find = find
        self._names = names
        self._fetcher = fetcher
        self._adapters = adapters
        self._trained_models = trained_models
        self._alias = alias

    def check(self, name: str, caller: Principal, *, task: TrainableTask = "chat") -> str:
        """See `portico_server.core.interfaces.BaseModels`."""
        return self._deployment(name, caller, task).spec.name

    def tuner(self, name: str) -> HostedTuner | None:
        """See `portico_server.core.interfaces.BaseModels`."""
        deployment = self._find(name)
        if deployment is None or "chat" not in deployment.card.capabilities:
            return None
        kind = deployment.process.launch.kind
        return kind.tuner(deployment.spec) if isinstance(kind, TunesElsewhere) else None

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        await self._trained_models.publish_hosted(name, base, model, owner)

    def _deployment(self, name: str, caller: Principal, task: TrainableTask) -> Deployment:
        deployment = self._find(name)
        if deployment is None or not caller.sees(deployment.owner):
            if self._adapters.has(name):
                raise _untrainable(
                    f"'{name}' is an adapter; train its base model instead, with all the examples."
                )
            raise NotFound(
                f"The model '{name[:200]}' does not exist.{nearest(name, self._names())}",
                code="model_not_found",
                param="model",
            )
        kind = deployment.process.launch.kind
        if task == "chat" and self.tuner(deployment.spec.name) is not None:
            return deployment
        if "hosted" in deployment.card.capabilities:
            raise _untrainable(
                f"'{deployment.spec.name}' runs elsewhere ({deployment.spec.source}), and no fine-tuning API "
                "is known for it; set the model's parameter 'tuning' to name the API."
            )
        if not isinstance(kind, TriesAdapters):
            raise _untrainable(
                f"'{deployment.spec.name}' runs on '{kind.name}', whose models cannot be trained.", task
            )
        capability, task_name = _TASK_WORDS[task]
        if capability not in deployment.card.capabilities:
            raise _untrainable(f"'{deployment.spec.name}' is not {task_name}.", task)
        if task != "chat" and kind.adapter_format == "script":
            raise _untrainable(
                f"'{deployment.spec.name}' is scripted by the engine 'fake' and has no weights.", task
            )
        return deployment

    async def base(
        self,
        name: str,
        caller: Principal,
        on_progress: OnProgress | None = None,
        *,
        task: TrainableTask = "chat",
    ) -> BaseModel:
        """See `portico_server.core.interfaces.BaseModels`."""
        deployment = self._deployment(name, caller, task)
        spec, kind = deployment.spec, deployment.process.launch.kind
        source = parse_source(spec.source)
        if isinstance(kind, TriesAdapters) and kind.adapter_format == "script":
            length = kind.describe(spec, None).context_length or 0
            count, layers, hidden, vocabulary = _PLAYED
            return BaseModel(
                spec.name, Path(), "script", kind.name, "script", count, layers, hidden, vocabulary, length, 0
            )

        async def report(done_bytes: int, total: int | None) -> None:
            if on_progress is not None:
                await on_progress(done_bytes, total)

        path = await self._fetcher.fetch(source, report)
        if task != "chat" and not path.is_dir():
            raise _untrainable(f"The weights of '{spec.name}' are a single file.", task)
        return await pools.MODELS.run(_read, spec, kind.name, path)

    async def machine(self) -> TrainingMachine:
        """See `portico_server.core.interfaces.BaseModels`."""
        hardware = await pools.LOADING.run(importlib.import_module, "portico_server.models.hardware")
        found_hardware: Hardware = await pools.MODELS.run(hardware.this_machine)
        free: int = await pools.MODELS.run(hardware.free_memory)
        devices = tuple(
            Device(gpu.name, gpu.memory_bytes, gpu.capability)
            for gpu in found_hardware.gpus
            if not gpu.shared
        )
        return TrainingMachine(
            found_hardware.cores, found_hardware.memory_bytes, min(free, found_hardware.memory_bytes), devices
        )

    async def publish(
        self, name: str, base: str, folder: Path, owner: str | None, *, task: TrainableTask = "chat"
    ) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        if self._adapters.has(name):
            return
        if await pools.MODELS.run(_is_whole, folder):
            await self._trained_models.publish(name, await self.base(base, SYSTEM, task=task), folder, owner)
            return
        await self._adapters.add(base, folder, name, owner=owner)

    async def also(self, name: str, target: str) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        with suppress(Conflict):
            await self._alias(name, target)


def _is_whole(folder: Path) -> bool:
    """Return whether the folder contains a complete model, not an adapter."""
    return (folder / "config.json").is_file() and not (folder / peft.CONFIG).is_file()


def _read(spec: ModelSpec, engine: str, path: Path) -> BaseModel:
    if path.is_dir():
        return _from_folder(spec, engine, path)
    return _from_gguf(spec, engine, path, read_gguf(path))


def _from_gguf(spec: ModelSpec, engine: str, path: Path, header: Gguf) -> BaseModel:
    if header.split_count > 1:
        raise _untrainable(
            f"The file of '{spec.name}' is split into {header.split_count} parts. Join them first."
        )
    if header.architecture not in LAYERS:
        raise _untrainable(
            f"'{spec.name}' has the architecture '{header.architecture}', for which adapters cannot be "
            f"trained; supported: {', '.join(LAYERS)}."
        )
    if not header.chat_template:
        raise _untrainable(f"'{spec.name}' has no chat template, so the format of conversations is unknown.")
    return BaseModel(
        name=spec.name,
        path=path,
        format="gguf",
        engine=engine,
        architecture=header.architecture,
        parameters=header.parameters,
        layers=header.block_count,
        hidden=header.embedding_length,
        vocabulary=header.vocabulary,
        longest=header.context_length,
        bytes=header.file_size,
    )


def _from_folder(spec: ModelSpec, engine: str, path: Path) -> BaseModel:
    files = importlib.import_module("portico_server.models.plan.weight_files")
    weights = files.read_weights(path, spec.name)
    if weights.quantisation:
        raise _untrainable(
            f"The weights of '{spec.name}' are quantised ({weights.quantisation}); train the original model "
            "instead."
        )
    with (path / "config.json").open("rb") as file:
        config: Mapping[str, Any] = files.parse_config(file.read(files.MAX_CONFIG_BYTES + 1), spec.name)
    inner = config.get("text_config")
    values = {**config, **inner} if isinstance(inner, Mapping) else config
    return BaseModel(
        name=spec.name,
        path=path,
        format="safetensors",
        engine=engine,
        architecture=weights.architecture,
        parameters=weights.parameters,
        layers=int(values.get("num_hidden_layers") or values.get("n_layer") or 0),
        hidden=int(values.get("hidden_size") or values.get("n_embd") or 0),
        vocabulary=int(values.get("vocab_size") or 0),
        longest=weights.context_length,
        bytes=weights.size,
    )


_TASK_WORDS: Final[Mapping[TrainableTask, tuple[str, str]]] = {
    "chat": ("chat", "a chat model"),
    "embedding": ("embeddings", "an embedding model"),
    "rerank": ("rerank", "a reranker"),
}
"""For each training task: the capability that the model must have, and the name of this kind of model."""


def _untrainable(message: str, task: TrainableTask = "chat") -> InvalidRequest:
    advice = f"Only chat models on {engines_that(TriesAdapters)} with files on this machine can be trained."
    if task != "chat":
        advice = (
            "With this method, only an embedding model or a reranker with a folder of safetensors on this "
            "machine can be trained, such as one on the engine 'transformers'."
        )
    return InvalidRequest(f"{message} {advice}", code="model_not_trainable", param="model")
