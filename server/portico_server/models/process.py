"""One model process: started once for all who wait, restarted with pauses after crashes, stopped after its calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from portico_server.core.errors import Unavailable
from portico_server.models.change_cost import ChangeCost
from portico_server.models.engine_launch import ChooseEngine, EngineLaunch, FetchModel, MakeLaunchContext
from portico_server.models.engine_slot import EngineSlot
from portico_server.models.in_flight import CallTurns, InFlight, InFlightCall
from portico_server.models.memory import Residency
from portico_server.models.memory_reservation import MemoryReservation
from portico_server.models.prices import Tariff
from portico_server.models.protocol import Engine, ModelDescription, RunningEngine
from portico_server.models.replacement import ProcessReplacement
from portico_server.models.spec import ModelSpec, State
from portico_server.models.startup_progress import EmitEvent

DRAIN_S = 30.0
"""Seconds that an unload waits for calls to end before it ends them."""


class ModelProcess:
    """A `MemoryHolder`. ``choose``, ``fetch``, ``site`` and ``describe`` are what `EngineLaunch` takes."""

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        *,
        choose: ChooseEngine,
        fetch: FetchModel,
        site: MakeLaunchContext,
        residency: Residency,
        describe: Callable[[ModelDescription], None],
        tariff: Tariff | None = None,
    ) -> None:
        self.spec = spec
        self.tariff = tariff
        """What its answers cost, if that is known."""
        self.slot = EngineSlot(spec.name)
        self.turns = CallTurns()
        self._reservation = MemoryReservation(spec, residency, self)
        self.launch = EngineLaunch(
            spec,
            engine,
            self.slot,
            self._reservation,
            choose=choose,
            fetch=fetch,
            site=site,
            describe=describe,
            on_ready=self._on_ready,
            on_end=lambda: self.replacement.leave_nodes(),
        )
        self.replacement: ProcessReplacement = ProcessReplacement(
            spec.name, self.slot, self.launch, self.turns
        )
        self._stopping: asyncio.Task[None] | None = None
        self._closed = False
        self.used_at: float | None = None
        self.last_used = 0.0
        """When a call or a start touched it last, by `time.monotonic`; 0 if never."""
        self._cost = ChangeCost()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pinned(self) -> bool:
        return self.spec.pin

    @property
    def busy(self) -> bool:
        return self.turns.calls > 0

    @property
    def ready_since(self) -> float | None:
        """When those who waited for its process had their answers, by `time.monotonic`; ``None`` without a process."""
        return self._cost.in_use_since if self.running is not None else None

    @property
    def load_seconds(self) -> float:
        """See `ChangeCost`."""
        return self._cost.seconds

    @property
    def running(self) -> RunningEngine | None:
        """What answers now, if something does."""
        return self.slot.running

    @property
    def state(self) -> State:
        # A process that crashed since is started by the next call.
        return "cold" if self.launch.state == "ready" and self.running is None else self.launch.state

    @property
    def pid(self) -> int | None:
        return self.slot.pid

    @property
    def memory(self) -> int | None:
        """Bytes that its process and those it started hold, as the system counts them; ``None`` without a process."""
        return self._reservation.measure(self.pid)

    @property
    def holds(self) -> int:
        return self._reservation.holds(self.pid, loading=self.starting)

    @property
    def gpus(self) -> Mapping[int, int]:
        return self._reservation.gpus

    @property
    def idle_since(self) -> float | None:
        """Since when (`time.monotonic`) its process has had nothing to do; ``None`` if it is busy or there
        is none.
        """
        running = self.running
        if running is None or running.process is None or self.busy or self._stopping:
            return None
        return self.last_used

    def enter(self) -> InFlightCall:
        """A place for a call that has come; whoever takes it must `leave` it."""
        self.used_at, self.last_used = time.time(), time.monotonic()
        return InFlightCall(self.turns.current)

    @property
    def is_ready(self) -> bool:
        """Whether a call that comes now is answered without waiting for a start."""
        return self.running is not None and self._stopping is None

    @property
    def starting(self) -> bool:
        return self.launch.task is not None

    def wake(self) -> None:
        """Begin a start that no call waits for, with what memory is free. Does nothing if it runs or rests."""
        if not (self._closed or self.launch.pause_s or self.starting or self._stopping or self.running):
            self.launch.begin(spare=True)

    async def engine(self, call: InFlightCall, emit: EmitEvent) -> RunningEngine:
        """The running engine, started if need be; ``emit`` hears how far that is. It stays until ``call`` is left."""
        while not self._closed:
            running = self.running
            if running is not None and (self._stopping is None or call.belongs_to(self.turns.ending)):
                return running
            if self._stopping is not None:
                call.move_to(self.turns.current)
                await asyncio.wait([self._stopping])
            else:
                task = self.launch.begin()
                await self.launch.progress.follow(task, call, emit)
                await self.launch.wait(task)
        raise Unavailable(f"'{self.name}' is not started any more: the daemon stops.", code="stopping")

    def leave(self, call: InFlightCall, running: RunningEngine, error: BaseException | None) -> None:
        """The end of a call that had ``running``."""
        call.leave()
        self._cost.call_ended()
        self.used_at, self.last_used = time.time(), time.monotonic()
        if error is None:
            self.launch.record_answer()
        elif running.process is not None and not running.process.alive and self.slot.current is running:
            self.launch.lose()

    async def load(self, emit: EmitEvent) -> RunningEngine:
        """Fetch and start it, unless it runs; callers at the same time share one start."""
        call = InFlightCall(self.turns.current)
        try:
            return await self.engine(call, emit)
        finally:
            call.leave()
            self._cost.call_ended()

    def _on_ready(self, running: RunningEngine, begin: float) -> None:
        self.last_used = time.monotonic()
        self._cost.started(begin, self.turns.current.calls)
        self.replacement.leaving = False
        self.replacement.watch_time_limit(running)

    async def close(self) -> None:
        """End it now and for good, calls in flight included."""
        self._closed = True
        await self.unload(drain=0)

    async def vacate(self) -> None:
        """Finish the start that is under way and answer the calls that are here, then give the memory back."""
        while self.launch.task is not None:
            await asyncio.wait([self.launch.task])
        await self.unload(drain=None)

    async def unload(self, *, drain: float | None = DRAIN_S) -> None:
        """Give its memory back once the calls that are here have ended, or after ``drain`` seconds.

        A call that comes meanwhile waits and then restarts it.
        """
        if self._stopping is None:
            ending = self.turns.ending = self.turns.renew()
            self._stopping = asyncio.create_task(self._stop(ending, drain), name=f"unload {self.name}")
        elif drain == 0 and self.turns.ending is not None:
            self.turns.ending.release_waiters()
        await asyncio.shield(self._stopping)

    async def _stop(self, ending: InFlight, drain: float | None) -> None:
        try:
            for task in (self.launch.task, *self.replacement.tasks()):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
            if drain != 0:
                await ending.wait_until_empty(drain)
            begin = time.monotonic()
            self._reservation.measure(self.pid)
            self.launch.state = "cold"
            self.launch.reset_failures()
            self.launch.progress.report("cold")
            if await self.slot.end():
                self._cost.ended(begin)
        finally:
            self._reservation.release()
            self._stopping = self.turns.ending = None
