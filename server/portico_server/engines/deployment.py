"""A model on an engine: loaded on first use, kept while it is used, started again when it crashed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from portico_server.core.context import Context
from portico_server.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    PorticoError,
    Unavailable,
)
from portico_server.core.request import Chat, Embed, Relay, Relayed, Request, Result
from portico_server.core.servable import Card
from portico_server.engines import answer
from portico_server.engines.flight import Held
from portico_server.engines.profiles import FUSION_WEIGHT, profile
from portico_server.engines.protocol import Description, Engine, Running, Site
from portico_server.engines.refusal import frame
from portico_server.engines.sources import Progress
from portico_server.engines.spec import DeploymentInfo, ModelSpec, State

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds of loading after which a stream begins with comments, and the time between two of them."""

DRAIN = 30.0
"""Seconds that an unload waits for calls to end before it ends them."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts to start an engine that does not start."""

Fetch = Callable[[Progress], Awaitable[Path]]
Sites = Callable[[], Awaitable[Site]]


class Deployment:
    """A `Servable` that also `Relays`.

    ``fetch`` brings the model's files here, ``cached`` says where they are if they are; ``site`` is asked
    for when the model is started; ``changed`` is called when the card says something new.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        *,
        owner: str | None,
        created: float,
        cached: Path | None,
        fetch: Fetch,
        site: Sites,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.owner = owner
        self.engine = engine
        self._created = created
        self._fetch = fetch
        self._site = site
        self._changed = changed
        self._description = engine.describe(spec, cached)
        self._card = self._make_card()
        self._state: State = "cold"
        self._running: Running | None = None
        self._loading: asyncio.Task[Running] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._progress = ""
        self._error: PorticoError | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._loaded_at: float | None = None
        self._used_at: float | None = None
        self._last_log: list[str] = []

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def card(self) -> Card:
        return self._card

    def _make_card(self) -> Card:
        known = self._description
        labels: dict[str, object] = {"source": self.spec.source, "engine": self.engine.name}
        if known.context_length:
            labels["context_length"] = known.context_length
        if known.dimensions:
            labels["dimensions"] = known.dimensions
        if known.parameters:
            labels["parameters"] = known.parameters
        if known.task == "embedding":
            found = profile(self.spec.source)
            weight = found.fusion_weight if found else None
            labels["fusion_weight"] = FUSION_WEIGHT if weight is None else weight
        return Card(
            self.spec.name,
            "model",
            description=self.spec.description,
            capabilities=known.capabilities,
            labels=labels,
            owner=self.owner,
            created=int(self._created),
        )

    @property
    def running(self) -> Running | None:
        """What answers now, if something does."""
        running = self._running
        return running if running is not None and (running.child is None or running.child.alive) else None

    @property
    def idle_since(self) -> float | None:
        """Since when (``time.time()``) its process has had nothing to do; ``None`` if it is busy or there
        is none.
        """
        running = self.running
        if running is None or running.child is None or self._in_flight or self._stopping:
            return None
        return self._used_at or self._loaded_at

    def info(self, aliases: tuple[str, ...] = ()) -> DeploymentInfo:
        """As the daemon shows it."""
        running = self.running
        state = self._state
        if state == "ready" and running is None:
            state = "cold"  # it crashed since; the next call starts it
        pid = running.child.pid if running and running.child else None
        return DeploymentInfo(
            name=self.spec.name,
            source=self.spec.source,
            engine=self.engine.name,
            task=self._description.task,
            state=state,
            pid=pid,
            memory_bytes=_resident(pid) if pid else None,
            error=self._error.message if self._error else None,
            aliases=aliases,
            loaded_at=self._loaded_at if running else None,
            last_used_at=self._used_at,
            context_length=self._description.context_length,
            dimensions=self._description.dimensions,
            owner=self.owner,
            description=self.spec.description,
        )

    def log(self, lines: int) -> list[str]:
        """The last lines of its engine's log, of the last process if none runs."""
        running = self._running
        return running.child.lines(lines) if running and running.child else self._last_log[-lines:]

    # --- work ----------------------------------------------------------------------------------------------

    async def call(self, request: Request, context: Context) -> Result:
        """`Chat` gives a `Reply` and its events, `Embed` gives `Vectors`: the same way as `relay`, read
        back.
        """
        if isinstance(request, Chat):
            return await answer.reply(self, request, context)
        if isinstance(request, Embed):
            return await answer.vectors(self, request, context)
        raise InvalidRequest(
            f"'{self.spec.name}' is a model: it takes chats or texts to embed, not {type(request).__name__}."
        )

    async def relay(self, request: Relay, context: Context) -> Relayed:
        """See `portico_server.core.servable.Relays`. Loads the model first if need be."""
        self._check(request)
        self._used_at = time.time()
        absent = self.running is None or self._stopping is not None
        if absent and request.stream and request.operation != "embeddings":
            task = self._begin()
            await asyncio.wait([task], timeout=PATIENCE)
            if not task.done():
                relayed = Relayed("text/event-stream", answer.once(b""))
                relayed.chunks = self._relay_when_loaded(request, context, relayed)
                return relayed
            await self._begun(task)
        return await self._relay(request, context)

    def _check(self, request: Relay) -> None:
        known = self._description.capabilities
        needed = {"chat/completions": "chat"}.get(request.operation, request.operation)
        if needed not in known:
            does = "embeddings" if "embeddings" in known else "chat"
            raise InvalidRequest(
                f"The model '{self.spec.name}' is for {does}; it does not do {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )

    async def _relay(self, request: Relay, context: Context) -> Relayed:
        running = await self.load()
        while self._stopping is not None or self.running is not running:
            running = await self.load()
        self._in_flight += 1
        self._idle.clear()
        try:
            relayed = await running.speaker.relay(request, context.deadline)
        except BaseException as error:
            self._leave(running, error)
            raise
        relayed.chunks = Held(relayed.chunks, lambda error: self._leave(running, error))
        return relayed

    def _leave(self, running: Running, error: BaseException | None) -> None:
        self._in_flight -= 1
        self._used_at = time.time()
        if self._in_flight == 0:
            self._idle.set()
        if error is None:
            self._failures = 0
        elif running.child is not None and not running.child.alive and self._running is running:
            self._lost(running)

    async def _relay_when_loaded(
        self, request: Relay, context: Context, relayed: Relayed
    ) -> AsyncIterator[bytes]:
        """A stream that has been promised to a client who waits for a slow start: comments, then the
        answer.
        """
        task = self._begin()
        yield self._comment()
        try:
            while not task.done():
                if context.deadline is not None and asyncio.get_running_loop().time() > context.deadline:
                    raise DeadlineExceeded(f"'{self.spec.name}' was not loaded in time; it goes on loading.")
                await asyncio.wait([task], timeout=PATIENCE)
                yield self._comment()
            await self._begun(task)
            inner = await self._relay(request, context)
        except PorticoError as error:
            yield frame(error)
            raise
        try:
            async for chunk in inner.chunks:
                yield chunk
        finally:
            await answer.close(inner.chunks)
            relayed.usage = inner.usage

    def _comment(self) -> bytes:
        return f": {self._state} {self.spec.name}{self._progress}\n\n".encode()

    # --- life ----------------------------------------------------------------------------------------------

    async def load(self) -> Running:
        """Fetch and start it, unless it runs; callers at the same time share one start."""
        while self._stopping is not None:
            await asyncio.wait([self._stopping])
        running = self.running
        if running is not None:
            return running
        return await self._begun(self._begin())

    async def _begun(self, task: asyncio.Task[Running]) -> Running:
        """What a start that others may wait for as well comes to."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if task.cancelled() and me is not None and not me.cancelling():
                raise Unavailable(f"'{self.spec.name}' was unloaded while it was being loaded.") from None
            raise

    def _begin(self) -> asyncio.Task[Running]:
        """The start that is under way, or a new one."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name=f"load {self.spec.name}")
            self._loading.add_done_callback(self._loaded)
        return self._loading

    def _loaded(self, task: asyncio.Task[Running]) -> None:
        self._loading = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; info() shows it

    async def _load(self) -> Running:
        if self._stopping is not None:
            await asyncio.wait([self._stopping])
        if self._running is not None:
            self._lost(self._running)
        now = asyncio.get_running_loop().time()
        if self._error is not None and now < self._retry_at:
            raise Unavailable(
                f"{self._error.message} It is tried again in {self._retry_at - now:.0f} s at the earliest.",
                code=self._error.code,
                retry_after=self._retry_at - now,
            )
        try:
            path = await self._fetched() if self.engine.fetches else None
            self._state, self._progress = "loading", ""
            self._describe(self.engine.describe(self.spec, path))
            running = await self.engine.start(self.spec, path, await self._site())
        except PorticoError as error:
            ours = error if error.status >= 500 else _unloadable(self.spec.name, error)
            self._state, self._error = "failed", ours
            self._pause()
            logger.warning("model %s: %s", self.spec.name, error.message)
            raise ours from error
        except BaseException:
            self._state = "cold"
            raise
        self._running, self._state, self._error = running, "ready", None
        self._loaded_at = time.time()
        self._describe(running.description)
        logger.info("model %s is ready", self.spec.name)
        return running

    async def _fetched(self) -> Path:
        async def report(done: int, total: int | None) -> None:
            self._state = "downloading"
            of = f" of {total / 1e6:.0f}" if total else ""
            self._progress = f": {done / 1e6:.0f}{of} MB"

        return await self._fetch(report)

    def _describe(self, description: Description) -> None:
        if description != self._description:
            self._description = description
            self._card = self._make_card()
            self._changed()

    def _lost(self, running: Running) -> None:
        """The process behind it has ended by itself."""
        if self._running is not running or running.child is None:
            return
        self._running, self._state = None, "cold"
        self._last_log = running.child.lines(1_000)
        self._error = Unavailable(
            f"The engine of '{self.spec.name}' {running.child.fate()}.", code="engine_crashed"
        )
        self._pause()
        logger.warning("%s", self._error.message)

    def _pause(self) -> None:
        """After a first failure the next call may try at once; then it waits 1, 2, 4 … seconds."""
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(LONGEST_PAUSE, 2.0 ** (self._failures - 2))
        self._retry_at = asyncio.get_running_loop().time() + pause

    async def unload(self, *, drain: float = DRAIN) -> None:
        """Give its memory back once the calls in flight have ended, or after ``drain`` seconds. A call that
        comes meanwhile waits and then starts it anew."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(drain), name=f"unload {self.spec.name}")
        await asyncio.shield(self._stopping)

    async def _stop(self, drain: float) -> None:
        try:
            loading = self._loading
            if loading is not None:
                loading.cancel()
                await asyncio.wait([loading])
            if self._in_flight and drain:
                await asyncio.wait([waiter := asyncio.ensure_future(self._idle.wait())], timeout=drain)
                waiter.cancel()
            running, self._running = self._running, None
            self._state, self._error, self._failures, self._progress = "cold", None, 0, ""
            if running is not None and running.child is not None:
                await running.child.stop()
                self._last_log = running.child.lines(1_000)
        finally:
            self._stopping = None


def _unloadable(name: str, error: PorticoError) -> PorticoError:
    """A 4xx about the model's own source is not the caller's mistake."""
    code = "model_not_found" if isinstance(error, NotFound) else "model_not_loadable"
    return Unavailable(f"The model '{name}' cannot be loaded. {error.message}", code=code)


def _resident(pid: int) -> int | None:
    # psutil takes a moment to import, and nobody asks for it at start.
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
