"""Trials of a search: what each would be, checked before any of them is run, and in what order they stand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable
from portico_server.db.evals import EvalRunRow
from portico_server.evals import source, statistics
from portico_server.evals.axes import Settings
from portico_server.evals.override import INTO, TUNING, of_apps, of_training, overridden
from portico_server.evals.prepare import check
from portico_server.evals.source import DataSource
from portico_server.evals.spec import STOPPED, EvalServices


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial asks, and of which apps as they would be; ``wish`` is what is trained for it first, if anything."""

    settings: Settings
    source: DataSource
    instead: Mapping[str, Servable]
    wish: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """What tells the trainings of a search apart."""
        return hashlib.sha256(json.dumps(self.wish, sort_keys=True).encode()).hexdigest()[:32]


class Trials:
    """Makes trials for a caller; what several share is looked at once."""

    def __init__(
        self,
        place: EvalServices,
        base: Mapping[str, Any],
        tuning: Mapping[str, Any] | None,
        caller: Principal,
    ) -> None:
        self._place = place
        self._base = base
        self._tuning = tuning
        self._caller = caller
        self._sources: dict[str, DataSource] = {}
        self._apps: dict[str, Servable] = {}
        self._wishes: set[str] = set()

    async def make(self, settings: Settings, trained: str = "") -> Trial:
        """One of them, with the model that was ``trained`` for it, or in its place the one that it is made from.

        Raises `PorticoError` with the path of what is wrong.
        """
        wish = await self._wish(settings)
        given = settings
        if wish is not None:
            assert self._tuning is not None
            settings = {**settings, str(self._tuning.get(INTO) or "model"): trained or wish.get("model")}
        document = overridden(self._base, settings)
        key = json.dumps(document, sort_keys=True)
        if key not in self._sources:
            read = source.read(document)
            await check(self._place, read, self._caller)
            self._sources[key] = read
        changes = of_apps(settings, self._place.variants.known(self._caller))
        instead = {name: await self._app(name, made) for name, made in changes.items()}
        return Trial(given, self._sources[key], instead, wish)

    async def _wish(self, settings: Settings) -> Mapping[str, Any] | None:
        """What is trained with these settings, checked."""
        if self._tuning is None:
            path = next((path for path in settings if path.startswith(TUNING)), None)
            if path is None:
                return None
            raise InvalidRequest(
                f"'{path}' is a setting of a training: say under 'fine_tuning' what is trained, with 'model' and "
                "'training_file' as a fine-tuning job has them.",
                param="fine_tuning",
            )
        wish = of_training(self._tuning, settings)
        key = json.dumps(wish, sort_keys=True)
        if key not in self._wishes:
            await self._place.trains.check(wish, self._caller)
            self._wishes.add(key)
        return wish

    async def _app(self, name: str, changes: Mapping[str, Any]) -> Servable:
        key = json.dumps([name, changes], sort_keys=True)
        if key not in self._apps:
            try:
                self._apps[key] = await self._place.variants.variant(name, changes, self._caller)
            except (InvalidRequest, NotFound) as error:
                error.param = f"parameters.apps.{name}"
                error.message = f"apps.{name}: {error.message}"
                raise
        return self._apps[key]


def ranked(rows: Sequence[EvalRunRow], objective: str, direction: str) -> list[EvalRunRow]:
    """The best first; of two alike the one with fewer tokens. Those that were given up or failed come behind."""

    def order(row: EvalRunRow) -> tuple[int, float, int, str]:
        value = statistics.of(row.tally, objective).value
        place = {"failed": 3, STOPPED: 1}.get(row.status, 0)
        if value is None:
            return (max(place, 2), 0.0, 0, row.id)
        return (place, -value if direction == "maximize" else value, statistics.tokens(row.tally), row.id)

    return sorted(rows, key=order)


def told(error: PorticoError) -> dict[str, Any]:
    """An error as a row keeps it."""
    return {"code": error.code or "error", "message": error.message}
