"""Who may be in memory at the same time: a budget, and who leaves when someone else is called.

The least recently used model leaves first, one that nobody is talking to before one that is busy. Nobody is
interrupted: a busy model answers the calls it has, while later ones wait for its next turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.models import gpus
from portico_server.models.gpus import NO_GPU_SHARE, GpuShare
from portico_server.models.protocol import Engine, MeasuresMemory, OccupiesGpus
from portico_server.models.spec import ModelSpec
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    from portico_server.models.hardware import Gpu


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes that all models may hold together; ``None`` for no limit.

    One that was ``chosen`` is kept to. Otherwise it is a guess about the machine, and a model that is larger may
    still be tried alone.
    """

    limit: int | None
    chosen: bool


class MemoryHolder(Protocol):
    """A model that holds memory or is about to."""

    @property
    def name(self) -> str: ...

    @property
    def pinned(self) -> bool:
        """Whether it must stay."""

    @property
    def busy(self) -> bool:
        """Whether a call is waiting for it or being answered."""

    @property
    def last_used(self) -> float: ...

    @property
    def holds(self) -> int:
        """Bytes: what it was promised while it is loaded, what its process has afterwards."""

    @property
    def gpus(self) -> Mapping[int, int]:
        """Bytes that it was promised, by the number of the GPU."""

    async def vacate(self) -> None:
        """Finish what is under way, then give the memory back."""


class Residency:
    """One admission at a time, in the order of arrival. ``gpus`` are those with memory of their own."""

    def __init__(
        self, budget: Callable[[], Awaitable[MemoryBudget]], gpus: Callable[[], Awaitable[Sequence[Gpu]]]
    ) -> None:
        self._budget = budget
        self._gpus = gpus
        self._lock = asyncio.Lock()
        self._holders: set[MemoryHolder] = set()
        self.evictions = 0
        """How often a model left for another since the daemon started."""

    @property
    def used(self) -> int:
        """Bytes that all of them hold."""
        return sum(holder.holds for holder in self._holders)

    async def budget(self) -> MemoryBudget:
        return await self._budget()

    async def admit(
        self,
        newcomer: MemoryHolder,
        need: int,
        share: GpuShare = NO_GPU_SHARE,
        *,
        spare: bool = False,  # frozen
    ) -> Mapping[int, int]:
        """Return once ``need`` bytes and the ``share`` of GPUs are free for ``newcomer``; others may have left for it,
        unless it is a ``spare`` one. The answer is what it gets of which GPU.

        Raises `Unavailable` if that cannot be, however long one waits.
        """
        async with self._lock:
            budget = await self._budget()
            if budget.limit is not None:
                if spare:
                    self._require_free(newcomer, need, budget.limit)
                else:
                    await self._make_space(newcomer, need, budget.limit, chosen=budget.chosen)
            chosen = await self._place_on_gpus(newcomer, share, spare=spare) if share.count else ()
            self._holders.add(newcomer)
            return dict.fromkeys(chosen, share.memory)

    async def _place_on_gpus(
        self, newcomer: MemoryHolder, share: GpuShare, *, spare: bool
    ) -> tuple[int, ...]:
        """Which GPUs; others leave until there is room on as many as it wants."""
        machine = await self._gpus()
        gpus.check_gpus(newcomer.name, machine, share)
        while True:
            others = self._holders - {newcomer}
            chosen = gpus.choose_gpus(machine, (holder.gpus for holder in others), share)
            if chosen is not None:
                return chosen
            held = [holder for holder in others if holder.gpus]
            movable = [holder for holder in held if not holder.pinned]
            if spare or not movable:
                raise gpus.fully_used(newcomer.name, share, (holder.name for holder in held))
            await self._evict_one_of(movable, newcomer)

    def _require_free(self, newcomer: MemoryHolder, need: int, limit: int) -> None:
        free = limit - sum(holder.holds for holder in self._holders - {newcomer})
        if need > free:
            raise Unavailable(
                f"There is no room for a further process of '{newcomer.name}': it needs about {_mb(need)}, and "
                f"{_mb(max(0, free))} of {_mb(limit)} are free. No other model leaves for it; set 'memory_budget_mb' "
                "higher, or fewer 'replicas'.",
                code="memory_budget",
            )

    async def _make_space(self, newcomer: MemoryHolder, need: int, limit: int, *, chosen: bool) -> None:
        if need > limit and chosen:
            raise Unavailable(
                f"'{newcomer.name}' needs about {_mb(need)}, but all models together may hold {_mb(limit)}. Set "
                "'memory_budget_mb' higher, give the model a smaller 'context_length' or fewer 'slots', or choose "
                "a smaller model.",
                code="memory_budget",
            )
        others = self._holders - {newcomer}
        while others and sum(holder.holds for holder in others) + need > limit:
            movable = [holder for holder in others if not holder.pinned and holder.holds]
            if not movable:
                if not chosen and need > limit:
                    break
                pinned = ", ".join(sorted(holder.name for holder in others))
                raise Unavailable(
                    f"There is no room for '{newcomer.name}': it needs about {_mb(need)} of {_mb(limit)}, and "
                    f"{pinned} may not leave. Unpin one of them, or set 'memory_budget_mb' higher.",
                    code="memory_budget",
                )
            await self._evict_one_of(movable, newcomer)
            others = self._holders - {newcomer}

    async def _evict_one_of(self, movable: Sequence[MemoryHolder], newcomer: MemoryHolder) -> None:
        """Let the one that is missed least leave, after its calls."""
        leaving = min(movable, key=lambda holder: (holder.busy, holder.last_used))
        logger.info("model %s leaves memory for %s", leaving.name, newcomer.name)
        await leaving.vacate()
        self.evictions += 1
        self._holders.discard(leaving)

    def leave(self, holder: MemoryHolder) -> None:
        """It holds nothing any more."""
        self._holders.discard(holder)


