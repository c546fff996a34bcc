"""The features of the daemon: the table of their declarations, and the services that they build."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from functools import cache, partial
from operator import attrgetter
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import NotFound
from portico_server.core.feature import ConfigurationKey, Feature
from portico_server.db import runs
from portico_server.db.specs import has_any

if TYPE_CHECKING:
    from portico_server.db.database import Database
    from portico_server.runs.scheduler import Scheduler

T = TypeVar("T")

FEATURES: Final[Mapping[str, str]] = {
    "anthropic": "portico_server.features.anthropic.feature",
    "responses": "portico_server.features.responses.feature",
    "realtime": "portico_server.features.realtime.feature",
    "media": "portico_server.features.media.feature",
    "oauth": "portico_server.features.oauth.feature",
    "webhooks": "portico_server.features.webhooks.feature",
    "ollama": "portico_server.features.ollama.feature",
    "a2a": "portico_server.features.a2a.feature",
    "ag_ui": "portico_server.features.ag_ui.feature",
    "stores": "portico_server.features.stores.feature",
    "files": "portico_server.features.files.feature",
    "stored_chats": "portico_server.features.stored_chats.feature",
    "sandbox": "portico_server.features.sandbox.feature",
    "tools": "portico_server.features.tools.feature",
    "mcp_servers": "portico_server.features.mcp_servers.feature",
    "prompts": "portico_server.features.prompts.feature",
    "skills": "portico_server.features.skills.feature",
    "agents": "portico_server.features.agents.feature",
    "public_links": "portico_server.features.agents.public_links_feature",
    "flows": "portico_server.features.flows.feature",
    "apps": "portico_server.features.apps.feature",
    "package": "portico_server.features.package.feature",
    "schedules": "portico_server.features.schedules.feature",
    "training": "portico_server.features.training.feature",
    "evals": "portico_server.features.evals.feature",
    "canaries": "portico_server.features.canaries.feature",
    "distil": "portico_server.features.distil.feature",
    "batches": "portico_server.features.batches.feature",
    "guards": "portico_server.features.guards.feature",
    "backup": "portico_server.features.backup.feature",
}
"""The name of each feature, and the module that declares it.

A feature follows the features that it needs, and those to whose entries in a configuration its own entries can refer.
"""

OFF: frozenset[str] = frozenset()
"""Features that the daemon does not have. Their routes answer 404."""


@cache
def declarations() -> tuple[Feature, ...]:
    """Return the declarations of the daemon's features, in the order of the table."""
    return tuple(feature for feature in _all_declarations() if feature not in absent())


@cache
def absent() -> tuple[Feature, ...]:
    """Return the declarations of all features that are off or that need a feature that is off."""
    off: dict[str, Feature] = {}
    for feature in _all_declarations():
        if feature.name in OFF or not off.keys().isdisjoint(feature.needs):
            off[feature.name] = feature
    return tuple(off.values())


@cache
def configuration_keys() -> tuple[ConfigurationKey, ...]:
    """Return the keys of the configuration that belong to features, in the order of the table: entries can refer to
    entries of earlier keys.
    """
    return tuple(key for feature in declarations() for key in feature.keys)


def absent_feature(key: str) -> str | None:
    """Return the name of the feature that is off to which a key of the configuration belongs."""
    keys = ((feature.name, own_key) for feature in absent() for own_key in feature.keys)
    return next((name for name, own_key in keys if key in (own_key.name, *own_key.also)), None)


def not_there(feature: str) -> NotFound:
    """Return the error for what belongs to a feature that is off."""
    return NotFound(
        f"This daemon does not have the feature '{feature}'. Ask the operator of the daemon to switch it on.",
        code="feature_not_found",
    )


class CoreServices(Protocol):
    """The services of the daemon that every feature can declare work for."""

    database: Database
    scheduler: Scheduler


