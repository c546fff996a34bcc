"""Starts the engine of one model: obtains its files and memory, starts its process, and pauses after failures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from portico.wire import Progressed
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.core.relay import AdapterScale
from portico_server.models.engine_slot import EngineSlot
from portico_server.models.memory_reservation import MemoryReservation
from portico_server.models.protocol import (
    Engine,
    LaunchContext,
    ModelDescription,
    RunningEngine,
    TriesAdapters,
)
from portico_server.models.sources import Progress
from portico_server.models.spec import ModelSpec, State
from portico_server.models.startup_progress import StartupProgress

logger = logging.getLogger(__name__)

MAX_PAUSE_S = 60.0
"""Maximum pause between attempts to start a failing engine, in seconds."""

FetchModel = Callable[[Progress], Awaitable[Path]]
MakeLaunchContext = Callable[[], Awaitable[LaunchContext]]
ChooseEngine = Callable[[ModelSpec, Path | None], Engine]


class EngineLaunch:
    """Fills the ``slot`` of a model with a running engine. Concurrent callers share one start.

    ``fetch`` downloads the model's files, ``choose`` selects the engine for them, ``site`` determines at the start
    where the engine runs, and ``describe`` is called whenever more is known about the model. ``on_ready`` is called
    with the engine and the time at which its start began (`time.monotonic`). ``on_end`` is called after each start,
    including failed starts.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        slot: EngineSlot,
        reservation: MemoryReservation,
        *,
        choose: ChooseEngine,
        fetch: FetchModel,
        site: MakeLaunchContext,
        describe: Callable[[ModelDescription], None],
        on_ready: Callable[[RunningEngine, float], None],
        on_end: Callable[[], None],
    ) -> None:
        self._spec = spec
        self.kind = engine
        """The engine. While the model's files are missing, this is the engine that will probably be chosen."""
        self._slot = slot
        self._reservation = reservation
        self._choose = choose
        self._fetch = fetch
        self._site = site
        self._describe = describe
        self._on_ready = on_ready
        self._on_end = on_end
        self.progress = StartupProgress(spec.name)
        self.state: State = "cold"
        """The state after the last step of a start or a stop. It does not change if the process ends by itself."""
        self.task: asyncio.Task[RunningEngine] | None = None
        """The start in progress."""
        self.begun: tuple[Path | None, LaunchContext] | None = None
        """The path and the launch context with which the running process was started."""
        self.error: PorticoError | None = None
        self._failures = 0
        self._retry_at = 0.0

    @property
    def pause_s(self) -> float:
        """Seconds until the next start is allowed after a failure."""
        if self.error is None:
            return 0.0
        return max(0.0, self._retry_at - asyncio.get_running_loop().time())

    def begin(self, *, spare: bool = False) -> asyncio.Task[RunningEngine]:
        """Return the start in progress, or begin a new start. For a ``spare`` engine, no memory of other models is
        freed.
        """
        if self.task is None:
            self.task = asyncio.create_task(self._start(spare=spare), name=f"load {self._spec.name}")
            self.task.add_done_callback(self._on_done)
        return self.task

    async def wait(self, task: asyncio.Task[RunningEngine]) -> RunningEngine:
        """Wait for a start, which other callers may share, and return its result."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if task.cancelled() and me is not None and not me.cancelling():
                raise Unavailable(f"'{self._spec.name}' was unloaded while it was being loaded.") from None
            raise

    def _on_done(self, task: asyncio.Task[RunningEngine]) -> None:
        self.task = None
        self.progress.finish()
        self._on_end()
        # marks the error as retrieved: the waiting callers receive it, and info() shows it
        if task.cancelled() or task.exception() is not None:
            self._reservation.release()

    async def _start(self, *, spare: bool) -> RunningEngine:
        self.lose()
        if self.error is not None and (pause_s := self.pause_s):
            raise Unavailable(
                f"{self.error.message} The next attempt is possible in {pause_s:.0f} s at the earliest.",
                code=self.error.code,
                retry_after=pause_s,
            )
        try:
            path = await self._fetch_files() if self.kind.fetches else None
            self.state = "loading"
            self.kind = self._choose(self._spec, path)
            self._describe(self.kind.describe(self._spec, path))
            site = await self._site()
            if site.furnish is not None:
                await site.furnish(self.kind.name, self._report_build)
            if site.launcher.here:
                await self._reservation.take(
                    self.kind, path, spare=spare, waits=lambda: self.progress.report("memory")
                )
            self.progress.report("load")
            begin = time.monotonic()
            site = replace(
                site,
                report=self.progress.progress,
                gpus=tuple(self._reservation.gpus),
                waits=self._report_wait,
                described=self._describe,
            )
            running = await self.kind.start(self._spec, path, site)
        except PorticoError as error:
            portico_error = error if error.status >= 500 else _unloadable(self._spec.name, error)
            self.state, self.error = "failed", portico_error
            self._back_off()
            logger.warning("model %s: %s", self._spec.name, error.message)
            raise portico_error from error
        except BaseException:
            self.state = "cold"
            raise
        self._slot.fill(running)
        self.state, self.error, self.begun = "ready", None, (path, site)
        self._describe(running.description)
        logger.info("model %s is ready", self._spec.name)
        self._on_ready(running, begin)
        return running

    async def start_another(self) -> RunningEngine:
        """Start a process that will replace the running one. Raises `PorticoError`."""
        assert self.begun is not None
        path, site = self.begun
        adapters = (await self._site()).adapters
        return await self.kind.start(
            self._spec, path, replace(site, adapters=adapters, report=None, waits=None)
        )

    async def try_adapter(self, adapter: AdapterScale) -> None:
        """Test whether the model can be loaded with an adapter. Downloads the model's files. Raises `PorticoError`."""
        path = await self._fetch(_quietly) if self.kind.fetches else None
        kind = self._choose(self._spec, path)
        site = await self._site()
        if not isinstance(kind, TriesAdapters):
            raise InvalidRequest(
                f"The engine '{kind.name}' of '{self._spec.name}' does not support adapters.",
                code="adapters_unsupported",
                param="base",
            )
        await kind.try_adapter(self._spec, path, adapter, site)

    def _report_build(self, progress: Progressed) -> None:
        self.progress.set_stage(replace(progress, message=f"{self._spec.name}: {progress.message}"))

    def _report_wait(self, words: str) -> None:
        self.progress.set_stage(Progressed("queued", f"{self._spec.name} {words}"))

    async def _fetch_files(self) -> Path:
        async def report(done_bytes: int, total: int | None) -> None:
            self.state = "downloading"
            self.progress.report("download", done_bytes, total, "bytes")

        return await self._fetch(report)

    def lose(self) -> None:
        """Record that the engine's process, if any, has ended unexpectedly."""
        ending = self._slot.lose()
        if ending is None:
            return
        self.state = "cold"
        self._reservation.release()
        self.error = Unavailable(f"The engine of '{self._spec.name}' {ending}.", code="engine_crashed")
        self._back_off()
        logger.warning("%s", self.error.message)

    def _back_off(self) -> None:
        """Increase the pause before the next start: no pause after the first failure, then 1, 2, 4 … seconds."""
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(MAX_PAUSE_S, 2.0 ** (self._failures - 2))
        self._retry_at = asyncio.get_running_loop().time() + pause

    def record_answer(self) -> None:
        """Reset the number of consecutive failures, because a call was answered."""
        self._failures = 0

    def reset_failures(self) -> None:
        """Allow the next call to start the engine immediately, regardless of earlier failures."""
        self.error, self._failures, self._retry_at = None, 0, 0.0


async def _quietly(_done_bytes: int, _total: int | None) -> None:
    """Ignore the progress of a download."""


def _unloadable(name: str, error: PorticoError) -> PorticoError:
    """Convert a 4xx error about the model's own source into a server error, because the caller did not cause it."""
    code = "model_not_found" if isinstance(error, NotFound) else "model_not_loadable"
    return Unavailable(f"The model '{name}' cannot be loaded. {error.message}", code=code)
