"""An alias with a canary, as its callers see it: each call goes to one of two servables and is counted.

A hash of the unit that must get the same side (see `Sticky`) chooses the side, so no table is needed and every daemon
chooses the same side. A larger weight moves more units to the canary, and no units away from it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from hashlib import blake2b
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.core.request import AppInput, Chat, ChatReply, Request, Result
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card, Servable, relays
from portico_server.db.canaries import Side, SideCounts
from portico_server.features.canaries.confidence import confidence, take_logprobs
from portico_server.features.canaries.samples import (
    MAX_SAMPLE_BYTES,
    LiveSample,
    answer_of,
    last_question,
    question_of,
    relayed_answer,
    text_of,
)
from portico_server.features.canaries.spec import CanarySpec
from portico_server.runs.run import BEHIND

MAX_BEGINNING_CHARS: Final = 2_000
"""Number of characters from a conversation's first message that identify the conversation."""

STREAM_FACTOR: Final = 4
"""Maximum ratio of the size of a streamed answer to the same answer sent whole: in a stream, each token has its own
frame.
"""

WITHIN: ContextVar[frozenset[str]] = ContextVar("within", default=frozenset())
"""The aliases whose calls this task is handling and that have not returned a first byte."""

# The random numbers only select a sample, so they need not be unpredictable.
_random = random.Random()  # noqa: S311


ReadReply: TypeAlias = Callable[["ModelSide", Chat, Context], Awaitable[ChatReply]]
"""A function that sends a chat through the relay of a model, and returns the answer."""


@dataclass(frozen=True, slots=True)
class SplitParts:
    """The dependencies of a split.

    ``find`` returns the servable of a target, if it exists. ``count`` receives the result of a call, and ``judge`` an
    answer to judge. ``answered`` receives the target that answered a run's call. ``read_reply``: see `ReadReply`.
    """

    find: Callable[[str], Servable | None]
    count: Callable[[str, Side, SideCounts], None]
    judge: Callable[[str, Side, LiveSample], None]
    answered: Callable[[Context, str, str], None]
    read_reply: ReadReply


