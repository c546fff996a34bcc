"""Who may be in memory at the same time: a budget, and who leaves when someone else is called.

The least recently used model leaves first, one that nobody is talking to before one that is busy. Nobody is
interrupted: a busy model answers the calls it has, while later ones wait for its next turn. One that is in use stays
for about twice the time that its start took, with its first answers and its end, so that models which share too little
memory do more than start.
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
"""How many times as long as it cost to bring it here a model stays while others wait for its memory."""

MAX_STAY_S = 300.0
"""Seconds that a model stays at the most while others wait."""

MAX_STAYS = 3
"""Stays that a model waits at the most: where more models wait than that, each stays for less."""

IDLE_SHARE, MAX_IDLE_S = 0.1, 5.0
"""Part of its stay, and seconds at the most, after which a model without a call is not in use."""

MIN_PAUSE_S, START_PAUSE_S = 0.01, 0.1
"""Seconds between two looks at whether a model may leave: at the least, and while it starts."""

RELEASE_PAUSE_S, RELEASE_LOOKS = 0.25, 20
"""Seconds between two looks at whether a driver has taken back what a process had that has ended, and how many."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes that all models may hold together; ``None`` for no limit.

    One that was ``chosen`` is kept to. Otherwise it is a guess about the machine, and a model that is larger may
    still be tried alone, unless it is larger than ``machine``, all memory that there is.
    """

    limit: int | None
    chosen: bool
    machine: int | None = None


def require_possible(name: str, need: int, budget: MemoryBudget) -> None:
    """Raise `Unavailable` for a model that would not fit if it were alone."""
    smaller = "give the model a smaller 'context_length' or fewer 'slots', or choose a smaller model"
    if budget.chosen and budget.limit is not None and need > budget.limit:
        raise Unavailable(
            f"'{name}' needs about {_mb(need)}, but all models together may hold {_mb(budget.limit)}. Set "
            f"'memory_budget_mb' higher, {smaller}.",
            code="memory_budget",
        )
    if not budget.chosen and budget.machine is not None and need > budget.machine:
        raise Unavailable(
            f"'{name}' needs about {_mb(need)}, more than the {_mb(budget.machine)} of this machine: "
            f"{smaller}. To try it all the same, set 'memory_budget_mb' as high.",
            code="memory_budget",
        )


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
    def ready_since(self) -> float | None:
        """When it had answered those who waited for its start, by `time.monotonic`; ``None`` without a process."""

    @property
    def load_seconds(self) -> float:
        """What it cost to bring it here: its start, once it had its memory, the first answers, and its last end."""

    @property
    def starting(self) -> bool:
        """Whether its process is being started."""

    @property
    def holds(self) -> int:
        """Bytes: what it was promised while it is loaded, what its process has afterwards."""

    @property
    def gpus(self) -> Mapping[int, int]:
        """Bytes that it was promised, by the number of the GPU."""

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one."""

    async def vacate(self) -> None:
        """Finish what is under way, then give the memory back."""


