"""Trials of a search: all are checked before any of them runs, and they are ranked by their results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    PorticoError,
)
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable
from portico_server.db.evals import EvalRunRow
from portico_server.features.evals import source, statistics
from portico_server.features.evals.axes import Settings
from portico_server.features.evals.prepare import check
from portico_server.features.evals.source import DataSource
from portico_server.features.evals.spec import STOPPED, EvalServices
from portico_server.features.evals.trial_changes import INTO, TUNING, of_apps, of_training, overridden


@dataclass(frozen=True, slots=True)
class PreparedTrial:
    """A trial's data source, and the variants of apps that it uses (``instead``). ``training`` is the training job
    that must run first, if any.
    """

    settings: Settings
    source: DataSource
    instead: Mapping[str, Servable]
    training: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """The key that identifies a training job within its search."""
        return hashlib.sha256(json.dumps(self.training, sort_keys=True).encode()).hexdigest()[:32]


class Trials:
    """Prepares trials for a caller. A check that several trials share is made only once."""

    def __init__(
        self,
        services: EvalServices,
        base: Mapping[str, Any],
        tuning: Mapping[str, Any] | None,
        caller: Principal,
    ) -> None:
        self._services = services
        self._base = base
        self._tuning = tuning
        self._caller = caller
        self._sources: dict[str, DataSource] = {}
        self._apps: dict[str, Servable] = {}
        self._checked_trainings: set[str] = set()

    async def make(self, settings: Settings, trained_model: str = "") -> PreparedTrial:
        """Return the trial for ``settings`` with its ``trained_model`` or, if none is given, with the base model.

        Raises `PorticoError` with the path of the invalid setting.
        """
        training = await self._training(settings)
        trial_settings = settings
        if training is not None:
            assert self._tuning is not None
            settings = {
                **settings,
                str(self._tuning.get(INTO) or "model"): trained_model or training.get("model"),
            }
        document = overridden(self._base, settings)
        key = json.dumps(document, sort_keys=True)
        if key not in self._sources:
            read = source.read(document)
            await check(self._services, read, self._caller)
            self._sources[key] = read
        changes = of_apps(settings, self._services.variants.names(self._caller))
        instead = {name: await self._app(name, changed_spec) for name, changed_spec in changes.items()}
        return PreparedTrial(trial_settings, self._sources[key], instead, training)

    async def _training(self, settings: Settings) -> Mapping[str, Any] | None:
        """Return the checked training job for these settings, or ``None`` if the search trains no models."""
        if self._tuning is None:
            path = next((path for path in settings if path.startswith(TUNING)), None)
            if path is None:
                return None
            raise InvalidRequest(
                f"'{path}' is a setting of a training job: define the job in 'fine_tuning', with 'model' and "
                "'training_file' as in a fine-tuning job.",
                param="fine_tuning",
            )
        training = of_training(self._tuning, settings)
        key = json.dumps(training, sort_keys=True)
        if key not in self._checked_trainings:
            trainer = await self._services.find_trainer()
            await trainer.check(training, self._caller)
            self._checked_trainings.add(key)
        return training

    async def _app(self, name: str, changes: Mapping[str, Any]) -> Servable:
        key = json.dumps([name, changes], sort_keys=True)
        if key not in self._apps:
            try:
                self._apps[key] = await self._services.variants.variant(name, changes, self._caller)
            except (Forbidden, InvalidRequest, NotFound) as error:
                error.param = f"parameters.apps.{name}"
                error.message = f"apps.{name}: {error.message}"
                raise
        return self._apps[key]


def rank_trials(rows: Sequence[EvalRunRow], objective: str, direction: str) -> list[EvalRunRow]:
    """Return the trials, best first. Among equal trials, the one that used fewer tokens comes first. Abandoned and
    failed trials come last.
    """

    def order(row: EvalRunRow) -> tuple[int, float, int, str]:
        value = statistics.of(row.tally, objective).value
        place = {"failed": 3, STOPPED: 1}.get(row.status, 0)
        if value is None:
            return (max(place, 2), 0.0, 0, row.id)
        return (place, -value if direction == "maximize" else value, statistics.tokens(row.tally), row.id)

    return sorted(rows, key=order)


def error_document(error: PorticoError) -> dict[str, Any]:
    """Return an error in the form stored in a row."""
    return {"code": error.code or "error", "message": error.message}
