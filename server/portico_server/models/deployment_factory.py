"""Creates deployments from specs, with the source of each of their processes."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.core.registry import Registry
from portico_server.launchers.launchers import Launchers
from portico_server.launchers.protocol import Launcher, Resources
from portico_server.launchers.several_nodes import NODES_LAUNCHER
from portico_server.models import prices
from portico_server.models.adapters.service import AdapterService
from portico_server.models.catalog import engine_for
from portico_server.models.deployment import Deployment, ModelOrigin
from portico_server.models.environments.installed import Environments
from portico_server.models.memory import Residency
from portico_server.models.protocol import Engine, LaunchContext, PlansGpus
from portico_server.models.sources import ModelFetcher, Progress, parse_source, require_file
from portico_server.models.spec import ModelSpec
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    from portico_server.models.transport import EngineTransport


class DeploymentFactory:
    """Creates deployments that share memory, launchers, environments, prices and connections."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        fetcher: ModelFetcher,
        residency: Residency,
        launchers: Launchers,
        environments: Environments,
        adapters: AdapterService,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._fetcher = fetcher
        self._residency = residency
        self._launchers = launchers
        self._environments = environments
        self._adapters = adapters
        self._prices = (
            prices.read_prices(Path(settings.prices).expanduser()) if settings.prices else prices.Prices()
        )
        self._transport: EngineTransport | None = None
        self._transport_lock = asyncio.Lock()

    def check(self, spec: ModelSpec) -> None:
        """Raise `InvalidRequest` for an invalid spec."""
        self.make(spec, None, 0.0)
        for source in spec.sources:
            require_file(source)

    def make(self, spec: ModelSpec, owner: str | None, created_at: float) -> Deployment:
        """Create a deployment that cannot be called yet. Raise `InvalidRequest` for an invalid spec."""
        source = parse_source(spec.source)
        path = self._fetcher.find_cached(source) if source.fetchable else None
        return Deployment(
            spec,
            self._origins(spec, path),
            owner=owner,
            created_at=created_at,
            path=path,
            choose=engine_for,
            residency=self._residency,
            queue_limit=self._settings.queue_limit,
            on_change=lambda: self._registry.announce("model"),
            files=lambda: self._registry.files,
        )

    def _origins(self, spec: ModelSpec, path: Path | None) -> Sequence[ModelOrigin]:
        """Return an origin for each process of a model.

        Processes from other sources use the model's task. They use its parameters too if they run on the same engine.
        """
        engine = engine_for(spec, path)
        origins = [self._origin(spec, engine, 1)]
        for number, source in enumerate(spec.sources[1:], 2):
            model_spec = replace(spec, source=source, replicas=1)
            if source != spec.source:
                model_spec = replace(model_spec, engine="auto", task=engine.describe(spec, path).task)
                if engine_for(model_spec).name != engine.name:
                    model_spec = replace(model_spec, parameters={})
                engine_for(model_spec).describe(model_spec, None)  # rejects invalid specs
            origins.append(self._origin(model_spec, engine_for(model_spec, path), number))
        return origins

    def _origin(self, spec: ModelSpec, engine: Engine, number: int) -> ModelOrigin:
        source = parse_source(spec.source)
        file = quote(spec.name, safe="") + ("" if number == 1 else f".{number}")
        tariff = self._prices.of(spec.source)

        async def fetch(progress: Progress) -> Path:
            return await self._fetcher.fetch(source, progress)

        async def site() -> LaunchContext:
            launcher, resources = await self._launchers.get(spec.launcher), Resources.parse(spec.resources)
            if resources.nodes > 1:
                check_nodes(spec.name, engine, launcher)
            if tariff is not None:
                await pools.LOADING.run(lambda: tariff.prices)
            return LaunchContext(
                self._settings.logs / f"{file}.log",
                self._settings.load_timeout,
                await self.load_transport(),
                self._settings.environments,
                self._adapters.of(spec.name),
                prompts=self._settings.prompts if self._settings.kept_prompts_mb > 0 else None,
                prompts_bytes=self._settings.kept_prompts_mb * MB_BYTES,
                launcher=launcher,
                resources=resources,
                replace_s=self._settings.launcher_replace,
                furnish=None if "python" in spec.parameters else self._environments.furnish,
            )

        return ModelOrigin(spec, engine, fetch, site, tariff)

    async def load_transport(self) -> EngineTransport:
        """Return the connections to engines. Imports the modules that the first call of a model needs."""
        async with self._transport_lock:
            if self._transport is None:
                # Importing aiohttp takes 0.3 s, so it is imported in a thread, and only when a model is
                # needed.
                module = await pools.LOADING.run(importlib.import_module, "portico_server.models.transport")
                transport: EngineTransport = module.EngineTransport()
                self._transport = transport
            return self._transport

    async def close(self) -> None:
        """Close all connections."""
        if self._transport is not None:
            await self._transport.close()


def check_nodes(name: str, engine: Engine, launcher: Launcher) -> None:
    """Raise `InvalidRequest` if the engine or the launcher can start a model only on one node."""
    if not (isinstance(engine, PlansGpus) and engine.gpu_traits.spans_nodes):
        raise InvalidRequest(
            f"The engine '{engine.name}' runs '{name}' on one node. Use the engine 'vllm', or leave out 'nodes'.",
            param="resources.nodes",
        )
    if launcher.name != NODES_LAUNCHER:
        raise InvalidRequest(
            f"The launcher '{launcher.name}' starts '{name}' on one node. Use '{NODES_LAUNCHER}', or leave out "
            "'nodes'.",
            param="resources.nodes",
        )
