"""Fully trained models: stored below the home, served like all other models, and deleted when their name is removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from portico_server.core import pools
from portico_server.core.base_models import (
    BaseModel,
    TrainingEnvironment,
)
from portico_server.core.errors import NotFound, Unavailable
from portico_server.environments.uv import StepFailedError, run_step, silent
from portico_server.models.gguf_conversion import CONVERTER, CONVERTER_PATH
from portico_server.models.sources import parse_source
from portico_server.models.spec import DeploymentInfo, ModelSpec
from portico_server.settings import Settings
from portico_server.subprocesses import OFFLINE_ENVIRONMENT, run_module

TRAINED_FOLDER: Final = "finetuned"
"""Folder below the home with fully trained models, one subfolder each."""

GGUF_TYPE: Final = "q8_0"
"""Number format of a GGUF file's weights: half the size of 16-bit weights, with almost no loss."""

GGUF_FILE: Final = "model.gguf"


class AddModel(Protocol):
    """A function that registers a model and stores it."""

    async def __call__(self, spec: ModelSpec, *, owner: str | None = None) -> DeploymentInfo: ...


class TrainedModels:
    """The fully trained models. ``spec_of`` returns the spec of a model; ``add`` registers one."""

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
        """Serve the model in ``folder`` (safetensors, tokenizer) as ``name``, in the format of the base model's
        engine.

        Files from an interrupted attempt are reused. Raise `Unavailable`.
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
        model_spec = replace(
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
        await self._add(model_spec, owner=owner)

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """Serve a model that the provider of ``base`` trained. Do nothing if the name already exists."""
        if self._spec_of(name) is not None:
            return
        spec = self._spec_of(base)
        if spec is None:
            raise NotFound(
                f"'{base}' no longer exists, so '{model}' at its provider cannot be reached. Add a model "
                "whose source is the provider's name for the trained model.",
                code="model_not_found",
            )
        source = parse_source(spec.source)
        is_known = source.scheme == "remote"
        model_spec = replace(
            spec,
            name=name,
            source=f"remote://{source.location}/{model}" if is_known else f"{source.location}#{model}",
            aliases=(),
            adapters=(),
            replicas=1,
            pin=False,
            description=f"'{base}', fine-tuned at its provider",
        )
        await self._add(model_spec, owner=owner)

    async def forget(self, spec: ModelSpec) -> None:
        """Delete the files of a removed model if its source is in the folder of trained models."""
        folder = self._folder / quote(spec.name, safe="")
        if Path(spec.source) in (folder, folder / GGUF_FILE):
            await pools.MODELS.run(shutil.rmtree, folder, ignore_errors=True)

    async def _refit(self, base: BaseModel, folder: Path, target: Path) -> None:
        python = await self._environment.interpreter(silent)
        command = run_module(CONVERTER, "refit", str(base.path), str(folder), str(target), python=python)
        environment = {
            **OFFLINE_ENVIRONMENT,
            "PYTHONPATH": str(CONVERTER_PATH),
        }
        try:
            await run_step(
                [*command, "--type", GGUF_TYPE], "gguf", silent, folder=target.parent, env=environment
            )
        except StepFailedError as error:
            raise Unavailable(
                f"The trained model of '{base.name}' could not be written as a GGUF file: {error.message}",
                code="export_failed",
            ) from error


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _take(folder: Path, target: Path) -> None:
    """Link the files into ``target``, or copy them if it is on another disk. The originals are kept."""
    for path in folder.rglob("*"):
        if path.is_file():
            target_path = target / path.relative_to(folder)
            target_path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target_path)
            except OSError:
                shutil.copyfile(path, target_path)
