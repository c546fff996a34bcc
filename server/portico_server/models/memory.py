"""Decides which models are in memory at the same time: a budget, and which model is unloaded for another.

The least recently used model is unloaded first, and idle models before busy ones. No call is interrupted: a busy model
finishes its current calls, while later calls wait until the model is loaded again. A model in use stays loaded for
about twice the time that loading took, including its first answers and its unloading. Without this rule, models that
do not fit together would spend most of their time loading.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.models import gpus
from portico_server.models.gpus import NO_GPU_SHARE, GpuShare
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    import psutil

    from portico_server.models.hardware import Gpu, GpuUse


logger = logging.getLogger(__name__)


STAY_FACTOR = 2.0
"""How long a model stays while others wait for its memory, as a multiple of the time its loading took."""

MAX_STAY_S = 300.0
"""Maximum seconds that a model stays while others wait."""

MAX_STAYS = 3
"""Maximum time that a model waits, in stays of other models. If more models wait, each stay is shorter."""

IDLE_SHARE, MAX_IDLE_S = 0.1, 5.0
"""Share of its stay, and maximum seconds, after which a model without calls counts as idle."""

MIN_PAUSE_S, START_PAUSE_S = 0.01, 0.1
"""Minimum seconds between checks whether a model can be unloaded, and seconds between checks while the model starts."""

RELEASE_PAUSE_S, RELEASE_LOOKS = 0.25, 20
"""Seconds between checks whether a driver has freed the memory of an ended process, and the maximum number of
checks.
"""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The bytes that all models can use together; ``None`` means no limit.

    A ``chosen`` limit is always enforced. Otherwise the limit is an estimate for the machine: a larger model can still
    be tried alone, unless it is larger than ``machine``, the total memory.
    """

    limit: int | None
    chosen: bool
    machine: int | None = None


def require_possible(name: str, need: int, budget: MemoryBudget) -> None:
    """Raise `Unavailable` for a model that would not fit even alone."""
    smaller = "set a smaller 'context_length' or fewer 'slots' of the model, or choose a smaller model"
    if budget.chosen and budget.limit is not None and need > budget.limit:
        raise Unavailable(
            f"'{name}' needs about {_mb(need)}, but all models together can use at most {_mb(budget.limit)}. "
            f"Raise 'memory_budget_mb', or {smaller}.",
            code="memory_budget",
        )
    if not budget.chosen and budget.machine is not None and need > budget.machine:
        raise Unavailable(
            f"'{name}' needs about {_mb(need)}, more than the {_mb(budget.machine)} of this machine: "
            f"{smaller}. To try this model anyway, raise 'memory_budget_mb' to that size.",
            code="memory_budget",
        )


class MemoryHolder(Protocol):
    """A model that uses memory or is about to use memory."""

    @property
    def name(self) -> str: ...

    @property
    def pinned(self) -> bool:
        """Return whether the model must stay loaded."""

    @property
    def busy(self) -> bool:
        """Return whether a call is waiting for the model or being answered."""

    @property
    def last_used(self) -> float: ...

    @property
    def ready_since(self) -> float | None:
        """Return when the model had answered the calls that waited for its start, in `time.monotonic` seconds;
        ``None`` without a process.
        """

    @property
    def load_seconds(self) -> float:
        """Return the seconds that loading takes: the start once memory is free, the first answers, and the last
        unloading.
        """

    @property
    def starting(self) -> bool:
        """Return whether the model's process is starting."""

    @property
    def holds(self) -> int:
        """Return the model's memory in bytes: reserved memory while the model loads, memory in use afterwards."""

    @property
    def gpus(self) -> Mapping[int, int]:
        """Return the reserved bytes by GPU number."""

    @property
    def pid(self) -> int | None:
        """Return the id of the model's process, or ``None`` without a process."""

    async def vacate(self) -> None:
        """Finish the current work, then free the memory."""