class Features:
    """Builds and holds the services of the features. The first request for a service builds it and all that it needs.

    Each service is built from ``services``, the services of the daemon.
    """

    def __init__(self, services: CoreServices) -> None:
        self._services = services
        self._instances: dict[str, Any] = {}
        self._reconcilers: dict[str, Any] = {}
        self._set_keys: set[str] = set()

    def get(self, name: str, kind: type[T]) -> T:
        """Return the service of a feature. Raise `NotFound` if the feature is off."""
        service = self.find(name)
        assert isinstance(service, kind)
        return service

    def find(self, name: str) -> Any:
        """Return the service of a feature that a declaration names. Raise `NotFound` if the feature is off."""
        if name not in self._instances:
            feature = declarations_by_name().get(name)
            if feature is None:
                raise not_there(name)
            for needed in feature.needs:
                self.find(needed)
            self._instances[name] = resolve_name(feature.service)(self._services)
        return self._instances[name]

    def find_built(self, name: str) -> Any:
        """Return the service of a feature, or ``None`` if nothing has asked for it yet."""
        return self._instances.get(name)

    async def load(self, name: str) -> Any:
        """Return the service of a feature like `find`, but import its modules outside the event loop."""
        if name not in self._instances and (feature := declarations_by_name().get(name)) is not None:
            for needed in feature.needs:
                await self.load(needed)
            if feature.service:
                await pools.LOADING.run(resolve_name, feature.service)
        return self.find(name)

    async def reconciler(self, key: ConfigurationKey) -> Any:
        """Return the `KeyReconciler` of a key of the configuration. The first call imports and builds it."""
        if key.name not in self._reconcilers:
            build = await pools.LOADING.run(resolve_name, key.reconciler)
            self._reconcilers.setdefault(key.name, build(self._services))
        return self._reconcilers[key.name]

    async def begin(self, entries: Mapping[str, Sequence[Any]]) -> None:
        """Apply the entries of the daemon's own file when it starts."""
        for key in configuration_keys():
            specs = entries.get(key.name, ())
            if key.reconciler and (specs or key.always_begins or await self._has_rows(key)):
                await (await self.reconciler(key)).begin(specs)

    async def _has_rows(self, key: ConfigurationKey) -> bool:
        return bool(key.table) and await self._services.database.read(has_any, resolve_name(key.table))

    def set_entries(self, entries: Mapping[str, Sequence[Any]]) -> None:
        """Set the entries of the daemon's own file for the keys that have a setter."""
        for key in configuration_keys():
            specs = entries.get(key.name, ())
            if key.setter and (specs or key.name in self._set_keys):
                self._set_keys.add(key.name)
                resolve_name(key.setter)(self._services, specs)

    def start(self) -> None:
        """Build the services that do work of their own, and register the runs of all features."""
        for feature in declarations():
            if feature.background:
                self.find(feature.name)
            for durable_runs in feature.runs:
                self._services.scheduler.handle(
                    durable_runs.kind,
                    partial(self._work, feature.name, durable_runs.handler),
                    concurrency=durable_runs.concurrency,
                    is_shared=durable_runs.is_shared,
                    is_owned=durable_runs.is_owned,
                    bound=durable_runs.is_bound,
                )

    async def clean_up(self) -> None:
        """Remove what an interrupted daemon has left."""
        for feature in declarations():
            await self._call(feature, feature.clean_up)

    async def settle(self) -> None:
        """Finish the work of features whose runs were ended elsewhere."""
        for feature in declarations():
            await self._call(feature, feature.settle)

    async def revoke(self, key_id: str) -> None:
        """End the work of features for a revoked key."""
        for feature in declarations():
            await self._call(feature, feature.revoke, key_id)

    async def _call(self, feature: Feature, path: str, *arguments: str) -> None:
        if not path:
            return
        kinds = [durable_runs.kind for durable_runs in feature.runs]
        if await self._services.database.read(runs.any_of, kinds):
            await attrgetter(path)(await self.load(feature.name))(*arguments)

    async def _work(self, name: str, handler: str, payload: Mapping[str, Any], context: Context) -> Any:
        return await attrgetter(handler)(await self.load(name))(payload, context)

    def claiming_tasks(self) -> list[str]:
        """Return the names of the background work that starts durable runs."""
        return [work.name for feature in declarations() for work in feature.background if work.starts_runs]

    def background(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return the background work of the features, by name."""
        return {
            work.name: attrgetter(work.run)(self.find(feature.name))()
            for feature in declarations()
            for work in feature.background
        }


@cache
def declarations_by_name() -> Mapping[str, Feature]:
    """Return the declarations of the daemon's features by name, in the order of the table."""
    return {feature.name: feature for feature in declarations()}


@cache
def _all_declarations() -> tuple[Feature, ...]:
    return tuple(resolve_name(f"{module}:FEATURE") for module in FEATURES.values())
