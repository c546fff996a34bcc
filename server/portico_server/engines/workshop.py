"""Where models are trained: the environment `finetune`, and base models unpacked for it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.core.interfaces import BaseModel, Report
from portico_server.engines.environments.built import look, require
from portico_server.engines.environments.environments import Environments
from portico_server.engines.environments.recipe import RECIPES
from portico_server.engines.transformers.unpacked import unpacked
from portico_server.settings import Settings

logger = logging.getLogger(__name__)

NAME = "finetune"
"""Of the environment."""

OPTIONAL = frozenset(("bitsandbytes", "deepspeed", "flash_attn"))
"""Packages that a recipe makes use of where they are."""

UNPACKED = "unpacked"
"""The folder below the home with models that were unpacked."""

SPARE = 256 * 1024 * 1024
"""Bytes that stay free on the disk."""


class ModelWorkshop:
    """See `portico_server.core.interfaces.TrainingEnvironment`."""

    def __init__(self, settings: Settings, environments: Environments) -> None:
        self._settings = settings
        self._environments = environments

    def packages(self) -> frozenset[str]:
        """The optional packages that the environment has on this machine, or will have: see `OPTIONAL`."""
        return RECIPES[NAME].pinned & OPTIONAL

    async def interpreter(self, report: Report) -> Path:
        """Of the environment, built on first use where that is allowed."""
        recipe = RECIPES[NAME]
        place = self._settings.environments / NAME
        if (await pools.MODELS.run(look, place, recipe)).state == "absent":
            if reason := recipe.unsuited():
                raise Unavailable(f"Nothing can be trained here: {reason}.", code="engine_unsuited")
            await report("environment", f"The environment '{NAME}' is needed, about {recipe.gigabytes:g} GB")
            await self._environments.furnish(NAME, lambda told: logger.info("%s", told.message))
        return await pools.MODELS.run(require, place, recipe)

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """The model's own folder, or what was made of its GGUF file: 16 bits for each parameter."""
        if base.format == "safetensors":
            return base.path
        place = self._settings.home / UNPACKED
        needed = 2 * base.parameters + SPARE
        free = (await pools.MODELS.run(shutil.disk_usage, self._settings.home)).free
        if free < needed and not await pools.MODELS.run(_any_unpacked, place, base.path):
            raise Unavailable(
                f"To train '{base.name}' it is unpacked first, which takes {needed / 1e9:.1f} GB; {place} has "
                f"{free / 1e9:.1f} GB. Make room, or train a smaller model.",
                code="disk_full",
            )
        return await unpacked(base.path, place, python, report)


def _any_unpacked(place: Path, gguf: Path) -> bool:
    """Whether this file, or an earlier one of its name, was unpacked there."""
    return any(place.glob(f"{gguf.stem}-*"))
