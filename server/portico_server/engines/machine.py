"""The machine that the daemon runs on: what its models may hold, and which model would suit it better.

`portico_server.engines.hardware` imports psutil and asks programs of the GPU's makers: in a thread, when first asked.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portico_server.core import pools
from portico_server.engines.protocol import MEMORY_SHARE
from portico_server.engines.residency import Budget
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    from portico_server.engines.hardware import Gpu, Hardware
    from portico_server.engines.recommend import Recommendation


class ThisMachine:
    """``memory_budget_mb`` of the settings goes before what the machine has."""

    def __init__(self, settings: Settings) -> None:
        self._chosen = settings.memory_budget_mb
        self._looking: asyncio.Task[None] | None = None
        self.recommended: Recommendation | None = None
        """A better open model for this machine, once it has been looked at."""

    def start(self) -> None:
        """Look for a better model in the background."""
        self._looking = asyncio.create_task(self._look(), name="recommend a model")

    async def better(self) -> Recommendation | None:
        """`recommended`, after the look that `start` began."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        return self.recommended

    async def budget(self) -> Budget:
        """What all models may hold together: the setting, or a share of the memory."""
        if self._chosen:
            return Budget(self._chosen * MB_BYTES, chosen=True)
        machine = await self._hardware()
        return Budget(int(machine.memory_bytes * MEMORY_SHARE), chosen=False)

    async def gpus(self) -> Sequence[Gpu]:
        """Those with memory of their own; others share the machine's, which has its budget."""
        return [gpu for gpu in (await self._hardware()).gpus if not gpu.shared]

    async def _look(self) -> None:
        machine = await self._hardware()
        module = await pools.LOADING.run(importlib.import_module, "portico_server.engines.recommend")
        # The wheel of llama.cpp on PyPI uses the GPU on macOS alone.
        self.recommended = module.recommend(machine, accelerated=sys.platform == "darwin")

    async def _hardware(self) -> Hardware:
        module = await pools.LOADING.run(importlib.import_module, "portico_server.engines.hardware")
        machine: Hardware = await pools.LOADING.run(module.this_machine)
        return machine

    async def close(self) -> None:
        """End the look."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
