"""Builds the service of the feature `tuning`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from portico_server.api.openai.fine_tuning_shapes import spec_of
from portico_server.api.services import ApiServices
from portico_server.core.base_models import BaseModel
from portico_server.finetune.fake_trainer import FakeTrainer
from portico_server.finetune.jobs import FineTuningJobs
from portico_server.finetune.local_trainer import LocalTrainer
from portico_server.finetune.search_jobs import SearchJobs
from portico_server.finetune.spec import FineTuningSpec
from portico_server.finetune.training_events import Trainer

if TYPE_CHECKING:
    from portico_server.runs.quotas import StorageQuota
    from portico_server.tools.builtin import CodeTools


class TuningServices(ApiServices, Protocol):
    """The services of the daemon that fine-tuning uses. ``trainer`` replaces the daemon's own trainers."""

    code: CodeTools
    storage: StorageQuota
    trainer: Callable[[BaseModel], Trainer] | None


def build(services: TuningServices) -> FineTuningJobs:
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