def _mb(size: int) -> str:
    return f"{size / MB_BYTES:,.0f} MB"


def resident_bytes(pid: int) -> int | None:
    """Bytes of memory that a process holds; ``None`` if it is gone."""
    # psutil takes a moment to import, and nobody asks for it at start.
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


# What one process of a model holds: memory of the machine, and shares of its GPUs.


class MemoryReservation:
    """Memory is promised before a start, by what was measured the last time or is estimated; afterwards what the system
    counts is what is held. GPUs are promised for as long as the process lives.
    """

    def __init__(self, spec: ModelSpec, residency: Residency) -> None:
        self._spec = spec
        self._residency = residency
        self._promised = 0
        self._measured = 0
        self.gpus: Mapping[int, int] = {}
        """Bytes by the number of the GPU."""

    def record_size(self, size: int | None) -> None:
        """What the system counts for its process now."""
        self._measured = max(self._measured, size or 0)

    def holds(self, size: Callable[[], int | None], *, loading: bool, alive: bool) -> int:
        """Bytes of the machine's memory; ``size`` asks the system."""
        if self._spec.memory_mb is not None:
            return self._spec.memory_mb * MB_BYTES if self._promised or alive else 0
        return self._promised if loading else size() or 0

    async def take(
        self, holder: MemoryHolder, kind: Engine, path: Path | None, *, spare: bool, waits: Callable[[], None]
    ) -> None:
        """Have as much set aside as this model is known or thought to need. ``waits`` is called if it needs any.

        Raises `Unavailable`, or `InvalidRequest` for a model that fits no GPU of this machine.
        """
        need = self._measured
        if self._spec.memory_mb is not None:
            need = self._spec.memory_mb * MB_BYTES
        elif not need and isinstance(kind, MeasuresMemory):
            need = await pools.MODELS.run(kind.memory, self._spec, path)
        share = (
            await pools.MODELS.run(kind.occupies, self._spec, path)
            if isinstance(kind, OccupiesGpus)
            else NO_GPU_SHARE
        )
        if need or share.count:
            waits()
            self.gpus = await self._residency.admit(holder, need, share, spare=spare)
            self._promised = need

    def release(self, holder: MemoryHolder) -> None:
        """Nothing is held any more."""
        self._promised = 0
        self.gpus = {}
        self._residency.leave(holder)
