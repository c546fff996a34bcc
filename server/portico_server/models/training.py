"""Models as fine-tuning sees them: base models, the training environment, and models trained as a whole."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from urllib.parse import quote

from portico_server.core import pools
from portico_server.core.base_models import (
    BaseModel,
    Device,
    OnProgress,
    Report,
    TrainableTask,
    TrainingEnvironment,
    TrainingMachine,
)
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, Unavailable, nearest
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.principal import SYSTEM, Principal
from portico_server.environments.uv import StepFailedError, StepReport, run_step, silent
from portico_server.models.adapters import peft
from portico_server.models.adapters.gguf_adapter import LAYERS
from portico_server.models.adapters.service import AdapterService
from portico_server.models.catalog import engines_that
from portico_server.models.deployment import Deployment
from portico_server.models.engines.transformers import WORKER
from portico_server.models.environments.installed import Environments
from portico_server.models.environments.recipe import RECIPES, inspect_environment, require_built
from portico_server.models.gguf import Gguf, read_gguf
from portico_server.models.protocol import TriesAdapters, TunesElsewhere
from portico_server.models.server_process import OFFLINE_ENVIRONMENT
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.models.spec import DeploymentInfo, ModelSpec
from portico_server.settings import Settings
from portico_server.subprocesses import run_module

if TYPE_CHECKING:
    from portico_server.models.hardware import Hardware


# Models that were trained as a whole: kept below the home, served like any other, deleted with their name.


TRAINED_FOLDER: Final = "finetuned"
"""The folder below the home with such models, one place for each."""

GGUF_TYPE: Final = "q8_0"
"""What the numbers of a GGUF file are written as: half of 16 bits, and next to nothing is lost."""

GGUF_FILE: Final = "model.gguf"


class AddModel(Protocol):
    """Registers a model and keeps it."""

    async def __call__(self, spec: ModelSpec, *, owner: str | None = None) -> DeploymentInfo: ...


class TrainedModels:
    """``spec_of`` gives what was said of a model; ``add`` registers one."""

    def __init__(
        self,
        settings: Settings,
        environment: TrainingEnvironment,
        spec_of: Callable[[str], ModelSpec | None],
        add: AddModel,
    ) -> None:
        self._folder = settings.home / TRAINED_FOLDER
        self._environment = environment
        self._spec_of = spec_of
        self._add = add

    async def publish(self, name: str, base: BaseModel, folder: Path, owner: str | None) -> None:
        """Serve the model in ``folder`` (safetensors, tokenizer) as ``name``, in the form that the base's engine takes.

        What stands there from an attempt that was cut off is used. Raises `Unavailable`.
        """
        spec = self._spec_of(base.name)
        if self._spec_of(name) is not None:
            return
        target = self._folder / quote(name, safe="")
        if not target.is_dir():
            draft = target.with_name(f".{target.name}.new")
            await pools.MODELS.run(_empty, draft)
            try:
                if base.format == "gguf":
                    await self._refit(base, folder, draft / GGUF_FILE)
                else:
                    await pools.MODELS.run(_take, folder, draft)
                draft.rename(target)
            finally:
                await pools.MODELS.run(shutil.rmtree, draft, ignore_errors=True)
        source = target / GGUF_FILE if base.format == "gguf" else target
        made = replace(
            spec or ModelSpec(name, str(source), engine=base.engine),
            name=name,
            source=str(source),
            engine=base.engine,
            aliases=(),
            adapters=(),
            replicas=1,
            pin=False,
            description=f"'{base.name}', trained further",
        )
        await self._add(made, owner=owner)

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """Serve what the provider of ``base`` made. A name that is there already is left as it is."""
        if self._spec_of(name) is not None:
            return
        spec = self._spec_of(base)
        if spec is None:
            raise NotFound(
                f"'{base}' is not here any more, and with it the way to '{model}' at its provider. Add a model with "
                "that name there as its source.",
                code="model_not_found",
            )
        source = parse_source(spec.source)
        known = source.scheme == "remote"
        made = replace(
            spec,
            name=name,
            source=f"remote://{source.location}/{model}" if known else f"{source.location}#{model}",
            aliases=(),
            adapters=(),
            replicas=1,
            pin=False,
            description=f"'{base}', trained further at its provider",
        )
        await self._add(made, owner=owner)

    async def forget(self, spec: ModelSpec) -> None:
        """Delete the files of a model that is gone, if they are ours."""
        folder = self._folder / quote(spec.name, safe="")
        if Path(spec.source) in (folder, folder / GGUF_FILE):
            await pools.MODELS.run(shutil.rmtree, folder, ignore_errors=True)

    async def _refit(self, base: BaseModel, folder: Path, target: Path) -> None:
        python = await self._environment.interpreter(silent)
        command = run_module(WORKER, "refit", str(base.path), str(folder), str(target), python=python)
        environment = {
            **OFFLINE_ENVIRONMENT,
            "PYTHONPATH": str(Path(__file__).parent / "engines" / "transformers"),
        }
        try:
            await run_step(
                [*command, "--type", GGUF_TYPE], "gguf", silent, folder=target.parent, env=environment
            )
        except StepFailedError as error:
            raise Unavailable(
                f"What was made of '{base.name}' could not be written as a GGUF file: {error.message}",
                code="export_failed",
            ) from error


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _take(folder: Path, target: Path) -> None:
    """The files under a second name, or copied where the disk is another one: the first place stays whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            there = target / path.relative_to(folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, there)
            except OSError:
                shutil.copyfile(path, there)


