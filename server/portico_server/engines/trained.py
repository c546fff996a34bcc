"""Models that were trained as a whole: kept below the home, served like any other, deleted with their name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.core.interfaces import BaseModel, TrainingEnvironment
from portico_server.engines.guest.quiet import QUIET
from portico_server.engines.spec import DeploymentInfo, ModelSpec
from portico_server.engines.transformers.package import WORKER
from portico_server.environments.uv import StepFailedError, silent, step
from portico_server.settings import Settings
from portico_server.subprocesses import run_module

KEPT: Final = "finetuned"
"""The folder below the home with such models, one place for each."""

TYPE: Final = "q8_0"
"""What the numbers of a GGUF file are written as: half of 16 bits, and next to nothing is lost."""

WEIGHTS: Final = "model.gguf"


class Add(Protocol):
    """Registers a model and keeps it."""

    async def __call__(self, spec: ModelSpec, *, owner: str | None = None) -> DeploymentInfo: ...


class TrainedModels:
    """``spec_of`` gives what was said of a model; ``add`` registers one."""

    def __init__(
        self,
        settings: Settings,
        workshop: TrainingEnvironment,
        spec_of: Callable[[str], ModelSpec | None],
        add: Add,
    ) -> None:
        self._folder = settings.home / KEPT
        self._workshop = workshop
        self._spec_of = spec_of
        self._add = add

    async def publish(self, name: str, base: BaseModel, folder: Path, owner: str | None) -> None:
        """Serve the model in ``folder`` (safetensors, tokenizer) as ``name``, in the form that the base's engine takes.

        What stands there from an attempt that was cut off is used. Raises `Unavailable`.
        """
        spec = self._spec_of(base.name)
        if self._spec_of(name) is not None:
            return
        place = self._folder / quote(name, safe="")
        if not place.is_dir():
            draft = place.with_name(f".{place.name}.new")
            await pools.MODELS.run(_empty, draft)
            try:
                if base.format == "gguf":
                    await self._refit(base, folder, draft / WEIGHTS)
                else:
                    await pools.MODELS.run(_take, folder, draft)
                draft.rename(place)
            finally:
                await pools.MODELS.run(shutil.rmtree, draft, ignore_errors=True)
        source = place / WEIGHTS if base.format == "gguf" else place
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

    async def forget(self, spec: ModelSpec) -> None:
        """Delete the files of a model that is gone, if they are ours."""
        place = self._folder / quote(spec.name, safe="")
        if Path(spec.source) in (place, place / WEIGHTS):
            await pools.MODELS.run(shutil.rmtree, place, ignore_errors=True)

    async def _refit(self, base: BaseModel, folder: Path, target: Path) -> None:
        python = await self._workshop.interpreter(silent)
        command = run_module(WORKER, "refit", str(base.path), str(folder), str(target), python=python)
        environment = {**QUIET, "PYTHONPATH": str(Path(__file__).parent / "transformers")}
        try:
            await step([*command, "--type", TYPE], "gguf", silent, folder=target.parent, env=environment)
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
    for path in folder.iterdir():
        if path.is_file():
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)