class SplitSide:
    """One side of a split. It counts the results of its calls."""

    def __init__(self, split: Split, side: Side, target: str) -> None:
        self._split = split
        self._side: Side = side
        self.target = target

    @property
    def servable(self) -> Servable:
        """The servable that answers. Raises `NotFound` if it no longer exists."""
        servable = self._split.parts.find(self.target)
        if servable is None:
            raise NotFound(
                f"'{self.target}', the target of '{self._split.alias}', no longer exists.",
                code="model_not_found",
                param="model",
            )
        return servable

    @property
    def card(self) -> Card:
        return self.servable.card

    @property
    def names(self) -> frozenset[str]:
        """The names under which guards are looked up: a guard of one side applies to both."""
        return self._split.names

    async def call(self, request: Request, context: Context) -> Result:
        """Call the servable of this side."""
        self._split.parts.answered(context, self._split.alias, self.target)
        began = perf_counter()
        try:
            result = await self.servable.call(request, context)
        except PorticoError as error:
            self._count(error, perf_counter() - began, Usage())
            raise
        usage = getattr(result, "usage", None)
        self._count(None, perf_counter() - began, usage if isinstance(usage, Usage) else Usage())
        if self._sampled():
            self._judge(question_of(request), answer_of(result))
        return result

    def _count(self, error: PorticoError | None, seconds: float, usage: Usage) -> None:
        """Count a call that has ended. Invalid requests are not counted, because they say nothing about a side."""
        if error is not None and error.status < 500:
            return
        tokens = usage.prompt_tokens + usage.completion_tokens
        counts = SideCounts(1, int(error is not None), seconds * 1e3, tokens)
        self._split.parts.count(self._split.id, self._side, counts)

    def _sampled(self) -> bool:
        """Return whether the current answer is sampled to be judged. Background calls never are, because a judge may
        call the same alias. Without an evaluation, the baseline's answers are the measure and are not judged.
        """
        if self._split.spec.eval is None and self._side == "baseline":
            return False
        share = self._split.spec.sample
        return share > 0 and _random.random() < share and not BEHIND.get()

    def _judge(
        self,
        messages: Sequence[Mapping[str, Any]] | None,
        sample: Mapping[str, Any] | None,
        body: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if messages is not None and sample is not None:
            item = {"input": last_question(messages), "messages": list(messages)}
            self._split.parts.judge(self._split.id, self._side, LiveSample(item, sample, body))


class ModelSide(SplitSide):
    """A side of a split between models, which can also relay (`Relays`)."""

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """Relay a request to the model. See `portico_server.core.servable.Relays`."""
        began = perf_counter()
        try:
            relay_response = await self._reach(request, context)
        except PorticoError as error:
            self._count(error, perf_counter() - began, Usage())
            raise
        relay_response.chunks = self._follow(
            relay_response, relay_response.chunks, perf_counter() - began, request
        )
        return relay_response

    async def _reach(self, request: Relay, context: Context) -> RelayResponse:
        """Relay a request to the model without counting the call."""
        within = WITHIN.get()
        if self._split.alias in within:
            raise InvalidRequest(
                f"'{self._split.alias}' falls back to itself: set another model as the 'fallback' of "
                f"'{self.target}'.",
                code="alias_circle",
                param="model",
            )
        servable = self.servable
        name = servable.card.name
        if not relays(servable):
            raise InvalidRequest(f"'{self.target}' is not a model.", param="model")
        with ScopedValue(WITHIN, within | {self._split.alias}):
            relay_response = await servable.relay(request, context)
        relay_response.answered_by = relay_response.answered_by or name
        return relay_response

    async def _follow(
        self, relay_response: RelayResponse, chunks: AsyncIterator[bytes], seconds: float, request: Relay
    ) -> AsyncIterator[bytes]:
        """Yield the answer as it arrives. Delays of the reader do not count toward the model's duration."""
        kept_chunks: list[bytes] | None = (
            [] if request.operation == "chat/completions" and self._sampled() else None
        )
        size = 0
        began = perf_counter()
        try:
            async for chunk in chunks:
                seconds += perf_counter() - began
                if kept_chunks is not None:
                    size += len(chunk)
                    kept_chunks.append(chunk)
                    if size > MAX_SAMPLE_BYTES * STREAM_FACTOR:
                        kept_chunks = None
                yield chunk
                began = perf_counter()
        except PorticoError as error:
            self._count(error, seconds + perf_counter() - began, relay_response.usage)
            raise
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        self._count(None, seconds, relay_response.usage)
        if kept_chunks is not None and relay_response.protocol == "openai":
            self._judge(
                request.body.get("messages"), relayed_answer(b"".join(kept_chunks), stream=request.stream)
            )


class SureSide(ModelSide):
    """The canary of a split between models that answers only where it is sure; elsewhere ``fallback`` answers."""

    def __init__(self, split: Split, target: str, min_confidence: float, fallback: ModelSide) -> None:
        super().__init__(split, "canary", target)
        self._min_confidence = min_confidence
        self._fallback = fallback

    async def call(self, request: Request, context: Context) -> Result:
        """Call the model, or the fallback."""
        if not isinstance(request, Chat):
            return await self._fallback.call(request, context)
        reply = await self._split.parts.read_reply(self, request, context)
        self._split.parts.answered(context, self._split.alias, reply.model)
        return reply

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """Relay the model's answer once it is complete and sure enough, otherwise relay the request to the fallback.

        A failed or unsure attempt adds to the canary's time.
        """
        if request.operation != "chat/completions" or (request.body.get("n") or 1) > 1:
            return await self._fallback.relay(request, context)
        began = perf_counter()
        try:
            # The answer of another protocol would contain no log probabilities.
            body = {**request.body, "model": self.servable.card.name, "logprobs": True}
            relay_response = await self._reach(replace(request, body=body, original=None), context)
            answer = await relay_response.read()
        except PorticoError as error:
            self._count(error, perf_counter() - began, Usage())
            return await self._fallback.relay(request, context)
        seconds = perf_counter() - began
        plain_answer, logprobs = take_logprobs(answer, stream=request.stream)
        if confidence(logprobs) < self._min_confidence:
            self._split.parts.count(self._split.id, self._side, SideCounts(milliseconds=seconds * 1e3))
            return await self._fallback.relay(request, context)
        self._count(None, seconds, relay_response.usage)
        if self._sampled():
            sample = relayed_answer(plain_answer, stream=request.stream)
            self._judge(request.body.get("messages"), sample, request.body)
        relay_response.chunks = single_chunk(answer if request.body.get("logprobs") else plain_answer)
        return relay_response


class Split:
    """A `Servable` behind an alias: ``baseline`` is its current target, and ``target`` of the ``spec`` may replace
    it.
    """

    side_type: type[SplitSide] = SplitSide

    def __init__(
        self,
        canary_id: str,
        alias: str,
        baseline: str,
        spec: CanarySpec,
        keys: frozenset[str],
        parts: SplitParts,
    ) -> None:
        self.id = canary_id
        self.alias = alias
        self.spec = spec
        self.parts = parts
        self._keys = keys
        self._salt = canary_id.encode()
        self._baseline = self.side_type(self, "baseline", baseline)
        self._canary = self._make_canary()

    def _make_canary(self) -> SplitSide:
        return self.side_type(self, "canary", self.spec.target)

    @property
    def card(self) -> Card:
        return self._baseline.card

    @property
    def names(self) -> frozenset[str]:
        """The names under which guards look up both sides."""
        servables = (self.parts.find(target) for target in (self._baseline.target, self._canary.target))
        return frozenset(servable.card.key for servable in servables if servable is not None) | {self.alias}

    async def call(self, request: Request, context: Context) -> Result:
        """Call the chosen side."""
        return await self.choose(request, context).call(request, context)

    def choose(self, request: Request | Relay, context: Context) -> SplitSide:
        """Return the side that must answer a call."""
        caller = context.caller
        if caller.id in self._keys:
            return self._existing_side(self._canary)
        match self.spec.sticky:
            case "caller":
                together = caller.id
            case "session":
                together = _session(request, caller.id) or context.run
            case _:
                together = context.run
        return self._of(together)

    def choose_side(self, caller: Principal) -> Servable:
        """Return one side for all calls of a durable run."""
        if caller.id in self._keys:
            return self._existing_side(self._canary)
        return self._of(caller.id if self.spec.sticky == "caller" else str(_random.random()))

    def side(self, target: str) -> Servable | None:
        """Return the side with a target, or ``None``."""
        return next((side for side in (self._baseline, self._canary) if side.target == target), None)

    def _of(self, together: str) -> SplitSide:
        digest = blake2b(together.encode("utf-8", "surrogatepass"), digest_size=8, key=self._salt).digest()
        canary = int.from_bytes(digest, "big") < self.spec.weight * 2**64
        return self._existing_side(self._canary) if canary else self._baseline

    def _existing_side(self, side: SplitSide) -> SplitSide:
        """Return the side, or the baseline if the side's target no longer exists."""
        return side if self.parts.find(side.target) is not None else self._baseline


class ModelSplit(Split):
    """A split between two models, which can also relay (`Relays`)."""

    side_type = ModelSide

    def _make_canary(self) -> SplitSide:
        least = self.spec.min_confidence
        if least is None:
            return super()._make_canary()
        assert isinstance(self._baseline, ModelSide)
        return SureSide(self, self.spec.target, least, self._baseline)

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """Relay a request to one of the sides. See `portico_server.core.servable.Relays`."""
        side = self.choose(request, context)
        assert isinstance(side, ModelSide)
        return await side.relay(request, context)


def _session(request: Request | Relay, caller: str) -> str:
    """Return a string that identifies a conversation: its name or its first message; empty if there is none."""
    options: Mapping[str, Any]
    match request:
        case Relay():
            messages, options = request.body.get("messages"), request.body
        case Chat():
            messages, options = request.messages, request.options
        case AppInput() if request.session:
            return f"{caller} {request.session}"
        case _:
            return ""
    name = options.get("conversation")
    if isinstance(name, str) and name:
        return f"{caller} {name}"
    first = next((message for message in messages or () if message.get("role") == "user"), None)
    return f"{caller} {text_of(first.get('content'))[:MAX_BEGINNING_CHARS]}" if first else ""
