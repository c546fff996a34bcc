"""Builds the service of the feature `evals`."""

from __future__ import annotations

from portico_server.api.services import BuildServices
from portico_server.core import filter as filters
from portico_server.core.base_models import TrialTrainer
from portico_server.core.dataclass import dataclass
from portico_server.features.apps.variants import DeployedVariants
from portico_server.features.evals.evals import Evaluations, LiveGrading
from portico_server.features.evals.improvements import Improvements
from portico_server.features.evals.runs import EvalRuns
from portico_server.features.evals.searches import EvalSearches
from portico_server.features.evals.spec import EvalServices
from portico_server.features.stores.store_groups import StoreGroups
from portico_server.runs.run_end import RunEnds
from portico_server.runs.throttle import Throttle


@dataclass(frozen=True, slots=True)
class EvaluationService:
    """The parts of the feature. ``live`` grades answers to live calls."""

    evals: Evaluations
    runs: EvalRuns
    searches: EvalSearches
    improvements: Improvements
    live: LiveGrading


def build(services: BuildServices) -> EvaluationService:
    """Return the service of the feature."""
    settings, stores = services.settings, services.stores

    async def find_trainer() -> TrialTrainer:
        trainer: TrialTrainer = (await services.features.load("training")).trials
        return trainer

    around = EvalServices(
        services.database,
        services.registry,
        services.runner,
        services.scheduler,
        services.files,
        services.code.light,
        DeployedVariants(services.apps),
        find_trainer,
        filters.parse,
        stores,
        StoreGroups(stores, RunEnds(services.database, services.runner, services.scheduler)),
        Throttle(services.registry, services.runner, on=settings.batch_yields).wait_for_idle,
        settings.eval_concurrency,
    )
    evals = Evaluations(services.database, services.registry, services.storage)
    runs = EvalRuns(around, evals)
    return EvaluationService(
        evals,
        runs,
        EvalSearches(around, evals, runs.slots),
        Improvements(around, evals, runs.slots),
        LiveGrading(around, evals, runs.slots),
    )
