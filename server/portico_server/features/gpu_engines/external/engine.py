"""An engine that runs a separate OpenAI-compatible server, for folders of safetensors on NVIDIA GPUs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from portico_server.core import pools
from portico_server.core.relay import AdapterScale
from portico_server.features.gpu_engines.external import server, server_options
from portico_server.features.gpu_engines.external.parsers import fill_parsers
from portico_server.launchers.protocol import Resources
from portico_server.models.engines import peft_adapters
from portico_server.models.engines.openai_client.quirks import Quirks
from portico_server.models.fallback import fallbacks
from portico_server.models.gpus import GpuShare
from portico_server.models.protocol import (
    AdapterFormat,
    GpuTraits,
    LaunchContext,
    ModelDescription,
    RunningEngine,
)
from portico_server.models.spec import ModelSpec


class GpuServer(ABC):
    """The base class of engines that are separate GPU servers. A subclass sets the attributes and implements
    `program`.

    Such an engine is an `Engine` that measures memory, occupies GPUs, takes part in plans and tests adapters
    (`portico_server.models.protocol`). Methods that read files block, and are called off the event loop.
    """

    name: ClassVar[str]
    gpu_traits: ClassVar[GpuTraits]
    own_options: ClassVar[server_options.ServerOptions]
    """The parameters of a model on this engine, in addition to the common ones."""
    fetches = True
    adapter_format: AdapterFormat = "weights"
    default_share: ClassVar[float] = 0.0
    """Default share of a GPU's memory if neither the model nor its plan has a ``memory_share``; 0 if unknown."""
    quirks: ClassVar[Quirks] = Quirks(developer=False)
    tool_parsers: ClassVar[Mapping[str, str] | None] = None
    """The server's names of tool call formats, by vLLM's names. ``None`` if the names are the same."""
    thought_parsers: ClassVar[Mapping[str, str] | None] = None
    """The server's names of reasoning formats, by vLLM's names. ``None`` if the names are the same."""

    @abstractmethod
    def program(
        self, spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale]
    ) -> server.ServerProgram:
        """Return the command line of the server for a model and ``adapters``. Blocks."""

    def program_on(
        self, resources: Resources, spec: ModelSpec, path: Path | None, adapters: Sequence[AdapterScale]
    ) -> server.ServerProgram:
        """Return the command line for these resources. An engine with ``spans_nodes`` overrides this. Blocks."""
        return self.program(spec, path, adapters)

    @property
    def options(self) -> server_options.ServerOptions:
        """All parameters that a model on this engine can have."""
        return {**self.own_options, **server_options.COMMON_OPTIONS}

    def arguments(self, spec: ModelSpec) -> list[str]:
        """Return the parameters of a model as command line options. Raises `InvalidRequest`."""
        return server_options.option_arguments(spec.name, self.name, spec.parameters, self.own_options)

    def advice(self, message: str) -> str:
        """Return advice for an error message of the server, or "" if there is none."""
        return server_options.advice(message, self.own_options)

    def check_adapter(self, spec: ModelSpec, path: Path | None, adapter: AdapterScale) -> None:
        """Raise `InvalidRequest` for an adapter with which the server cannot start. Blocks."""
        peft_adapters.check_adapter(self.name, adapter, path)

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        """See `portico_server.models.protocol.Engine`."""
        self.arguments(spec)
        fallbacks(spec)
        return server.describe_folder(spec, path)

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        """See `portico_server.models.protocol.MeasuresMemory`."""
        return server.host_memory(path)

    def occupies(self, spec: ModelSpec, path: Path | None) -> GpuShare:
        """See `portico_server.models.protocol.OccupiesGpus`."""
        # Imported here because it imports psutil, which must not be loaded before a model is used.
        from portico_server.models.hardware import this_machine
        from portico_server.models.plan.planned_parameters import fill_parameters

        machine = this_machine()
        sizes = [gpu.memory_bytes for gpu in machine.gpus if not gpu.shared]
        if not sizes:
            return GpuShare()
        spec = fill_parameters(spec, path, machine, self)
        held_bytes = self.held_bytes(spec, path, min(sizes))
        count = math.prod(
            spec.parameters.get(f"{kind}_parallel", 1) for kind in ("tensor", "pipeline", "data")
        )
        return GpuShare(count, held_bytes) if held_bytes else GpuShare()

    def start_bytes(self, spec: ModelSpec, path: Path | None, gpu_bytes: int) -> int:
        """Return the bytes that must be free on a GPU with ``gpu_bytes`` for the server to start. Blocks."""
        return int(spec.parameters.get("memory_share", self.default_share) * gpu_bytes)

    def held_bytes(self, spec: ModelSpec, path: Path | None, gpu_bytes: int) -> int:
        """Return the number of bytes that a running server occupies on a GPU with ``gpu_bytes``; 0 if unknown.
        Blocks.
        """
        from portico_server.models.plan.outcome import GPU_OVERHEAD_BYTES

        share = self.start_bytes(spec, path, gpu_bytes)
        return share + GPU_OVERHEAD_BYTES if share and self.gpu_traits.share_covers == "static" else share

    async def prepare(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> ModelSpec:
        """Return the spec with planned parameters and with parsers for the model's output, for GPUs with enough free
        memory.

        Raises `InvalidRequest` if the model can never fit, and `Unavailable` while other programs occupy the memory.
        """
        from portico_server.models.plan.planned_parameters import fill_parameters

        machine = await pools.MODELS.run(site.machine)
        spec = await pools.MODELS.run(fill_parameters, spec, path, machine, self)
        await pools.MODELS.run(
            server.check_free,
            spec,
            machine,
            site.gpus,
            lambda gpu: self.start_bytes(spec, path, gpu.memory_bytes),
        )
        if server.describe_folder(spec, path).task != "chat":
            return spec
        return await pools.MODELS.run(fill_parsers, spec, path, self.tool_parsers, self.thought_parsers)

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        """See `portico_server.models.protocol.Engine`."""
        spec = await self.prepare(spec, path, site)
        adapters = await pools.MODELS.run(
            peft_adapters.usable_adapters,
            spec.name,
            site.adapters,
            lambda adapter: self.check_adapter(spec, path, adapter),
        )
        return await self.launch(spec, path, site, adapters)

    async def launch(
        self, spec: ModelSpec, path: Path | None, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> RunningEngine:
        """Start the server with these adapters, and wait until the server responds. Raises `PorticoError`."""
        running = await server.start_server(
            self.name,
            await pools.MODELS.run(self.program_on, site.resources, spec, path, adapters),
            spec,
            path,
            site,
            advice=self.advice,
            quirks=self.quirks,
            enforces=bool(spec.parameters.get("tool_call_parser")),
            make_client=await pools.MODELS.run(self.client_maker, spec, path, site, adapters),
        )
        return self.complete(running, spec, site, adapters)

    def client_maker(
        self, spec: ModelSpec, path: Path | None, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> server.MakeClient | None:
        """Return a factory for the client if the requests or responses of the server differ from OpenAI's, otherwise
        ``None``. Blocks.
        """
        return None

    def complete(
        self, running: RunningEngine, spec: ModelSpec, site: LaunchContext, adapters: Sequence[AdapterScale]
    ) -> RunningEngine:
        """Return the engine with a client that serves exactly the adapters with which the server was started."""
        # Imported here because it imports aiohttp, which must not be loaded before a model is used.
        from portico_server.models.engines.openai_client.adapter_clients import FixedAdapterClient

        return replace(running, client=FixedAdapterClient(running.client, spec.name, adapters))

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
    ) -> None:
        """See `portico_server.models.protocol.TriesAdapters`. Problems that only the server can detect are not found
        before it starts.
        """
        await pools.MODELS.run(self.check_adapter, spec, path, adapter)
