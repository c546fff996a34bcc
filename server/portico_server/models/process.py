"""One process of a model: all waiting calls share one start; crashes lead to pauses; the current calls end before
a stop.
"""

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
from portico_server.models.replica_health import ReplicaHealth
from portico_server.models.spec import ModelSpec, State
from portico_server.models.startup_progress import EmitEvent

DRAIN_S = 30.0
"""Seconds that an unload waits for calls before it interrupts them."""


class ModelProcess:
    """A `MemoryHolder` for one process. ``choose``, ``fetch``, ``site`` and ``describe`` are passed to
    `EngineLaunch`.
    """

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
        """The price of the model's answers, if known."""
        self.slot = EngineSlot(spec.name)
        self.turns = CallTurns()
        self.health = ReplicaHealth(spec.name, lambda: self.running)
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
        self._is_closed = False
        self.used_at: float | None = None
        self.last_used = 0.0
        """When a call or a start last used the process, in `time.monotonic` seconds; 0 if never."""
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
        """Return when the calls that waited for the start had their answers, in `time.monotonic` seconds; ``None``
        without a process.
        """
        return self._cost.in_use_since if self.running is not None else None

    @property
    def load_seconds(self) -> float:
        """See `ChangeCost`."""
        return self._cost.seconds

    @property
    def running(self) -> RunningEngine | None:
        """Return the engine that currently runs, or ``None``."""
        return self.slot.running

    @property
    def state(self) -> State:
        # If the process has crashed since its start, the model is cold: the next call restarts the process.
        return "cold" if self.launch.state == "ready" and self.running is None else self.launch.state

    @property
    def pid(self) -> int | None:
        return self.slot.pid

    @property
    def memory(self) -> int | None:
        """Return the bytes that the process and its children use according to the system; ``None`` without a
        process.
        """
        return self._reservation.measure(self.pid)

    @property
    def holds(self) -> int:
        return self._reservation.holds(self.pid, loading=self.starting)

    @property
    def gpus(self) -> Mapping[int, int]:
        return self._reservation.gpus

    @property
    def idle_since(self) -> float | None:
        """Return since when the process has been idle (`time.monotonic`); ``None`` if it is busy or does not exist."""
        running = self.running
        if running is None or running.process is None or self.busy or self._stopping:
            return None
        return self.last_used

    def enter(self) -> InFlightCall:
        """Register a new call. The caller must pass the call to `leave`."""
        self.used_at, self.last_used = time.time(), time.monotonic()
        return InFlightCall(self.turns.current)

    @property
    def is_ready(self) -> bool:
        """Return whether a new call can be answered without waiting for a start."""
        return self.running is not None and self._stopping is None

    @property
    def starting(self) -> bool:
        return self.launch.task is not None

    def wake(self) -> None:
        """Start the process if free memory suffices, without a waiting call. Do nothing if the process runs, starts,
        or pauses after a crash.
        """
        if not (self._is_closed or self.launch.pause_s or self.starting or self._stopping or self.running):
            self.launch.begin(spare=True)

    async def engine(self, call: InFlightCall, emit: EmitEvent) -> RunningEngine:
        """Return the running engine, and start it if necessary; ``emit`` receives the progress.

        The engine keeps running until ``call`` leaves.
        """
        while not self._is_closed:
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
        raise Unavailable(f"'{self.name}' cannot be started: the daemon is stopping.", code="stopping")

    def leave(self, call: InFlightCall, running: RunningEngine, error: BaseException | None) -> None:
        """End a call that used ``running``."""
        call.leave()
        self._cost.call_ended()
        self.used_at, self.last_used = time.time(), time.monotonic()
        if error is None:
            self.launch.record_answer()
        elif running.process is not None and not running.process.alive and self.slot.current is running:
            self.launch.lose()

    async def load(self, emit: EmitEvent) -> RunningEngine:
        """Fetch and start the model unless it runs; concurrent callers share one start."""
        call = InFlightCall(self.turns.current)
        try:
            return await self.engine(call, emit)
        finally:
            call.leave()
            self._cost.call_ended()

    def _on_ready(self, running: RunningEngine, begin: float) -> None:
        self.last_used = time.monotonic()
        self._cost.record_start(begin, self.turns.current.calls)
        self.replacement.leaving = False
        self.replacement.watch_time_limit(running)

    async def close(self) -> None:
        """Stop the process immediately and permanently, including calls in flight."""
        self._is_closed = True
        await self.unload(drain=0)

    async def vacate(self) -> None:
        """Finish the current start and answer the current calls, then free the memory."""
        while self.launch.task is not None:
            await asyncio.wait([self.launch.task])
        await self.unload(drain=None)

    async def unload(self, *, drain: float | None = DRAIN_S) -> None:
        """Free the memory after the current calls have ended, or after ``drain`` seconds.

        A call that arrives in the meantime waits and then restarts the process.
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
            await self.health.stop()
            begin = time.monotonic()
            self._reservation.measure(self.pid)
            self.launch.state = "cold"
            self.launch.reset_failures()
            self.launch.progress.report("cold")
            if await self.slot.end():
                self._cost.record_end(begin)
        finally:
            self._reservation.release()
            self._stopping = self.turns.ending = None
