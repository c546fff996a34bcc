"""All models of the daemon: adds, changes, removes, loads and unloads them."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from portico.schemas.deployments import BetterTask
from portico_server.core import pools
from portico_server.core.errors import Conflict, InvalidRequest, PorticoError
from portico_server.core.registry import Registry
from portico_server.core.servable import Card
from portico_server.db import canaries
from portico_server.db import models as rows
from portico_server.db.database import Database
from portico_server.launchers.launchers import Launchers
from portico_server.models.adapter_export import AdapterExports
from portico_server.models.adapters.service import AdapterService
from portico_server.models.aliases import ModelAliases
from portico_server.models.better_model import BetterModelOffer
from portico_server.models.built_in import BUILT_IN, BuiltInModels
from portico_server.models.catalog import engine_for, gpu_engines
from portico_server.models.deployment_factory import DeploymentFactory
from portico_server.models.deployments import Deployments
from portico_server.models.downloads import ModelDownloads
from portico_server.models.environments.installed import Environments
from portico_server.models.idle_unload import IdleUnload
from portico_server.models.local_machine import LocalMachine
from portico_server.models.memory import Residency
from portico_server.models.sources import ModelFetcher, require_file
from portico_server.models.spec import DeploymentInfo, ModelSpec
from portico_server.models.startup_progress import unheard
from portico_server.models.trained_models import TrainedModels
from portico_server.models.training import ModelBases
from portico_server.models.training_environment import ModelTrainingEnvironment
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import Settings

if TYPE_CHECKING:
    from portico_server.models.plan.outcome import PlanOutcome
    from portico_server.models.plan.planner import Planner


logger = logging.getLogger(__name__)


class ModelService:
    """The deployments of this daemon. `close` stops everything that it starts."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        settings: Settings,
    ) -> None:
        self._database = database
        self._registry = registry
        self._settings = settings
        self._fetcher = ModelFetcher(settings)
        self.deployments = Deployments(registry)
        self._stored_names: set[str] = set()
        """Names of models that are stored in the database."""
        self.launchers = Launchers(settings)
        self._adopting: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self.machine = LocalMachine(settings)
        self.residency = Residency(self.machine.budget, self.machine.gpus, self.machine.gpu_use)
        self.environments = Environments(
            settings.environments,
            scheduler,
            runner,
            index=settings.pypi_index,
            offline=settings.offline,
            on_demand=settings.install_engines,
        )
        self.adapters = AdapterService(
            database,
            registry,
            settings.adapters,
            self.deployments.find,
            lambda name: self._built_in.restore(name),
        )
        self.factory = DeploymentFactory(
            settings,
            registry,
            self._fetcher,
            self.residency,
            self.launchers,
            self.environments,
            self.adapters,
        )
        self._built_in: BuiltInModels = BuiltInModels(registry, self.deployments, self.factory)
        self.aliases = ModelAliases(database, registry, self.deployments, self.adapters)
        self._idle = IdleUnload(self.deployments, settings.keep_alive)
        self.training_environment = ModelTrainingEnvironment(settings, self.environments)
        self.trained = TrainedModels(settings, self.training_environment, self.spec, self.add)
        self.bases = ModelBases(
            self.deployments.find,
            lambda: list(self.deployments),
            self._fetcher,
            self.adapters,
            self.trained,
            self.aliases.set,
        )
        self.exports = AdapterExports(scheduler, self.adapters, self.bases, self.training_environment)
        self.downloads = ModelDownloads(self._fetcher, scheduler, self.deployments)
        parts = (self, self.machine, self._fetcher, database, scheduler, settings)
        self.better = BetterModelOffer(*parts, BUILT_IN[0], "chat", "better-model")
        self.offers: Mapping[BetterTask, BetterModelOffer] = {
            "chat": self.better,
            "embedding": BetterModelOffer(*parts, BUILT_IN[1], "embedding", "better-embedding-model"),
        }

    async def start(self) -> None:
        """Register the built-in models, the models in the database, and their adapters. Does not load or fetch any
        model.
        """
        for spec in BUILT_IN:
            self._built_in.offer(spec)
        for row in await self._database.read(rows.list_models):
            try:
                spec = ModelSpec.from_json(row.spec)
                self.deployments.enter(self.factory.make(spec, row.owner, row.created_at))
                self._stored_names.add(row.name)
            except PorticoError as error:
                logger.error("skipping the model %s: %s", row.name, error.message)
        await self.adapters.start()
        await self.aliases.start()
        self._idle.start()
        self.launchers.start()
        self._adopting = asyncio.create_task(self._adopt(), name="take over engines on other machines")
        self.machine.start()

    async def refresh(self) -> None:
        """Load the models and aliases that other daemons on the same database have added, and drop the removed ones.

        Names from this daemon's configuration are kept. Calls in flight end before the old models are unloaded.
        """
        async with AsyncExitStack() as endings, self._changing:
            kept_names = set(self._stored_names)
            spec_rows = {row.name: row for row in await self._database.read(rows.list_models)}
            for name in kept_names:
                known_deployment, row = self.deployments.get(name), spec_rows.get(name)
                if row is None or (
                    known_deployment is not None and known_deployment.spec.to_json() != row.spec
                ):
                    self._stored_names.discard(name)
                    if known_deployment is not None:
                        self.deployments.withdraw(known_deployment)
                        endings.push_async_callback(known_deployment.unload)
                        self._built_in.restore(name)
            for name, row in spec_rows.items():
                if name in self.deployments:
                    continue
                try:
                    spec = ModelSpec.from_json(row.spec)
                    deployment = self.factory.make(spec, row.owner, row.created_at)
                    await self._built_in.retire({name, *spec.aliases})
                    self.deployments.enter(deployment)
                    await self.adapters.configure(name, spec.adapters)
                    self._stored_names.add(name)
                except PorticoError as error:
                    logger.error("skipping the model %s of another daemon: %s", name, error.message)
            await self.aliases.refresh()
            self._built_in.restore("")

    def get(self, name: str) -> DeploymentInfo:
        """Return one deployment by name or alias. Raise `NotFound`."""
        deployment = self.deployments.require(name)
        aliases = tuple(
            sorted(a for a, target in self._registry.aliases.items() if target == deployment.spec.name)
        )
        return deployment.info(aliases)

    def card(self, name: str) -> Card:
        """Return the registry's card of one deployment. Raise `NotFound`."""
        return self.deployments.require(name).card

    def logs(self, name: str, lines: int) -> list[str]:
        """Return the last lines of a model's engine log. Raise `NotFound`."""
        return self.deployments.require(name).log(lines)

    def source_of(self, name: str) -> str | None:
        """Return the source of a deployment by name or alias, or ``None`` if the name does not exist."""
        deployment = self.deployments.find(name)
        return deployment.spec.source if deployment is not None else None

    async def put_in_place(self, spec: ModelSpec, alias: str) -> None:
        """Add a model unless it exists, load it, and then point ``alias`` at it permanently.

        If the model cannot be loaded, raise the error; if this call added the model, remove it again.
        """
        model_spec = self.spec(spec.name)
        if model_spec is None:
            await self.add(spec)
        try:
            await self.load(spec.name)
        except BaseException:
            if model_spec is None:
                await self.remove(spec.name)
            raise
        await self.aliases.set(alias, spec.name)

    async def plan(self, model: str, hardware: str, parameters: Mapping[str, Any]) -> PlanOutcome:
        """Return how a model or source would run on this machine or the preset ``hardware``, and why.

        ``parameters`` take precedence over the parameters of the model's spec. Raise `InvalidRequest`, or `NotFound`.
        """
        deployment = self.deployments.find(model)
        spec = deployment.spec if deployment else ModelSpec(model.rpartition("/")[2] or model, model)
        module = await pools.LOADING.run(importlib.import_module, "portico_server.models.plan.planner")
        planner: Planner = module.Planner(self._fetcher, self._settings, engine_for, gpu_engines)
        budget = None if hardware else (await self.machine.budget()).limit
        return await planner.plan(spec, hardware, {**spec.parameters, **parameters}, budget)

    async def add(
        self, spec: ModelSpec, *, owner: str | None = None, keep: bool = True, is_here: bool = True
    ) -> DeploymentInfo:
        """Register a model. ``keep`` writes it to the database; otherwise, the configuration defines it at each start.

        ``is_here`` means that a source that is a file must already exist. If an alias has this name, the name then
        means the model. Raise `Conflict` for a name that is in use, `InvalidRequest` for a spec that cannot work.
        """
        known_deployment = self.deployments.get(spec.name)
        if known_deployment is not None and keep:
            raise Conflict(
                f"The model '{spec.name}' already exists ({known_deployment.spec.source}). Remove it first, "
                "or choose another name.",
                param="name",
            )
        # created before the old deployment is removed, because creating it can raise
        deployment = self.factory.make(spec, owner, time.time())
        for source in spec.sources if is_here else ():
            await pools.MODELS.run(require_file, source)
        # The configuration takes precedence over models that were added while the daemon ran.
        new = keep and known_deployment is None and spec.name not in self._registry.aliases
        names, aliases = [spec.name] if new else [], spec.aliases if keep else ()
        async with self._registry.claims.hold(owner, *names, aliases=aliases):
            if known_deployment is not None:
                await self.remove(spec.name, forget=False)
            await self._built_in.retire({spec.name, *spec.aliases})
            self.deployments.enter(deployment)
        try:
            await self.adapters.configure(spec.name, spec.adapters)
            if keep:
                await self._database.write(rows.put_model, spec.name, owner, spec.to_json())
                self._stored_names.add(spec.name)
        except BaseException:
            await self.adapters.configure(spec.name, ())
            await self.remove(spec.name, forget=False)
            self._built_in.restore(spec.name)
            raise
        return self.get(spec.name)

    def is_stored(self, name: str) -> bool:
        """Return whether the database defines a model, rather than the configuration."""
        return name in self._stored_names

    async def change(self, name: str, parameters: Mapping[str, Any]) -> DeploymentInfo:
        """Set parameters of a model that was added while the daemon ran. A value of ``None`` removes a parameter.

        The next call starts the model with the new parameters, while calls in flight end with the old ones. Raise
        `NotFound`, `Conflict` for a model of the configuration, `InvalidRequest` for parameters that the engine
        rejects.
        """
        async with self._changing:  # a second change is based on the first
            stored_names = {row.name for row in await self._database.read(rows.list_models)}
            deployment = self.deployments.require(name)
            if deployment.spec.name not in stored_names:
                raise Conflict(
                    f"The model '{deployment.spec.name}' comes with Portico or from the configuration, so the "
                    "next start would reset it: set its 'parameters' in the configuration.",
                    code="configured",
                    param="name",
                )
            merged_parameters = {**deployment.spec.parameters, **parameters}
            spec = replace(
                deployment.spec,
                parameters={key: value for key, value in merged_parameters.items() if value is not None},
            )
            self.factory.check(spec)
            successor = self.factory.make(spec, deployment.owner, time.time())
            await self._database.write(rows.put_model, spec.name, deployment.owner, spec.to_json())
            if self.deployments.get(spec.name) is deployment:
                self.deployments.withdraw(deployment)  # its aliases stay
                self.deployments.enter(successor)
        await deployment.unload()
        return self.get(spec.name)

    def spec(self, name: str) -> ModelSpec | None:
        """Return the spec of a model, including its key, or ``None`` if no model has this name."""
        deployment = self.deployments.get(name)
        return deployment.spec if deployment is not None else None

    async def lacks_file(self, spec: ModelSpec) -> bool:
        """Return whether a source of the model is a file that is missing."""
        try:
            for source in spec.sources:
                await pools.MODELS.run(require_file, source)
        except InvalidRequest:
            return True
        return False

    async def remove(self, name: str, *, forget: bool = True) -> None:
        """Remove a model after its calls in flight have ended. Raise `NotFound`."""
        deployment = self.deployments.require(name)
        name = deployment.spec.name
        if forget:
            await self._database.read(canaries.require_unused, name)
        self.deployments.withdraw(deployment)
        if forget:
            self._stored_names.discard(name)
            await self._database.write(rows.remove_model, name)
            self._built_in.restore(name)
        await deployment.unload()
        if forget:
            await self.trained.forget(deployment.spec)

    async def load(self, name: str) -> DeploymentInfo:
        """Fetch and start a model unless it runs. Raise `NotFound`, or the error if it cannot be loaded."""
        await self.deployments.require(name).load()
        return self.get(name)

    async def unload(self, name: str) -> DeploymentInfo:
        """Free a model's memory after its calls in flight have ended. Raise `NotFound`."""
        await self.deployments.require(name).unload()
        return self.get(name)

    async def _adopt(self) -> None:
        """Take over the engines that an earlier daemon left running on a scheduler, and stop unneeded engines."""
        try:
            names = await self.launchers.leftovers()
            deployments = [self.deployments[name] for name in names if name in self.deployments]
            processes = [process for deployment in deployments for process in deployment.pool.processes]
            await asyncio.gather(*(process.load(unheard) for process in processes), return_exceptions=True)
        except PorticoError as error:
            logger.warning("engines on other machines could not be taken over: %s", error.message)
        finally:
            await self.launchers.end_leftovers()

    async def close(self) -> None:
        """Stop all processes immediately and close all connections."""
        await self._idle.close()
        if self._adopting is not None:
            self._adopting.cancel()
            await asyncio.wait([self._adopting])
        await self.machine.close()
        await asyncio.gather(*(deployment.close() for deployment in self.deployments.values()))
        await self.launchers.close()
        await self._fetcher.close()
        await self.factory.close()

    # Must be the last method of the class: later annotations would refer to this method instead of the
    # built-in `list`.
    def list(self) -> list[DeploymentInfo]:
        """Return all deployments, by name."""
        return [self.get(name) for name in sorted(self.deployments)]
