"""The machine of the daemon: the memory for its models, and whether other models would suit it better.

`portico_server.models.hardware` imports psutil and runs tools of the GPU vendors, so it is imported in a thread, on
first use.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portico.schemas.deployments import BETTER_TASKS, BetterTask, Recommendation
from portico_server.core import pools
from portico_server.models.memory import MemoryBudget
from portico_server.models.protocol import MEMORY_SHARE
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    from portico_server.models.hardware import Gpu, GpuUse, Hardware


class LocalMachine:
    """The daemon's machine. The setting ``memory_budget_mb`` takes precedence over the machine's memory."""

    def __init__(self, settings: Settings) -> None:
        self._budget_mb = settings.memory_budget_mb
        self._looking: asyncio.Task[None] | None = None
        self.recommended: dict[BetterTask, Recommendation] = {}
        """The better open models for this machine by task, once the search for them is done."""
        self.budget_bytes = self._budget_mb * MB_BYTES if self._budget_mb else None
        """The limit of `budget`, once the machine has been measured."""

    def start(self) -> None:
        """Search for better models in the background."""
        self._looking = asyncio.create_task(self._search(), name="recommend models")

    async def better(self, task: BetterTask) -> Recommendation | None:
        """Return the model in `recommended` for a task, once the search that `start` began has finished."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        return self.recommended.get(task)

    async def budget(self) -> MemoryBudget:
        """Return the memory budget of all models: the setting, or a share of the memory."""
        if self._budget_mb:
            return MemoryBudget(self._budget_mb * MB_BYTES, chosen=True)
        machine = await self.hardware()
        return MemoryBudget(
            int(machine.memory_bytes * MEMORY_SHARE), chosen=False, machine=machine.memory_bytes
        )

    async def gpus(self) -> Sequence[Gpu]:
        """Return the GPUs with their own memory. Other GPUs share the machine's memory and its budget."""
        return [gpu for gpu in (await self.hardware()).gpus if not gpu.shared]

    async def free_memory(self) -> int:
        """Return the free memory in bytes."""
        module = await pools.LOADING.run(importlib.import_module, "portico_server.models.hardware")
        free: int = await pools.MODELS.run(module.free_memory)
        return free

    async def gpu_use(self) -> GpuUse:
        """Return the GPU memory that any program currently uses."""
        module = await pools.LOADING.run(importlib.import_module, "portico_server.models.hardware")
        use: GpuUse = await pools.MODELS.run(module.gpu_use)
        return use

    async def _search(self) -> None:
        machine = await self.hardware()
        self.budget_bytes = (await self.budget()).limit
        module = await pools.LOADING.run(importlib.import_module, "portico_server.models.known_models")
        # The llama.cpp wheel on PyPI uses the GPU only on macOS.
        for task in BETTER_TASKS:
            model = module.recommend(machine, task, is_accelerated=sys.platform == "darwin")
            if model is not None:
                self.recommended[task] = model

    async def hardware(self) -> Hardware:
        """Return this machine's hardware."""
        module = await pools.LOADING.run(importlib.import_module, "portico_server.models.hardware")
        machine: Hardware = await pools.LOADING.run(module.this_machine)
        return machine

    async def close(self) -> None:
        """Stop the search."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
