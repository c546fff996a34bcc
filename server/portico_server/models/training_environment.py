"""The training environment ``finetune``, and base models unpacked for it."""

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
"""Name of the training environment."""

OPTIONAL_PACKAGES = frozenset(("bitsandbytes", "deepspeed", "flash_attn"))
"""Packages that a recipe uses if they are installed."""

UNPACKED_FOLDER = "unpacked"
"""Folder below the home with unpacked models."""

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Bytes that must stay free on the disk."""


class ModelTrainingEnvironment:
    """See `portico_server.core.interfaces.TrainingEnvironment`."""

    def __init__(self, settings: Settings, environments: Environments) -> None:
        self._settings = settings
        self._environments = environments

    def packages(self) -> frozenset[str]:
        """Return the optional packages that the environment has, or will have, on this machine: see
        `OPTIONAL_PACKAGES`.
        """
        return RECIPES[ENVIRONMENT_NAME].pinned & OPTIONAL_PACKAGES

    async def interpreter(self, report: Report) -> Path:
        """Return the interpreter of the environment, which is built on first use if allowed."""
        recipe = RECIPES[ENVIRONMENT_NAME]
        folder = self._settings.environments / ENVIRONMENT_NAME
        if (await pools.MODELS.run(inspect_environment, folder, recipe)).state == "absent":
            if reason := recipe.unsuited():
                raise Unavailable(f"This machine cannot train models: {reason}.", code="engine_unsuited")
            await report(
                "environment",
                f"The environment '{ENVIRONMENT_NAME}' is needed, about {recipe.gigabytes:g} GB",
            )
            await self._environments.furnish(
                ENVIRONMENT_NAME, lambda progress: logger.info("%s", progress.message)
            )
        return await pools.MODELS.run(require_built, folder, recipe)

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """Return the model's own folder, or the folder unpacked from its GGUF file, with 16 bits per parameter."""
        if base.format == "safetensors":
            return base.path
        folder = self._settings.home / UNPACKED_FOLDER
        needed_bytes = 2 * base.parameters + MIN_FREE_BYTES
        free = (await pools.MODELS.run(shutil.disk_usage, self._settings.home)).free
        if free < needed_bytes and not await pools.MODELS.run(_any_unpacked, folder, base.path):
            raise Unavailable(
                f"To train '{base.name}', it must be unpacked first, which needs "
                f"{needed_bytes / 1000000000.0:.1f} GB; {folder} has {free / 1000000000.0:.1f} GB. Free some "
                "space, or train a smaller model.",
                code="disk_full",
            )
        return await unpack_gguf(base.path, folder, python, report)


def _any_unpacked(folder: Path, gguf: Path) -> bool:
    """Return whether this file, or an earlier file of its name, was unpacked in the folder."""
    return any(folder.glob(f"{gguf.stem}-*"))
