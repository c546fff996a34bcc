"""Describes what a job would do, without running it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from portico_server.core import pools
from portico_server.core.base_models import BaseModel
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.features.training.job_context import JobContext
from portico_server.features.training.job_files import examine_files
from portico_server.features.training.recipe_choice import choose_recipe
from portico_server.features.training.spec import DataFacts, FineTuningSpec, TrainingRecipe


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A description of what a job would do, without running it."""

    base: BaseModel
    facts: DataFacts
    recipe: TrainingRecipe
    warnings: tuple[str, ...]


async def make_plan(place: JobContext, spec: FineTuningSpec, caller: Principal, context: Context) -> JobPlan:
    """Check the files and choose the recipe, in a temporary folder."""
    folder = Path(await pools.TRAINING.run(_make_folder, place.folder))
    try:
        base, data, warnings, _app_state = await examine_files(place, spec, folder, context, caller, context)
    finally:
        await asyncio.shield(pools.TRAINING.run(shutil.rmtree, folder, ignore_errors=True))
    machine = await place.bases.machine()
    recipe = choose_recipe(
        base,
        data.facts,
        machine,
        spec.method,
        spec.hyperparameters,
        spec.overrides,
        seed=spec.seed,
        packages=place.packages,
        resources=place.scheduled(spec),
    )
    return JobPlan(base, data.facts, recipe, warnings)


def _make_folder(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="plan-", dir=folder)
