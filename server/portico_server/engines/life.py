"""The life of one model's process: started once for all who wait, rested after crashes, ended after its calls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from portico.wire import Event, Status
from portico_server.core.errors import NotFound, PorticoError, Unavailable
from portico_server.core.relay import AdapterScale
from portico_server.engines.adapting import Adapting, try_on
from portico_server.engines.flight import Place, Turn
from portico_server.engines.news import News
from portico_server.engines.prices import Tariff
from portico_server.engines.protocol import Description, Engine, Running, Site
from portico_server.engines.residency import Residency, resident
from portico_server.engines.room import Room
from portico_server.engines.sources import Progress
from portico_server.engines.spec import ModelSpec, ReplicaInfo, State

logger = logging.getLogger(__name__)

DRAIN = 30.0
"""Seconds that an unload waits for calls to end before it ends them."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts to start an engine that does not start."""

QUEUE_PAUSE = 2.0
"""Seconds after which a caller who found the queue full may try again."""

Fetch = Callable[[Progress], Awaitable[Path]]
Sites = Callable[[], Awaitable[Site]]
Emit = Callable[[Event], Awaitable[None]]
Choose = Callable[[ModelSpec, Path | None], Engine]


class Life:
    """A `Tenant` of the memory. ``fetch`` brings the model's files here, ``choose`` says which engine takes them,
    ``site`` is asked for when it starts.

    ``describe`` is called whenever more is known of the model.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        *,
        choose: Choose,
        fetch: Fetch,
        site: Sites,
        residency: Residency,
        describe: Callable[[Description], None],
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
        self._room = Room(spec, residency)
        self._describe = describe
        self._state: State = "cold"
        self._running: Running | None = None
        self._loading: asyncio.Task[Running] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._turn = Turn()
        self._ending: Turn | None = None
        """The turn whose end an unload waits for."""
        self._failures = 0
        self._retry_at = 0.0
        self._news = News(spec.name)
        self._last_log: list[str] = []
        self._closed = False
        self.adapting = Adapting(self)
        """The adapters that its process answers with."""
        self.error: PorticoError | None = None
        self.loaded_at: float | None = None
        self.used_at: float | None = None
        self._touched = 0.0
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
        return self._turn.calls + (self._ending.calls if self._ending else 0)

    @property
    def last_used(self) -> float:
        """When a call or a start touched it last, by `time.monotonic`; 0 if never."""
        return self._touched

    @property
    def running(self) -> Running | None:
        """What answers now, if something does."""
        running = self._running
        return running if running is not None and (running.child is None or running.child.alive) else None

    @property
    def state(self) -> State:
        # A process that crashed since is started by the next call.
        return "cold" if self._state == "ready" and self.running is None else self._state

    @property
    def stage(self) -> Status:
        """How far a start has come."""
        return self._news.stage

    @property
    def pid(self) -> int | None:
        running = self.running
        return running.child.pid if running and running.child else None

    @property
    def memory(self) -> int | None:
        """Bytes its process holds, as the system counts them; ``None`` without a process."""
        pid = self.pid
        size = resident(pid) if pid else None
        self._room.seen(size)
        return size

    @property
    def holds(self) -> int:
        return self._room.holds(
            lambda: self.memory, loading=self._loading is not None, alive=self.pid is not None
        )

    @property
    def gpus(self) -> Mapping[int, int]:
        return self._room.gpus

    @property
    def idle_since(self) -> float | None:
        """Since when (`time.monotonic`) its process has had nothing to do; ``None`` if it is busy or there
        is none.
        """
        running = self.running
        if running is None or running.child is None or self.busy or self._stopping:
            return None
        return self.last_used

    def info(self) -> ReplicaInfo:
        """As one of several."""
        return ReplicaInfo(
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
        return running.child.lines(lines) if running and running.child else self._last_log[-lines:]

    # --- calls ---------------------------------------------------------------------------------------------

    def enter(self) -> Place:
        """A place for a call that has come; whoever takes it must `leave` it."""
        self.used_at, self._touched = time.time(), time.monotonic()
        return Place(self._turn)

    @property
    def at_hand(self) -> bool:
        """Whether a call that comes now is answered without waiting for a start."""
        return self.running is not None and self._stopping is None

    @property
    def start(self) -> asyncio.Task[Running] | None:
        """The start that is under way."""
        return self._loading

    @property
    def starting(self) -> bool:
        return self._loading is not None

    def wake(self) -> None:
        """Begin a start that no call waits for, with what memory is free. Does nothing if it runs or rests."""
        resting = self.error is not None and asyncio.get_running_loop().time() < self._retry_at
        if not (self._closed or resting or self._loading or self._stopping or self.running):
            self._begin(spare=True)

    async def engine(self, place: Place, emit: Emit) -> Running:
        """The running engine, started if need be; ``emit`` hears how far that is. It stays until ``place`` is left."""
        while not self._closed:
            running = self.running
            if running is not None and (self._stopping is None or place.within(self._ending)):
                return running
            if self._stopping is not None:
                place.move(self._turn)
                await asyncio.wait([self._stopping])
            else:
                task = self._begin()
                await self._news.follow(task, place, emit)
                await self._begun(task)
        raise Unavailable(f"'{self.name}' is not started any more: the daemon stops.", code="stopping")

    def leave(self, place: Place, running: Running, error: BaseException | None) -> None:
        """The end of a call that had ``running``."""
        place.leave()
        self.used_at, self._touched = time.time(), time.monotonic()
        if error is None:
            self._failures = 0
        elif running.child is not None and not running.child.alive and self._running is running:
            self._lost(running)

    # --- start ---------------------------------------------------------------------------------------------

    async def load(self, emit: Emit) -> Running:
        """Fetch and start it, unless it runs; callers at the same time share one start."""
        place = Place(self._turn)
        try:
            return await self.engine(place, emit)
        finally:
            place.leave()

    async def _begun(self, task: asyncio.Task[Running]) -> Running:
        """What a start that others may wait for as well comes to."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if task.cancelled() and me is not None and not me.cancelling():
                raise Unavailable(f"'{self.name}' was unloaded while it was being loaded.") from None
            raise

    def _begin(self, *, spare: bool = False) -> asyncio.Task[Running]:
        """The start that is under way, or a new one; nobody leaves memory for a ``spare`` one."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(spare=spare), name=f"load {self.name}")
            self._loading.add_done_callback(self._loaded)
        return self._loading

    def _loaded(self, task: asyncio.Task[Running]) -> None:
        self._loading = None
        self._news.end()
        if task.cancelled() or task.exception() is not None:  # whoever waits has it; info() shows it
            self._room.release(self)

    async def _load(self, *, spare: bool) -> Running:
        if self._running is not None:
            self._lost(self._running)
        now = asyncio.get_running_loop().time()
        if self.error is not None and now < self._retry_at:
            raise Unavailable(
                f"{self.error.message} It is tried again in {self._retry_at - now:.0f} s at the earliest.",
                code=self.error.code,
                retry_after=self._retry_at - now,
            )
        try:
            path = await self._fetched() if self.kind.fetches else None
            self._state = "loading"
            self.kind = self._choose(self._spec, path)
            self._describe(self.kind.describe(self._spec, path))
            site = await self._site()
            if site.furnish is not None:
                await site.furnish(self.kind.name, self._building)
            await self._room.take(self, self.kind, path, spare=spare, waits=lambda: self._news.tell("memory"))
            self._news.tell("load")
            site = replace(site, report=self._news.progress, gpus=tuple(self.gpus))
            running = await self.kind.start(self._spec, path, site)
        except PorticoError as error:
            ours = error if error.status >= 500 else _unloadable(self.name, error)
            self._state, self.error = "failed", ours
            self._pause()
            logger.warning("model %s: %s", self.name, error.message)
            raise ours from error
        except BaseException:
            self._state = "cold"
            raise
        self._running, self._state, self.error = running, "ready", None
        self.loaded_at, self._touched = time.time(), time.monotonic()
        self.starts += 1
        self._describe(running.description)
        logger.info("model %s is ready", self.name)
        return running

    def _building(self, told: Status) -> None:
        self._news.say(replace(told, message=f"{self.name}: {told.message}"))

    async def _fetched(self) -> Path:
        async def report(done: int, total: int | None) -> None:
            self._state = "downloading"
            self._news.tell("download", done, total, "bytes")

        return await self._fetch(report)

    async def try_adapter(self, adapter: AdapterScale) -> None:
        """Find out whether the model can be loaded with it; fetches its files. Raises `PorticoError`."""
        path = await self._fetch(_quietly) if self.kind.fetches else None
        await try_on(self._choose(self._spec, path), self._spec, path, adapter, await self._site())

    # --- end -----------------------------------------------------------------------------------------------

    def _lost(self, running: Running) -> None:
        """The process behind it has ended by itself."""
        if self._running is not running or running.child is None:
            return
        self._running, self._state = None, "cold"
        self._room.release(self)
        self.crashes += 1
        self._last_log = running.child.lines(1_000)
        self.error = Unavailable(
            f"The engine of '{self.name}' {running.child.fate()}.", code="engine_crashed"
        )
        self._pause()
        logger.warning("%s", self.error.message)

    def _pause(self) -> None:
        """After a first failure the next call may try at once; then it waits 1, 2, 4 … seconds."""
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(LONGEST_PAUSE, 2.0 ** (self._failures - 2))
        self._retry_at = asyncio.get_running_loop().time() + pause

    def forgive(self) -> None:
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

    async def unload(self, *, drain: float | None = DRAIN) -> None:
        """Give its memory back once the calls that are here have ended, or after ``drain`` seconds.

        A call that comes meanwhile waits and then starts it anew.
        """
        if self._stopping is None:
            ending = self._ending = self._turn
            self._turn = Turn()
            self._stopping = asyncio.create_task(self._stop(ending, drain), name=f"unload {self.name}")
        elif drain == 0 and self._ending is not None:
            self._ending.dismiss()
        await asyncio.shield(self._stopping)

    async def _stop(self, ending: Turn, drain: float | None) -> None:
        try:
            loading = self._loading
            if loading is not None:
                loading.cancel()
                await asyncio.wait([loading])
            if drain != 0:
                await ending.over(drain)
            if self.running is not None:
                self._room.seen(self.memory)
            running, self._running = self._running, None
            self._state = "cold"
            self.forgive()
            self._news.tell("cold")
            if running is not None and running.child is not None:
                await running.child.stop()
                self._last_log = running.child.lines(1_000)
        finally:
            self._room.release(self)
            self._stopping = self._ending = None


async def _quietly(_done: int, _total: int | None) -> None:
    """For a download that nobody watches."""


def _unloadable(name: str, error: PorticoError) -> PorticoError:
    """A 4xx about the model's own source is not the caller's mistake."""
    code = "model_not_found" if isinstance(error, NotFound) else "model_not_loadable"
    return Unavailable(f"The model '{name}' cannot be loaded. {error.message}", code=code)
