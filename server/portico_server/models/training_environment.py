"""Where models are trained: the environment `finetune`, and base models unpacked for it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from portico_server.core import pools
from portico_server.core.base_models import (
    BaseModel,
    Report,
)
from portico_server.core.errors import Unavailable
from portico_server.models.environments.built_environment import inspect_environment, require_built
from portico_server.models.environments.installed import Environments
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.unpacked_gguf import unpack_gguf
from portico_server.settings import Settings

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
            await self._environments.furnish(
                ENVIRONMENT_NAME, lambda progress: logger.info("%s", progress.message)
            )
        return await pools.MODELS.run(require_built, folder, recipe)

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """The model's own folder, or what was made of its GGUF file: 16 bits for each parameter."""
        if base.format == "safetensors":
            return base.path
        folder = self._settings.home / UNPACKED_FOLDER
        needed_bytes = 2 * base.parameters + MIN_FREE_BYTES
        free = (await pools.MODELS.run(shutil.disk_usage, self._settings.home)).free
        if free < needed_bytes and not await pools.MODELS.run(_any_unpacked, folder, base.path):
            raise Unavailable(
                f"To train '{base.name}' it is unpacked first, which takes {needed_bytes / 1e9:.1f} GB; {folder} has "
                f"{free / 1e9:.1f} GB. Make room, or train a smaller model.",
                code="disk_full",
            )
        return await unpack_gguf(base.path, folder, python, report)


def _any_unpacked(folder: Path, gguf: Path) -> bool:
    """Whether this file, or an earlier one of its name, was unpacked there."""
    return any(folder.glob(f"{gguf.stem}-*"))