class Residency:
    """Admits models to memory one at a time, in order of arrival.

    ``gpus`` returns the GPUs with their own memory, ``gpu_use`` their current use. ``clock`` is the clock of
    `MemoryHolder.last_used`, and ``pause`` waits.
    """

    def __init__(
        self,
        budget: Callable[[], Awaitable[MemoryBudget]],
        gpus: Callable[[], Awaitable[Sequence[Gpu]]],
        gpu_use: Callable[[], Awaitable[GpuUse]],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._budget = budget
        self._gpus = gpus
        self._gpu_use = gpu_use
        self._clock = clock
        self._pause = pause
        self._places: list[int] = []
        """For each waiting model, the number of waiting models when it arrived, including the model itself."""
        self._lock = asyncio.Lock()
        self._holders: set[MemoryHolder] = set()
        self.evictions = 0
        """Number of models that were unloaded since the daemon started to make room for another model."""

    @property
    def used(self) -> int:
        """Return the bytes that all models use."""
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
        """Wait until ``need`` bytes and the ``share`` of GPUs are free for ``newcomer``; return its bytes by GPU.

        Other models are unloaded if necessary, unless ``newcomer`` is a ``spare`` process. Raise `Unavailable` if
        waiting cannot help.
        """
        place = len(self._places) + 1
        if not spare:
            self._places.append(place)
        try:
            async with self._lock:
                budget = await self._budget()
                if budget.limit is not None:
                    if spare:
                        self._require_free(newcomer, need, budget.limit)
                    else:
                        require_possible(newcomer.name, need, budget)
                        await self._make_space(newcomer, need, budget.limit, has_chosen_gpus=budget.chosen)
                chosen_gpus = await self._place_on_gpus(newcomer, share, spare=spare) if share.count else ()
                self._holders.add(newcomer)
                return dict.fromkeys(chosen_gpus, share.memory)
        finally:
            if not spare:
                self._places.remove(place)

    async def _place_on_gpus(
        self, newcomer: MemoryHolder, share: GpuShare, *, spare: bool
    ) -> tuple[int, ...]:
        """Choose the GPUs for ``newcomer``, and unload other models until enough GPUs have room."""
        machine = await self._gpus()
        before: Mapping[int, int] | None = None
        looks = 0
        while True:
            memory_holders = list(self._holders - {newcomer})
            holdings, elsewhere = await self._gpu_holdings(memory_holders)
            if (
                before is not None
                and looks < RELEASE_LOOKS
                and any(size > before.get(number, 0) for number, size in elsewhere.items())
            ):
                looks += 1
                await self._pause(RELEASE_PAUSE_S)
                continue
            gpus.check_gpus(newcomer.name, machine, share, elsewhere)
            chosen_gpus = gpus.choose_gpus(machine, holdings, share, elsewhere)
            if chosen_gpus is not None:
                return chosen_gpus
            present_holders = [holder for holder, has in zip(memory_holders, holdings, strict=True) if has]
            movable = [holder for holder in present_holders if not holder.pinned]
            if spare or not movable:
                names = (holder.name for holder in present_holders)
                raise gpus.fully_used(newcomer.name, machine, share, names, elsewhere)
            before, looks = elsewhere, 0
            await self._evict_one_of(movable, newcomer)

    async def _gpu_holdings(
        self, holders: Sequence[MemoryHolder]
    ) -> tuple[Sequence[Mapping[int, int]], Mapping[int, int]]:
        """Return the GPU memory of each holder, and of other programs."""
        pids = [process_tree(holder.pid) if holder.pid is not None else [] for holder in holders]
        promised_bytes = [holder.gpus for holder in holders]
        return gpus.holdings(await self._gpu_use(), list(zip(promised_bytes, pids, strict=True)))

    async def gpu_memory(self) -> Sequence[tuple[str, int, int]]:
        """Return the model name, the GPU number, and the bytes that the model's processes use on that GPU.

        The driver reports the bytes.
        """
        if not await self._gpus():
            return ()
        running = [(holder.name, holder.pid) for holder in self._holders if holder.pid is not None]
        use = await self._gpu_use()
        counts: Counter[tuple[str, int]] = Counter()
        for name, pid in running:
            for number, size in gpus.used_bytes(use, process_tree(pid)).items():
                counts[name, number] += size  # replicas share one name
        return [(name, number, size) for (name, number), size in sorted(counts.items())]

    def _require_free(self, newcomer: MemoryHolder, need: int, limit: int) -> None:
        free = limit - sum(holder.holds for holder in self._holders - {newcomer})
        if need > free:
            raise Unavailable(
                f"No room for another process of '{newcomer.name}': it needs about {_mb(need)}, and "
                f"{_mb(max(0, free))} of {_mb(limit)} are free. Portico does not unload another model for an "
                "additional process; raise 'memory_budget_mb', or lower 'replicas'.",
                code="memory_budget",
            )

    async def _make_space(
        self, newcomer: MemoryHolder, need: int, limit: int, *, has_chosen_gpus: bool
    ) -> None:
        memory_holders = self._holders - {newcomer}
        while memory_holders and sum(holder.holds for holder in memory_holders) + need > limit:
            movable = [holder for holder in memory_holders if not holder.pinned and holder.holds]
            if not movable:
                if not has_chosen_gpus and need > limit:
                    break
                pinned_names = ", ".join(sorted(holder.name for holder in memory_holders))
                raise Unavailable(
                    f"No room for '{newcomer.name}': it needs about {_mb(need)} of {_mb(limit)}, and "
                    f"{pinned_names} cannot be unloaded. Unpin one of them, or raise 'memory_budget_mb'.",
                    code="memory_budget",
                )
            await self._evict_one_of(movable, newcomer)
            memory_holders = self._holders - {newcomer}

    async def _evict_one_of(self, movable: Sequence[MemoryHolder], newcomer: MemoryHolder) -> None:
        """Unload the least needed model once its calls have finished, or wait briefly if no model can be unloaded
        yet.
        """
        leaving = min(movable, key=self._miss_key)
        pause = self._stay_left(leaving)
        if pause > 0:
            await self._pause(max(MIN_PAUSE_S, pause))
            return
        logger.info("unloading model %s to free memory for %s", leaving.name, newcomer.name)
        await leaving.vacate()
        self.evictions += 1
        self._holders.discard(leaving)

    def _miss_key(self, holder: MemoryHolder) -> tuple[bool, bool, float, float]:
        """Return a sort key for how much a model is needed: starting models most, then busy models, then idle ones."""
        remaining_s = self._stay_left(holder) if holder.busy else 0.0
        return holder.starting, holder.busy, remaining_s, holder.last_used

    def _stay_left(self, holder: MemoryHolder) -> float:
        """Return the seconds until the next check whether the model can be unloaded; 0 if it can be unloaded now."""
        if holder.ready_since is None:
            return START_PAUSE_S if holder.starting else 0.0
        stay = min(MAX_STAY_S, STAY_FACTOR * holder.load_seconds)
        stay *= min(1.0, MAX_STAYS / max(self._places, default=1))
        grace, now = min(MAX_IDLE_S, stay * IDLE_SHARE), self._clock()
        remaining_s = holder.ready_since + stay - now
        return max(0.0, min(remaining_s, grace if holder.busy else holder.last_used + grace - now))

    def leave(self, holder: MemoryHolder) -> None:
        """Record that the model no longer uses memory."""
        self._holders.discard(holder)


def _mb(size: int) -> str:
    return f"{size / MB_BYTES:,.0f} MB"


def resident_bytes(pid: int, *, children: bool = False) -> int | None:
    """Return the memory of a process in bytes, or ``None`` if it has ended; with ``children``, include its children.

    Memory that the processes share, such as files and shared memory segments, counts once.
    """
    # Importing psutil takes a moment, and the daemon's start does not need it.
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [root.memory_info(), *(_of_children(root) if children else ())]
    except psutil.Error:
        return None
    shared_sizes = [int(getattr(process_memory, "shared", 0)) for process_memory in tree]
    return sum(int(process_memory.rss) for process_memory in tree) - sum(shared_sizes) + max(shared_sizes)


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its direct and indirect children; empty if it has ended."""
    import psutil

    try:
        return [pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def _of_children(root: psutil.Process) -> Iterator[Any]:
    """Yield the memory of each direct and indirect child process."""
    import psutil

    for process in root.children(recursive=True):
        with suppress(psutil.Error):  # the process has ended in the meantime
            yield process.memory_info()
