"""One model process: started once for all who wait, restarted with pauses after crashes, stopped after its calls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from portico.schemas.deployments import Replica
from portico.wire import Event, Status
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.core.relay import AdapterScale
from portico_server.models.in_flight import InFlight, InFlightCall
from portico_server.models.memory import MemoryReservation, Residency, resident_bytes
from portico_server.models.prices import Tariff
from portico_server.models.protocol import (
    AttachesAdapters,
    Engine,
    KeepsPrompts,
    LaunchContext,
    ModelDescription,
    RunningEngine,
    TriesAdapters,
)
from portico_server.models.sources import Progress
from portico_server.models.spec import ModelSpec, State

# How far the start of a model has come, told to all who wait for it.


class StartupProgress:
    """The stage of one model's start: the latest alone counts, whoever is late misses those between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = asyncio.Event()
        self.stage = Status("cold")

    def report(
        self, stage: str, done: float | None = None, total: float | None = None, unit: str = ""
    ) -> None:
        """A stage has begun or gone on."""
        self.set_stage(Status(stage, self._name, done, total, unit))

    def set_stage(self, stage: Status) -> None:
        """The same in words of one's own."""
        self.stage = stage
        self._changed.set()
        self._changed = asyncio.Event()

    def progress(self, stage: str, percent: int | None) -> None:
        """A stage, in percent if that is known, which is only news if it is another."""
        if (stage, percent) == (self.stage.stage, self.stage.done):
            return
        if percent is None:
            self.report(stage)
        else:
            self.report(stage, percent, 100, "%")

    def finish(self) -> None:
        """The start is over, and nobody waits for it any more."""
        self.stage = Status("cold", self._name)

    async def follow(
        self, start: asyncio.Task[Any], call: InFlightCall, emit: Callable[[Event], Awaitable[None]]
    ) -> None:
        """Until a start is over, tell one call's run of its stages."""
        while not start.done():
            told, stage = self._changed, self.stage
            if stage is not call.reported_stage and stage.stage != "cold":
                call.reported_stage = stage
                await emit(stage)
            waiter = asyncio.ensure_future(told.wait())
            try:
                await asyncio.wait([start, waiter], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()


# Adapters of one model's process: tried before they are kept, attached as it runs or in a new process.


class AdaptableProcess(Protocol):
    """What runs a model: a `portico_server.models.process.ModelProcess`."""

    @property
    def running(self) -> RunningEngine | None: ...

    @property
    def start(self) -> asyncio.Task[RunningEngine] | None: ...

    async def vacate(self) -> None: ...

    async def load(self, emit: Callable[[Event], Awaitable[None]]) -> RunningEngine: ...


class ProcessAdapters:
    """Lets a ``process`` answer with adapters and forget them."""

    def __init__(self, process: AdaptableProcess) -> None:
        self._process = process

    async def attach(self, adapter: AdapterScale) -> None:
        """Have the process, if there is one, answer with an adapter: as it runs, or restarted with all that its
        site names now. Raises `PorticoError`.
        """
        running = await self._settled()
        if running is None:
            return  # the next start brings it along
        client = running.client
        if isinstance(client, AttachesAdapters) and client.fits(adapter):
            await client.attach(adapter)
        else:
            await self._renew()

    async def detach(self, name: str) -> None:
        """Have the process, if there is one, forget an adapter."""
        running = await self._settled()
        if running is None:
            return
        client = running.client
        if isinstance(client, AttachesAdapters) and not await client.detach(name):
            await self._renew()

    def takes(self, adapter: AdapterScale) -> bool:
        """Whether a call that names it would be answered with it, as far as is known."""
        running = self._process.running
        return running is None or (
            isinstance(running.client, AttachesAdapters) and running.client.fits(adapter)
        )

    async def _settled(self) -> RunningEngine | None:
        """What runs once a start that is under way is over."""
        while (start := self._process.start) is not None:
            await asyncio.wait([start])
        return self._process.running

    async def _renew(self) -> None:
        """A new process in place of the one that runs: the calls that are here are answered, later ones wait."""
        await self._process.vacate()
        await self._process.load(unheard)


async def try_on_process(
    kind: Engine, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
) -> None:
    """Find out whether an engine can load a model with an adapter. Raises `PorticoError`."""
    if not isinstance(kind, TriesAdapters):
        raise InvalidRequest(
            f"The engine '{kind.name}' of '{spec.name}' takes no adapters.",
            code="adapters_unsupported",
            param="base",
        )
    await kind.try_adapter(spec, path, adapter, site)


async def unheard(_event: Event) -> None:
    """For a start that no run is waiting for."""


# What it costs to have a model here: what others who want its memory leave it in return.


class ChangeCost:
    """Seconds of a model's last start, of the first answers, which it reads whole prompts for, and of its last end.

    The first answers are those to the calls that have waited for the start; they count as long as it at most.
    ``clock`` counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = 0.0
        self._end = 0.0
        self._ready = 0.0
        self._answered: float | None = None
        self._due = 0
        """Of the first answers."""

    def started(self, since: float, calls: int) -> None:
        """Its process is ready, ``since`` which it has been started; so many ``calls`` have waited for it."""
        self._ready = self._clock()
        self._start = self._ready - since
        self._due = calls
        self._answered = None if calls else self._ready

    def call_ended(self) -> None:
        """A call has its answer, or an error."""
        self._due -= 1
        if self._due <= 0 and self._answered is None:
            self._answered = self._clock()

    def ended(self, since: float) -> None:
        """Its process is gone, ``since`` which it had no call and was to end."""
        self._end = self._clock() - since

    @property
    def in_use_since(self) -> float:
        """When the first answers had been given; now, if they have not yet."""
        return min(self._clock() if self._answered is None else self._answered, self._ready + self._start)

    @property
    def seconds(self) -> float:
        """All of it together."""
        return self._start + self.in_use_since - self._ready + self._end


logger = logging.getLogger(__name__)

DRAIN_S = 30.0
"""Seconds that an unload waits for calls to end before it ends them."""

MAX_PAUSE_S = 60.0
"""Seconds between two attempts to start an engine that does not start."""

KEEP_TIMEOUT_S = 5.0
"""Seconds for writing down prompts before a process is ended."""

QUEUE_FULL_RETRY_S = 2.0
"""Seconds after which a caller who found the queue full may try again."""

FetchModel = Callable[[Progress], Awaitable[Path]]
MakeLaunchContext = Callable[[], Awaitable[LaunchContext]]
EmitEvent = Callable[[Event], Awaitable[None]]
ChooseEngine = Callable[[ModelSpec, Path | None], Engine]


class ModelProcess:
    """A `Tenant` of the memory. ``fetch`` brings the model's files here, ``choose`` says which engine takes them,
    ``site`` is asked for when it starts.

    ``describe`` is called whenever more is known of the model.
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
        self._spec = spec
        self.tariff = tariff
        """What its answers cost, if that is known."""
        self.kind = engine
        """The engine; of a model whose files are not here yet it is the likely one."""
        self._choose = choose
        self._fetch = fetch
        self._site = site
        self._reservation = MemoryReservation(spec, residency)
        self._describe = describe
        self._state: State = "cold"
        self._running: RunningEngine | None = None
        self._loading: asyncio.Task[RunningEngine] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._replacing: asyncio.Task[None] | None = None
        """Waits for the time limit of its process's job, or moves it away from its node."""
        self._moving: asyncio.Task[None] | None = None
        self._succeeding = False
        """Whether a process is being started that takes the place of the one that runs."""
        self._leaves: set[tuple[str, str]] = set()
        """Launchers and nodes that a process which is being started moves away from once it is ready."""
        self._endings: set[asyncio.Task[None]] = set()
        """Each waits for the calls of a process that was replaced."""
        self._begun: tuple[Path | None, LaunchContext] | None = None
        """What its process was started from."""
        self.leaving = False
        """Whether it is to be unloaded when it is idle, wherever that comes from."""
        self._in_flight = InFlight()
        self._ending: InFlight | None = None
        """The turn whose end an unload waits for."""
        self._failures = 0
        self._retry_at = 0.0
        self._progress = StartupProgress(spec.name)
        self._last_log: list[str] = []
        self._closed = False
        self.adapting = ProcessAdapters(self)
        """The adapters that its process answers with."""
        self.error: PorticoError | None = None
        self.loaded_at: float | None = None
        self.used_at: float | None = None
        self._last_used = 0.0
        self._cost = ChangeCost()
        self.starts = 0
        """How often its process was started."""
        self.crashes = 0
        """How often its process ended by itself."""

    # --- what is known of it -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def pinned(self) -> bool:
        return self._spec.pin

    @property
    def busy(self) -> bool:
        return self.calls > 0

    @property
    def calls(self) -> int:
        """Calls that wait for it or are being answered."""
        return self._in_flight.calls + (self._ending.calls if self._ending else 0)

    @property
    def last_used(self) -> float:
        """When a call or a start touched it last, by `time.monotonic`; 0 if never."""
        return self._last_used

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
        running = self._running
        return running if running is not None and (running.process is None or running.process.alive) else None

    @property
    def state(self) -> State:
        # A process that crashed since is started by the next call.
        return "cold" if self._state == "ready" and self.running is None else self._state

    @property
    def stage(self) -> Status:
        """How far a start has come."""
        return self._progress.stage

    @property
    def pid(self) -> int | None:
        running = self.running
        return running.process.pid if running and running.process else None

    @property
    def memory(self) -> int | None:
        """Bytes that its process and those it started hold, as the system counts them; ``None`` without a process."""
        pid = self.pid
        size = resident_bytes(pid, children=True) if pid else None
        self._reservation.record_size(size)
        return size

    @property
    def holds(self) -> int:
        return self._reservation.holds(
            lambda: self.memory, loading=self._loading is not None, alive=self.pid is not None
        )

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

    def info(self) -> Replica:
        """As one of several."""
        return Replica(
            source=self._spec.source,
            engine=self.kind.name,
            state=self.state,
            pid=self.pid,
            memory_bytes=self.memory,
            error=self.error.message if self.error else None,
            calls=self.calls,
            starts=self.starts,
            crashes=self.crashes,
        )

    def log(self, lines: int) -> list[str]:
        """The last lines of its engine's log, of the last process if none runs."""
        running = self._running
        return running.process.lines(lines) if running and running.process else self._last_log[-lines:]

    # --- calls ---------------------------------------------------------------------------------------------

    def enter(self) -> InFlightCall:
        """A place for a call that has come; whoever takes it must `leave` it."""
        self.used_at, self._last_used = time.time(), time.monotonic()
        return InFlightCall(self._in_flight)

    @property
    def is_ready(self) -> bool:
        """Whether a call that comes now is answered without waiting for a start."""
        return self.running is not None and self._stopping is None

    @property
    def start(self) -> asyncio.Task[RunningEngine] | None:
        """The start that is under way."""
        return self._loading

    @property
    def starting(self) -> bool:
        return self._loading is not None

    def wake(self) -> None:
        """Begin a start that no call waits for, with what memory is free. Does nothing if it runs or rests."""
        resting = self.error is not None and asyncio.get_running_loop().time() < self._retry_at
        if not (self._closed or resting or self._loading or self._stopping or self.running):
            self._join_or_start(spare=True)

    async def engine(self, call: InFlightCall, emit: EmitEvent) -> RunningEngine:
        """The running engine, started if need be; ``emit`` hears how far that is. It stays until ``place`` is left."""
        while not self._closed:
            running = self.running
            if running is not None and (self._stopping is None or call.belongs_to(self._ending)):
                return running
            if self._stopping is not None:
                call.move_to(self._in_flight)
                await asyncio.wait([self._stopping])
            else:
                task = self._join_or_start()
                await self._progress.follow(task, call, emit)
                await self._wait_for_start(task)
        raise Unavailable(f"'{self.name}' is not started any more: the daemon stops.", code="stopping")

    def leave(self, call: InFlightCall, running: RunningEngine, error: BaseException | None) -> None:
        """The end of a call that had ``running``."""
        call.leave()
        self._cost.call_ended()
        self.used_at, self._last_used = time.time(), time.monotonic()
        if error is None:
            self._failures = 0
        elif running.process is not None and not running.process.alive and self._running is running:
            self._on_process_lost(running)

    # --- start ---------------------------------------------------------------------------------------------

    async def load(self, emit: EmitEvent) -> RunningEngine:
        """Fetch and start it, unless it runs; callers at the same time share one start."""
        call = InFlightCall(self._in_flight)
        try:
            return await self.engine(call, emit)
        finally:
            call.leave()
            self._cost.call_ended()

    async def _wait_for_start(self, task: asyncio.Task[RunningEngine]) -> RunningEngine:
        """What a start that others may wait for as well comes to."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if task.cancelled() and me is not None and not me.cancelling():
                raise Unavailable(f"'{self.name}' was unloaded while it was being loaded.") from None
            raise

    def _join_or_start(self, *, spare: bool = False) -> asyncio.Task[RunningEngine]:
        """The start that is under way, or a new one; nobody leaves memory for a ``spare`` one."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(spare=spare), name=f"load {self.name}")
            self._loading.add_done_callback(self._on_start_done)
        return self._loading

    def _on_start_done(self, task: asyncio.Task[RunningEngine]) -> None:
        self._loading = None
        self._progress.finish()
        self._leave_nodes()
        if task.cancelled() or task.exception() is not None:  # whoever waits has it; info() shows it
            self._reservation.release(self)

    async def _load(self, *, spare: bool) -> RunningEngine:
        if self._running is not None:
            self._on_process_lost(self._running)
        now = asyncio.get_running_loop().time()
        if self.error is not None and now < self._retry_at:
            raise Unavailable(
                f"{self.error.message} It is tried again in {self._retry_at - now:.0f} s at the earliest.",
                code=self.error.code,
                retry_after=self._retry_at - now,
            )
        try:
            path = await self._fetch_files() if self.kind.fetches else None
            self._state = "loading"
            self.kind = self._choose(self._spec, path)
            self._describe(self.kind.describe(self._spec, path))
            site = await self._site()
            if site.furnish is not None:
                await site.furnish(self.kind.name, self._report_build)
            if site.launcher.here:
                await self._reservation.take(
                    self, self.kind, path, spare=spare, waits=lambda: self._progress.report("memory")
                )
            self._progress.report("load")
            begin = time.monotonic()
            site = replace(
                site,
                report=self._progress.progress,
                gpus=tuple(self.gpus),
                waits=self._report_wait,
                described=self._describe,
            )
            running = await self.kind.start(self._spec, path, site)
        except PorticoError as error:
            ours = error if error.status >= 500 else _unloadable(self.name, error)
            self._state, self.error = "failed", ours
            self._back_off()
            logger.warning("model %s: %s", self.name, error.message)
            raise ours from error
        except BaseException:
            self._state = "cold"
            raise
        self._running, self._state, self.error = running, "ready", None
        self.loaded_at = time.time()
        self._last_used = time.monotonic()
        self._cost.started(begin, self._in_flight.calls)
        self.starts += 1
        self._describe(running.description)
        logger.info("model %s is ready", self.name)
        self._begun, self.leaving = (path, site), False
        self._watch_time_limit(running)
        return running

    def _report_wait(self, words: str) -> None:
        self._progress.set_stage(Status("queued", f"{self.name} {words}"))

    def _watch_time_limit(self, running: RunningEngine) -> None:
        if self._replacing is not None and self._replacing is not asyncio.current_task():
            self._replacing.cancel()  # it waits for the end of a process that is gone
        if running.process is not None and running.process.ends_at is not None:
            ends_at = running.process.ends_at
            self._replace_by(self._replace_in_time(running, ends_at), f"replace {self.name}")

    def _replace_by(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self._replacing = task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self._leave_nodes())
        return task

    async def _replace_in_time(self, running: RunningEngine, ends_at: float) -> None:
        """Before the job of its process reaches its time limit, start another."""
        assert self._begun is not None
        left = ends_at - time.time()
        # A limit shorter than the time to replace leaves half of it for work.
        await asyncio.sleep(max(left - self._begun[1].replace_s, left / 2, 0.0))
        if self._running is not running:
            return
        logger.info("model %s is replaced: the time limit of its job comes", self.name)
        await self._replace(running, ends_at)

    @property
    def launcher(self) -> str:
        """The launcher that its model names; empty for the setting's."""
        return self._spec.launcher

    def runs_at(self, launcher: str, node: str) -> bool:
        """Whether its process is one of that launcher's on that node."""
        running = self.running
        if running is None or running.process is None or self._begun is None:
            return False
        return self._begun[1].launcher.name == launcher and running.process.node == node

    def leave_node(self, launcher: str, node: str) -> None:
        """Move away from a node that is drained. A process that is still being started there does once it is ready."""
        if self.runs_at(launcher, node):
            self.move()
        elif self.starting or self._succeeding:
            self._leaves.add((launcher, node))

    def _leave_nodes(self) -> None:
        """What was being started is ready, or has failed."""
        leaves, self._leaves = self._leaves, set()
        if any(self.runs_at(*each) for each in leaves):
            self.move()

    def move(self) -> None:
        """Have its launcher start another process, and end this one when the calls that are here have their answers.
        Where none can be had, this one answers on until it is idle.
        """
        running = self.running
        moves = self._moving is not None and not self._moving.done()
        if running is None or self._stopping is not None or moves:
            return
        if self._replacing is not None:
            self._replacing.cancel()
        self._moving = self._replace_by(self._move(running), f"move {self.name}")

    async def _move(self, running: RunningEngine) -> None:
        logger.info("model %s moves away from its node", self.name)
        if not await self._replace(running, None) and self._running is running:
            self.leaving = True
            self._watch_time_limit(running)

    async def _replace(self, running: RunningEngine, ends_at: float | None) -> bool:
        """Start another process; calls that are here end on the old one. Whether there is another."""
        assert self._begun is not None
        path, site = self._begun
        adapters = (await self._site()).adapters
        self._succeeding = True
        try:
            successor = await self.kind.start(
                self._spec, path, replace(site, adapters=adapters, report=None, waits=None)
            )
        except PorticoError as error:  # the next call after the end starts one
            logger.warning("model %s could not be replaced: %s", self.name, error.message)
            return False
        finally:
            self._succeeding = False
        if self._running is not running:  # it was unloaded or lost meanwhile
            await _end(successor)
            return False
        ending, self._in_flight = self._in_flight, InFlight()
        self._running, self.leaving = successor, False
        self.starts += 1
        self.loaded_at = time.time()
        left = None if ends_at is None else max(0.0, ends_at - time.time())
        task = asyncio.create_task(_end_when_empty(running, ending, left), name=f"end {self.name}")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        self._watch_time_limit(successor)
        return True

    def _report_build(self, told: Status) -> None:
        self._progress.set_stage(replace(told, message=f"{self.name}: {told.message}"))

    async def _fetch_files(self) -> Path:
        async def report(done: int, total: int | None) -> None:
            self._state = "downloading"
            self._progress.report("download", done, total, "bytes")

        return await self._fetch(report)

    async def try_adapter(self, adapter: AdapterScale) -> None:
        """Find out whether the model can be loaded with it; fetches its files. Raises `PorticoError`."""
        path = await self._fetch(_quietly) if self.kind.fetches else None
        await try_on_process(self._choose(self._spec, path), self._spec, path, adapter, await self._site())

    # --- end -----------------------------------------------------------------------------------------------

    def _on_process_lost(self, running: RunningEngine) -> None:
        """The process behind it has ended by itself."""
        if self._running is not running or running.process is None:
            return
        self._running, self._state = None, "cold"
        self._reservation.release(self)
        self.crashes += 1
        self._last_log = running.process.lines(1_000)
        self.error = Unavailable(
            f"The engine of '{self.name}' {running.process.exit_description()}.", code="engine_crashed"
        )
        self._back_off()
        logger.warning("%s", self.error.message)

    def _back_off(self) -> None:
        """After a first failure the next call may try at once; then it waits 1, 2, 4 … seconds."""
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(MAX_PAUSE_S, 2.0 ** (self._failures - 2))
        self._retry_at = asyncio.get_running_loop().time() + pause

    def reset_failures(self) -> None:
        """Let the next call start it at once, whatever happened before."""
        self.error, self._failures, self._retry_at = None, 0, 0.0

    async def close(self) -> None:
        """End it now and for good, calls in flight included."""
        self._closed = True
        await self.unload(drain=0)

    async def vacate(self) -> None:
        """Finish the start that is under way and answer the calls that are here, then give the memory back."""
        while self._loading is not None:
            await asyncio.wait([self._loading])
        await self.unload(drain=None)

    async def unload(self, *, drain: float | None = DRAIN_S) -> None:
        """Give its memory back once the calls that are here have ended, or after ``drain`` seconds.

        A call that comes meanwhile waits and then restarts it.
        """
        if self._stopping is None:
            ending = self._ending = self._in_flight
            self._in_flight = InFlight()
            self._stopping = asyncio.create_task(self._stop(ending, drain), name=f"unload {self.name}")
        elif drain == 0 and self._ending is not None:
            self._ending.release_waiters()
        await asyncio.shield(self._stopping)

    async def _stop(self, ending: InFlight, drain: float | None) -> None:
        try:
            for task in (self._loading, self._replacing, *self._endings):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
            if drain != 0:
                await ending.wait_until_empty(drain)
            begin = time.monotonic()
            if self.running is not None:
                self._reservation.record_size(self.memory)
            running, self._running = self._running, None
            self._state = "cold"
            self.reset_failures()
            self._progress.report("cold")
            if running is not None and running.process is not None:
                await self._keep_prompts(running)
                await running.process.stop()
                self._last_log = running.process.lines(1_000)
                self._cost.ended(begin)
        finally:
            self._reservation.release(self)
            self._stopping = self._ending = None

    async def _keep_prompts(self, running: RunningEngine) -> None:
        """Have the engine write down what it has read, if it can."""
        if not isinstance(running.client, KeepsPrompts):
            return
        try:
            await running.client.keep_prompts(asyncio.get_running_loop().time() + KEEP_TIMEOUT_S)
        except (PorticoError, OSError) as error:
            logger.warning("prompts of %s are not kept: %s", self.name, error)


async def _end(running: RunningEngine) -> None:
    if running.process is not None:
        await asyncio.shield(running.process.stop())


async def _end_when_empty(running: RunningEngine, calls: InFlight, timeout_s: float | None) -> None:
    """End what was replaced once its calls have left, or after that time."""
    try:
        await calls.wait_until_empty(timeout_s)
    finally:
        await _end(running)


async def _quietly(_done: int, _total: int | None) -> None:
    """For a download that nobody watches."""


def _unloadable(name: str, error: PorticoError) -> PorticoError:
    """A 4xx about the model's own source is not the caller's mistake."""
    code = "model_not_found" if isinstance(error, NotFound) else "model_not_loadable"
    return Unavailable(f"The model '{name}' cannot be loaded. {error.message}", code=code)
