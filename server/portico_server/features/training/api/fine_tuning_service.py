"""Builds the service of the feature `training`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.api.services import BuildServices
from portico_server.features.training.api.fine_tuning_shapes import spec_of
from portico_server.features.training.fake_trainer import FakeTrainer
from portico_server.features.training.jobs import FineTuningJobs
from portico_server.features.training.local_trainer import LocalTrainer
from portico_server.features.training.search_jobs import SearchJobs
from portico_server.features.training.spec import FineTuningSpec


def build(services: BuildServices) -> FineTuningJobs:
    """Return the service of the feature."""
    settings, models = services.settings, services.models
    local = LocalTrainer(
        models.training_environment,
        services.code.light,
        settings.logs,
        nice=settings.finetune_nice,
        answering=models.deployments.answering if settings.finetune_yields else None,
        find_launcher=models.launchers.get,
        replace_s=settings.launcher_replace,
    )
    jobs = FineTuningJobs(
        services.database,
        services.registry,
        services.runner,
        services.scheduler,
        models.bases,
        services.files,
        services.stores,
        services.trainer or (lambda base: FakeTrainer() if base.format == "script" else local),
        settings.home / "finetune",
        models.training_environment.packages(),
        settings.tuning_poll,
        services.storage,
        settings.launcher,
    )
    jobs.trials = SearchJobs(jobs, _search_spec)
    return jobs


def _search_spec(body: Mapping[str, Any]) -> FineTuningSpec:
    return spec_of(body, "fine_tuning")