FindDeployment: TypeAlias = Callable[[str], Deployment | None]

SetAlias: TypeAlias = Callable[[str, str], Awaitable[None]]

_PLAYED: Final = (1_000_000, 2, 64, 1_000)
"""Parameters, layers, width and vocabulary that a scripted model is taken to have."""


class ModelBases:
    """``find`` gives a model by name or alias; ``names`` are those it knows; ``alias`` gives one a further name."""

    def __init__(
        self,
        find: FindDeployment,
        names: Callable[[], list[str]],
        fetcher: ModelFetcher,
        adapters: AdapterService,
        trained: TrainedModels,
        alias: SetAlias,
    ) -> None:
        self._find = find
        self._names = names
        self._fetcher = fetcher
        self._adapters = adapters
        self._trained = trained
        self._alias = alias

    def check(self, name: str, caller: Principal, *, task: TrainableTask = "chat") -> str:
        """See `portico_server.core.interfaces.BaseModels`."""
        return self._deployment(name, caller, task).spec.name

    def tuner(self, name: str) -> HostedTuner | None:
        """See `portico_server.core.interfaces.BaseModels`."""
        found = self._find(name)
        if found is None or "chat" not in found.card.capabilities:
            return None
        kind = found.process.launch.kind
        return kind.tuner(found.spec) if isinstance(kind, TunesElsewhere) else None

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        await self._trained.publish_hosted(name, base, model, owner)

    def _deployment(self, name: str, caller: Principal, task: TrainableTask) -> Deployment:
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
        kind = found.process.launch.kind
        if task == "chat" and self.tuner(found.spec.name) is not None:
            return found
        if "hosted" in found.card.capabilities:
            raise _untrainable(
                f"'{found.spec.name}' runs elsewhere ({found.spec.source}), where no fine-tuning API is known; the "
                "model's parameter 'tuning' names one."
            )
        if not isinstance(kind, TriesAdapters):
            raise _untrainable(
                f"'{found.spec.name}' runs on '{kind.name}', whose models are not trained.", task
            )
        capability, what = _TASK_WORDS[task]
        if capability not in found.card.capabilities:
            raise _untrainable(f"'{found.spec.name}' is not {what}.", task)
        if task != "chat" and kind.adapter_format == "script":
            raise _untrainable(
                f"'{found.spec.name}' is played by the engine 'fake' and has no weights.", task
            )
        return found

    async def base(
        self,
        name: str,
        caller: Principal,
        on_progress: OnProgress | None = None,
        *,
        task: TrainableTask = "chat",
    ) -> BaseModel:
        """See `portico_server.core.interfaces.BaseModels`."""
        found = self._deployment(name, caller, task)
        spec, kind = found.spec, found.process.launch.kind
        source = parse_source(spec.source)
        if isinstance(kind, TriesAdapters) and kind.adapter_format == "script":
            length = kind.describe(spec, None).context_length or 0
            count, layers, hidden, vocabulary = _PLAYED
            return BaseModel(
                spec.name, Path(), "script", kind.name, "script", count, layers, hidden, vocabulary, length, 0
            )

        async def report(done: int, total: int | None) -> None:
            if on_progress is not None:
                await on_progress(done, total)

        path = await self._fetcher.fetch(source, report)
        if task != "chat" and not path.is_dir():
            raise _untrainable(f"The weights of '{spec.name}' are one file.", task)
        return await pools.MODELS.run(_read, spec, kind.name, path)

    async def machine(self) -> TrainingMachine:
        """See `portico_server.core.interfaces.BaseModels`."""
        hardware = await pools.LOADING.run(importlib.import_module, "portico_server.models.hardware")
        found: Hardware = await pools.MODELS.run(hardware.this_machine)
        free: int = await pools.MODELS.run(hardware.free_memory)
        devices = tuple(
            Device(gpu.name, gpu.memory_bytes, gpu.capability) for gpu in found.gpus if not gpu.shared
        )
        return TrainingMachine(found.cores, found.memory_bytes, min(free, found.memory_bytes), devices)

    async def publish(
        self, name: str, base: str, folder: Path, owner: str | None, *, task: TrainableTask = "chat"
    ) -> None:
        """See `portico_server.core.interfaces.BaseModels`."""
        if self._adapters.has(name):
            return
        if await pools.MODELS.run(_is_whole, folder):
            await self._trained.publish(name, await self.base(base, SYSTEM, task=task), folder, owner)
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
    files = importlib.import_module("portico_server.models.plan.weights")
    weights = files.read_weights(path, spec.name)
    if weights.quantisation:
        raise _untrainable(
            f"The weights of '{spec.name}' are quantised ({weights.quantisation}); train the model that they were "
            "made of."
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
"""The capability of a model that is trained for a task, and what that model is called."""


def _untrainable(message: str, task: TrainableTask = "chat") -> InvalidRequest:
    advice = f"Chat models on {engines_that(TriesAdapters)} can be trained whose files are on this machine."
    if task != "chat":
        advice = (
            "With this method an embedding model or a reranker is trained whose folder of safetensors is on this "
            "machine, such as one on the engine 'transformers'."
        )
    return InvalidRequest(f"{message} {advice}", code="model_not_trainable", param="model")


# A GGUF file as a folder of safetensors, which training needs: made once, in the engine's environment, and kept.


async def unpack_gguf(gguf: Path, folder: Path, python: Path, report: StepReport) -> Path:
    """The folder for ``gguf`` below ``folder``, named by the file's content; ``python`` has the engine.

    The weights are in 16 bits: a model of a billion parameters takes 2 GB. Raises `InvalidRequest` for a file that
    cannot be read. Cancelling leaves nothing behind.
    """
    target = folder / f"{gguf.stem}-{await pools.MODELS.run(_digest, gguf)}"
    if (target / "config.json").is_file():
        return target
    await pools.MODELS.run(folder.mkdir, parents=True, exist_ok=True)
    command = run_module(WORKER, "dequantise", str(gguf), str(target), python=python)
    environment = {
        **OFFLINE_ENVIRONMENT,
        "PYTHONPATH": str(Path(__file__).parent / "engines" / "transformers"),
    }
    try:
        await run_step(command, "unpack", report, folder=folder, env=environment)
    except StepFailedError as error:
        if (target / "config.json").is_file():  # another one was quicker
            return target
        raise InvalidRequest(
            f"The model file {gguf} could not be unpacked: {error.message}",
            code="model_file_invalid",
            param="source",
        ) from error
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# Where models are trained: the environment `finetune`, and base models unpacked for it.


logger = logging.getLogger(__name__)

ENVIRONMENT_NAME = "finetune"
"""Of the environment."""

OPTIONAL_PACKAGES = frozenset(("bitsandbytes", "deepspeed", "flash_attn"))
"""Packages that a recipe makes use of where they are."""

UNPACKED_FOLDER = "unpacked"
"""The folder below the home with models that were unpacked."""

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Bytes that stay free on the disk."""


class ModelTrainingEnvironment:
    """See `portico_server.core.interfaces.TrainingEnvironment`."""

    def __init__(self, settings: Settings, environments: Environments) -> None:
        self._settings = settings
        self._environments = environments

    def packages(self) -> frozenset[str]:
        """The optional packages that the environment has on this machine, or will have: see `OPTIONAL_PACKAGES`."""
        return RECIPES[ENVIRONMENT_NAME].pinned & OPTIONAL_PACKAGES

    async def interpreter(self, report: Report) -> Path:
        """Of the environment, built on first use where that is allowed."""
        recipe = RECIPES[ENVIRONMENT_NAME]
        folder = self._settings.environments / ENVIRONMENT_NAME
        if (await pools.MODELS.run(inspect_environment, folder, recipe)).state == "absent":
            if reason := recipe.unsuited():
                raise Unavailable(f"Nothing can be trained here: {reason}.", code="engine_unsuited")
            await report(
                "environment",
                f"The environment '{ENVIRONMENT_NAME}' is needed, about {recipe.gigabytes:g} GB",
            )
            await self._environments.furnish(ENVIRONMENT_NAME, lambda told: logger.info("%s", told.message))
        return await pools.MODELS.run(require_built, folder, recipe)

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """The model's own folder, or what was made of its GGUF file: 16 bits for each parameter."""
        if base.format == "safetensors":
            return base.path
        folder = self._settings.home / UNPACKED_FOLDER
        needed = 2 * base.parameters + MIN_FREE_BYTES
        free = (await pools.MODELS.run(shutil.disk_usage, self._settings.home)).free
        if free < needed and not await pools.MODELS.run(_any_unpacked, folder, base.path):
            raise Unavailable(
                f"To train '{base.name}' it is unpacked first, which takes {needed / 1e9:.1f} GB; {folder} has "
                f"{free / 1e9:.1f} GB. Make room, or train a smaller model.",
                code="disk_full",
            )
        return await unpack_gguf(base.path, folder, python, report)


def _any_unpacked(folder: Path, gguf: Path) -> bool:
    """Whether this file, or an earlier one of its name, was unpacked there."""
    return any(folder.glob(f"{gguf.stem}-*"))