class Residency:
    """One admission at a time, in the order of arrival. ``gpus`` are those with memory of their own, ``gpu_use``
    what is taken of them now.

    ``clock`` counts seconds as `MemoryHolder.last_used` does, and ``pause`` lets some of them pass.
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
        """Of those who wait: how many waited when they came, themselves included."""
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
        """Which GPUs; others leave until there is room on as many as it wants."""
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
            there = [holder for holder, has in zip(memory_holders, holdings, strict=True) if has]
            movable = [holder for holder in there if not holder.pinned]
            if spare or not movable:
                names = (holder.name for holder in there)
                raise gpus.fully_used(newcomer.name, machine, share, names, elsewhere)
            before, looks = elsewhere, 0
            await self._evict_one_of(movable, newcomer)

    async def _gpu_holdings(
        self, holders: Sequence[MemoryHolder]
    ) -> tuple[Sequence[Mapping[int, int]], Mapping[int, int]]:
        """What each of them has of GPUs, and what other programs have."""
        pids = [process_tree(holder.pid) if holder.pid is not None else [] for holder in holders]
        promised_bytes = [holder.gpus for holder in holders]
        return gpus.holdings(await self._gpu_use(), list(zip(promised_bytes, pids, strict=True)))

    async def gpu_memory(self) -> Sequence[tuple[str, int, int]]:
        """The name of a model, the number of a GPU, and the bytes that its processes hold of it, as the driver says."""
        if not await self._gpus():
            return ()
        running = [(holder.name, holder.pid) for holder in self._holders if holder.pid is not None]
        use = await self._gpu_use()
        counts: Counter[tuple[str, int]] = Counter()
        for name, pid in running:
            for number, size in gpus.measured(use, process_tree(pid)).items():
                counts[name, number] += size  # replicas have one name
        return [(name, number, size) for (name, number), size in sorted(counts.items())]

    def _require_free(self, newcomer: MemoryHolder, need: int, limit: int) -> None:
        free = limit - sum(holder.holds for holder in self._holders - {newcomer})
        if need > free:
            raise Unavailable(
                f"There is no room for a further process of '{newcomer.name}': it needs about {_mb(need)}, and "
                f"{_mb(max(0, free))} of {_mb(limit)} are free. No other model leaves for it; set 'memory_budget_mb' "
                "higher, or fewer 'replicas'.",
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
                    f"There is no room for '{newcomer.name}': it needs about {_mb(need)} of {_mb(limit)}, and "
                    f"{pinned_names} may not leave. Unpin one of them, or set 'memory_budget_mb' higher.",
                    code="memory_budget",
                )
            await self._evict_one_of(movable, newcomer)
            memory_holders = self._holders - {newcomer}

    async def _evict_one_of(self, movable: Sequence[MemoryHolder], newcomer: MemoryHolder) -> None:
        """Let the one that is missed least leave, after its calls; or wait a little where none may leave yet."""
        leaving = min(movable, key=self._missed)
        pause = self._stay_left(leaving)
        if pause > 0:
            await self._pause(max(MIN_PAUSE_S, pause))
            return
        logger.info("model %s leaves memory for %s", leaving.name, newcomer.name)
        await leaving.vacate()
        self.evictions += 1
        self._holders.discard(leaving)

    def _missed(self, holder: MemoryHolder) -> tuple[bool, bool, float, float]:
        """How much a model would be missed: one that starts the most, idle ones less than busy ones."""
        remaining_s = self._stay_left(holder) if holder.busy else 0.0
        return holder.starting, holder.busy, remaining_s, holder.last_used

    def _stay_left(self, holder: MemoryHolder) -> float:
        """Seconds after which to look again whether it may leave; 0 if it may leave now."""
        if holder.ready_since is None:
            return START_PAUSE_S if holder.starting else 0.0
        stay = min(MAX_STAY_S, STAY_FACTOR * holder.load_seconds)
        stay *= min(1.0, MAX_STAYS / max(self._places, default=1))
        grace, now = min(MAX_IDLE_S, stay * IDLE_SHARE), self._clock()
        remaining_s = holder.ready_since + stay - now
        return max(0.0, min(remaining_s, grace if holder.busy else holder.last_used + grace - now))

    def leave(self, holder: MemoryHolder) -> None:
        """It holds nothing any more."""
        self._holders.discard(holder)


def _mb(size: int) -> str:
    return f"{size / MB_BYTES:,.0f} MB"


def resident_bytes(pid: int, *, children: bool = False) -> int | None:
    """Bytes of memory that a process holds, and with ``children`` those that it started; ``None`` if it is gone.

    What they may share, such as files and segments of shared memory, counts once.
    """
    # psutil takes a moment to import, and nobody asks for it at start.
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [root.memory_info(), *(_of_children(root) if children else ())]
    except psutil.Error:
        return None
    shared_sizes = [int(getattr(process_memory, "shared", 0)) for process_memory in tree]
    return sum(int(process_memory.rss) for process_memory in tree) - sum(shared_sizes) + max(shared_sizes)


def process_tree(pid: int) -> list[int]:
    """The numbers of a process and of those that it started, directly or not; empty if it is gone."""
    import psutil

    try:
        return [pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def _of_children(root: psutil.Process) -> Iterator[Any]:
    """The memory of each process that one has started, directly or not."""
    import psutil

    for process in root.children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            yield process.memory_info()
