"""A model on an engine, as the rest of the daemon sees it: its card, its state, and its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from portico.wire import Event
from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded, InvalidRequest, PorticoError
from portico_server.core.request import Chat, Embed, Relay, Relayed, Request, Rerank, Result
from portico_server.core.servable import Card
from portico_server.engines import answer
from portico_server.engines.flight import Held, Place
from portico_server.engines.life import DRAIN, Choose, Fetch, Life, Sites
from portico_server.engines.profiles import FUSION_WEIGHT, profile
from portico_server.engines.protocol import Description, Engine, Running
from portico_server.engines.refusal import frame
from portico_server.engines.residency import Residency
from portico_server.engines.spec import DeploymentInfo, ModelSpec

PATIENCE = 5.0
"""Seconds of loading after which a stream begins with comments, and the time between two of them."""


class Deployment:
    """A `Servable` that also `Relays`.

    ``fetch`` brings the model's files here, ``cached`` says where they are if they are; ``site`` is asked
    for when the model is started; ``changed`` is called when the card says something new. ``queue_limit`` holds
    where the spec has none.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        *,
        owner: str | None,
        created: float,
        cached: Path | None,
        choose: Choose,
        fetch: Fetch,
        site: Sites,
        residency: Residency,
        queue_limit: int,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.owner = owner
        self._created = created
        self._changed = changed
        self.life = Life(
            spec,
            engine,
            choose=choose,
            fetch=fetch,
            site=site,
            residency=residency,
            queue_limit=queue_limit if spec.queue_limit is None else spec.queue_limit,
            describe=self._describe,
        )
        self._description = engine.describe(spec, cached)
        self._card = self._make_card()

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def card(self) -> Card:
        return self._card

    def _make_card(self) -> Card:
        known = self._description
        labels: dict[str, object] = {"source": self.spec.source, "engine": self.life.kind.name}
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

    def _describe(self, description: Description) -> None:
        if description != self._description:
            self._description = description
            self._card = self._make_card()
            self._changed()

    @property
    def running(self) -> Running | None:
        """What answers now, if something does."""
        return self.life.running

    def info(self, aliases: tuple[str, ...] = ()) -> DeploymentInfo:
        """As the daemon shows it."""
        life = self.life
        return DeploymentInfo(
            name=self.spec.name,
            source=self.spec.source,
            engine=life.kind.name,
            task=self._description.task,
            state=life.state,
            pid=life.pid,
            memory_bytes=life.memory,
            error=life.error.message if life.error else None,
            aliases=aliases,
            loaded_at=life.loaded_at if life.running else None,
            last_used_at=life.used_at,
            context_length=self._description.context_length,
            dimensions=self._description.dimensions,
            owner=self.owner,
            description=self.spec.description,
            pin=self.spec.pin,
            keep_alive=self.spec.keep_alive,
            calls=life.calls,
            starts=life.starts,
            crashes=life.crashes,
        )

    def log(self, lines: int) -> list[str]:
        """The last lines of its engine's log, of the last process if none runs."""
        return self.life.log(lines)

    # --- work ----------------------------------------------------------------------------------------------

    async def call(self, request: Request, context: Context) -> Result:
        """`Chat` gives a `Reply` and its events, `Embed` gives `Vectors`, `Rerank` gives `Ranked`: the same way
        as `relay`, read back.
        """
        if isinstance(request, Chat):
            return await answer.reply(self, request, context)
        if isinstance(request, Embed):
            return await answer.vectors(self, request, context)
        if isinstance(request, Rerank):
            return await answer.ranked(self, request, context)
        raise InvalidRequest(
            f"'{self.spec.name}' is a model: it takes chats, texts to embed or to rank, not {type(request).__name__}."
        )

    async def relay(self, request: Relay, context: Context) -> Relayed:
        """See `portico_server.core.servable.Relays`. Loads the model first if need be.

        Raises `TooMany` if too many calls wait for it already.
        """
        self._check(request)
        request = self._with_defaults(request)
        place = self.life.enter()
        try:
            if self.life.at_hand or not request.stream or not request.operation.endswith("completions"):
                running = await self.life.engine(place, context.emit)
            else:
                found = await self._within_patience(place, context)
                if found is None:
                    relayed = Relayed("text/event-stream", answer.once(b""))
                    chunks = self._relay_when_loaded(request, context, place, relayed)
                    relayed.chunks = Held(chunks, lambda _: place.leave())
                    return relayed
                running = found
        except BaseException:
            place.leave()
            raise
        return await self._relay(request, context, place, running)

    def _check(self, request: Relay) -> None:
        known = self._description.capabilities
        needed = {"chat/completions": "chat"}.get(request.operation, request.operation)
        if needed not in known:
            does = next(word for word in ("chat", "embeddings", "rerank") if word in known)
            raise InvalidRequest(
                f"The model '{self.spec.name}' is for {does}; it does not do {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )

    def _with_defaults(self, request: Relay) -> Relay:
        """The request with this model's own options where it leaves them open."""
        if not self.spec.defaults or not request.operation.endswith("completions"):
            return request
        given = {name: value for name, value in request.body.items() if value is not None}
        defaults = dict(self.spec.defaults)
        if "max_completion_tokens" in given:  # the newer name of the same option
            defaults.pop("max_tokens", None)
        return Relay(request.operation, {**defaults, **given})

    async def _relay(self, request: Relay, context: Context, place: Place, running: Running) -> Relayed:
        try:
            relayed = await running.speaker.relay(request, context.deadline)
        except BaseException as error:
            self.life.leave(place, running, error)
            raise
        relayed.chunks = Held(relayed.chunks, lambda error: self.life.leave(place, running, error))
        return relayed

    async def _within_patience(self, place: Place, context: Context) -> Running | None:
        """The running engine, or ``None`` if it is not there within `PATIENCE`."""
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                return await self.life.engine(place, context.emit)
        except TimeoutError:
            if not patience.expired():
                raise
            return None

    async def _relay_when_loaded(
        self, request: Relay, context: Context, place: Place, relayed: Relayed
    ) -> AsyncIterator[bytes]:
        """A stream that has been promised to a client who waits for a slow start: comments, then the
        answer.
        """
        yield self._comment()
        try:
            while (running := await self._within_patience(place, context)) is None:
                if context.deadline is not None and asyncio.get_running_loop().time() > context.deadline:
                    raise DeadlineExceeded(f"'{self.spec.name}' was not loaded in time; it goes on loading.")
                yield self._comment()
            inner = await self._relay(request, context, place, running)
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
        stage, done, total = self.life.stage.stage, self.life.stage.done, self.life.stage.total
        word = {
            "cold": "loading",
            "load": "loading",
            "download": "downloading",
            "memory": "waiting for memory to load",
        }.get(stage, stage)
        progress = "" if done is None else f": {done / 1e6:.0f} MB"
        if done is not None and total:
            progress = f": {done / 1e6:.0f} of {total / 1e6:.0f} MB"
        return f": {word} {self.spec.name}{progress}\n\n".encode()

    async def load(self) -> Running:
        """Fetch and start it, unless it runs; callers at the same time share one start."""
        return await self.life.load(_nobody)

    async def unload(self, *, drain: float | None = DRAIN) -> None:
        """Give its memory back once the calls that are here have ended, or after ``drain`` seconds."""
        await self.life.unload(drain=drain)

    async def close(self) -> None:
        """End it now and for good, calls in flight included."""
        await self.life.close()


async def _nobody(_event: Event) -> None:
    """For a start that no run is waiting for."""
