"""The models of this daemon as fine-tuning sees them. See `portico_server.core.interfaces.BaseModels`."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico_server.core import pools
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, nearest
from portico_server.core.interfaces import BaseModel, Device, Told, TrainingMachine
from portico_server.core.principal import SYSTEM, Principal
from portico_server.engines.adapters import peft
from portico_server.engines.adapters.adapters import Adapters
from portico_server.engines.adapters.gguf_adapter import LAYERS
from portico_server.engines.deployment import Deployment
from portico_server.engines.gguf import Gguf, read_gguf
from portico_server.engines.sources import Fetcher, parse
from portico_server.engines.spec import ModelSpec
from portico_server.engines.trained import TrainedModels

if TYPE_CHECKING:
    from portico_server.engines.hardware import Hardware

Find: TypeAlias = Callable[[str], Deployment | None]

Alias: TypeAlias = Callable[[str, str], Awaitable[None]]

ENGINES: Final = ("llamacpp", "vllm", "lmdeploy", "transformers", "fake")
"""Those whose models are files on this machine, and that answer with adapters."""

TRAINABLE: Final = (
    "Chat models can be trained whose files are on this machine: GGUF on llamacpp, safetensors on vllm, lmdeploy or "
    "transformers."
)

_PLAYED: Final = (1_000_000, 2, 64, 1_000)
"""Parameters, layers, width and vocabulary that a scripted model is taken to have."""


class ModelBases:
    """``find`` gives a model by name or alias; ``names`` are those it knows; ``alias`` gives one a further name."""

    def __init__(
        self,
        find: Find,
        names: Callable[[], list[str]],
        fetcher: Fetcher,
        adapters: Adapters,
        trained: TrainedModels,
        alias: Alias,
    ) -> None:
        self._find = find
        self._names = names
        self._fetcher = fetcher
        self._adapters = adapters
        self._trained = trained
        self._alias = alias

    def check(self, name: str, caller: Principal) -> str:
        """See `portico_server.core.interfaces.BaseModels`."""
        return self._deployment(name, caller).spec.name

    def _deployment(self, name: str, caller: Principal) -> Deployment:
        found = self._find(name)
        if found is None or not caller.sees(found.owner):
            if self._adapters.has(name):
                raise _untrainable(
                    f"'{name}' is an adapter; train its base model instead, with all the examples."
                )
            raise NotFound(
                f"There is no model '{name[:200]}'.{nearest(name, self._names())}",
                code="model_not_found",
                param="model",
            )
        engine = found.life.kind.name
        if engine == "remote":
            raise _untrainable(
                f"'{found.spec.name}' runs elsewhere ({found.spec.source}), so it is trained there."
            )
        if engine not in ENGINES:
            raise _untrainable(f"'{found.spec.name}' runs on '{engine}', whose models are not trained.")
        if "chat" not in found.card.capabilities:
            raise _untrainable(f"'{found.spec.name}' is no chat model.")
        return found

    async def base(self, name: str, caller: Principal, told: Told | None = None) -> BaseModel:
        """See `portico_server.core.interfaces.BaseModels`."""
        found = self._deployment(name, caller)
        spec, engine = found.spec, found.life.kind.name
        source = parse(spec.source)
        if engine == "fake":
            length = found.life.kind.describe(spec, None).context_length or 0
            count, layers, hidden, vocabulary = _PLAYED
            return BaseModel(
                *(spec.name, Path(), "script", engine, "script", count, layers, hidden, vocabulary, length, 0)
            )

        async def report(done: int, total: int | None) -> None:
            if told is not None:
                await told(done, total)

        path = await self._fetcher.fetch(source, report)
        return await pools.MODELS.run(_read, spec, engine, path)

    async def machine(self) -> TrainingMachine:
        """See `portico_server.core.interfaces.BaseModels`."""
        hardware = await pools.LOADING.run(importlib.import_module, "portico_server.engines.hardware")
        found: Hardware = await pools.MODELS.run(hardware.this_machine)
        free: int = await pools.MODELS.run(hardware.free_memory)
        devices = tuple(
            Device(gpu.name, gpu.memory_bytes, gpu.capability) for gpu in found.gpus if not gpu.shared
        )
        return TrainingMachine(found.cores, found.memory_bytes, min(free, found.memory_bytes), devices)

    async def publish(self, name: str, base: str, folder: Path, owner: str | None) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        if self._adapters.has(name):
            return
        if await pools.MODELS.run(_is_whole, folder):
            await self._trained.publish(name, await self.base(base, SYSTEM), folder, owner)
            return
        await self._adapters.add(base, folder, name, owner=owner)

    async def also(self, name: str, target: str) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        with suppress(Conflict):
            await self._alias(name, target)


def _is_whole(folder: Path) -> bool:
    """Whether this is a model and no adapter."""
    return (folder / "config.json").is_file() and not (folder / peft.CONFIG).is_file()


def _read(spec: ModelSpec, engine: str, path: Path) -> BaseModel:
    if path.is_dir():
        return _from_folder(spec, engine, path)
    return _from_gguf(spec, engine, path, read_gguf(path))


def _from_gguf(spec: ModelSpec, engine: str, path: Path, header: Gguf) -> BaseModel:
    if header.split_count > 1:
        raise _untrainable(
            f"The file of '{spec.name}' is cut into {header.split_count} parts. Join them first."
        )
    if header.architecture not in LAYERS:
        raise _untrainable(
            f"'{spec.name}' is of the architecture '{header.architecture}', for which no adapter can be made here; for "
            f"{', '.join(LAYERS)} they can."
        )
    if not header.chat_template:
        raise _untrainable(
            f"'{spec.name}' has no chat template, so it cannot be told how conversations look."
        )
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
    files = importlib.import_module("portico_server.engines.planner.files")
    weights = files.read(path, spec.name)
    if weights.quantisation:
        raise _untrainable(
            f"The weights of '{spec.name}' are quantised ({weights.quantisation}); train the model that they were "
            "made of."
        )
    with (path / "config.json").open("rb") as file:
        config: Mapping[str, Any] = files.parse_config(file.read(files.CONFIG_LIMIT + 1), spec.name)
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


def _untrainable(message: str) -> InvalidRequest:
    return InvalidRequest(f"{message} {TRAINABLE}", code="model_not_trainable", param="model")
