"""Calls llama.cpp's server: assigns slots, sets adapter scales, and tokenizes texts. Imports aiohttp."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import field
from typing import Any

import orjson

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.core.relay import AdapterScale, Relay, single_chunk
from portico_server.core.request import Detokenize, Detokenized, Tokenize, TokenizedText
from portico_server.core.servable import is_small
from portico_server.models.answers import close_chunks
from portico_server.models.engines.llamacpp.adapters import adapter_scales, is_same_file
from portico_server.models.engines.llamacpp.endless_answers import (
    REPETITION,
    RepetitionGuard,
    default_max_tokens,
)
from portico_server.models.engines.llamacpp.kept_prompts import (
    MIN_KEPT_TOKENS,
    STATE_SUFFIX,
    KeptPrompts,
    common_length,
)
from portico_server.models.engines.llamacpp.scoring import PromptScorer, text_frame
from portico_server.models.engines.openai_client.client import ChoiceStreamClient, ServerFacts
from portico_server.models.engines.openai_client.requests import (
    PreparedRequest,
    check_alternatives,
    prepare_chat,
)
from portico_server.models.engines.openai_client.tokenizers import HttpTokenizer
from portico_server.models.protocol import ModelDescription
from portico_server.models.server_process import ServerProcess
from portico_server.models.transport import CONNECTION_ERRORS, EngineTransport, deadline_exceeded

logger = logging.getLogger(__name__)

# Assigns slots to calls. Pure, except that calls wait. In each step, llama.cpp reads the prompts of its slots
# in the order of the slot numbers, so a prompt in a lower slot is read first, whatever its length. llama.cpp
# also cannot know that a prompt that arrives in parts must continue in the same slot.


EXCESS_CHARS_PER_TOKEN = 16
"""Length of the beginning of a prompt that is tokenized first, in characters for each token of the context: four times
the length of English text that fills the context.
"""

END_OF_TEXT = "<|endoftext|>"
"""The text of the token that separates texts in the training data of many models, as OpenAI names it."""

MIN_COMMON_SHARE = 0.1
"""Minimum share of a call's prompt that a slot must already contain for the slot to count as related."""


@dataclass(slots=True)
class Slot:
    """A slot of llama.cpp and its contents.

    ``text`` is the prompt of the slot's last call, ``tokens`` are the tokens of this text if they are known, and
    ``generated`` is the number of tokens that follow them.
    """

    number: int
    text: bytes = b""
    lora: Any = None
    tokens: Sequence[int] = ()
    generated: int = 0
    busy: bool = False
    reading: bool = False
    """True while a long prompt is being read into the slot."""
    last_used: int = 0
    unrelated: bool = True
    """True if the slot contained little or nothing of its call's prompt when the call arrived."""
    unread: int = 0
    """Number of tokens of the call's prompt that the slot does not contain, counted or estimated."""
    body: Mapping[str, Any] | None = None
    """The last call of the slot."""

    def count_known(self, tokens: Sequence[int]) -> int:
        """Return how many of ``tokens`` the slot already contains, as far as is known."""
        common = common_length(self.tokens, tokens)
        return common + self.generated if 0 < common == len(self.tokens) else common


@dataclass(frozen=True, slots=True)
class CallPrompt:
    """What determines whether two calls share the beginning of their prompts: a text that begins equally for prompts
    that begin equally, and the options that change how the prompt is read.
    """

    text: bytes
    lora: Any
    long: bool

    @classmethod
    def of(cls, body: Mapping[str, Any], long_tokens: int) -> CallPrompt:
        """Return the prompt of a call. It is ``long`` if it may have more than ``long_tokens`` tokens."""
        prompt = body.get("prompt")
        if isinstance(prompt, list):
            return cls(array("q", prompt).tobytes(), body.get("lora"), len(prompt) > long_tokens)
        if isinstance(prompt, str):
            text = prompt.encode()
        else:
            parts = [orjson.dumps(body["tools"])] if body.get("tools") else []
            for message in body.get("messages") or ():
                content = message.get("content")
                parts.append(str(message.get("role")).encode())
                parts.append(content.encode() if isinstance(content, str) else orjson.dumps(content))
            text = b"\n".join(parts)
        return cls(text, body.get("lora"), len(text) > long_tokens * BYTES_PER_TOKEN)


@dataclass(slots=True)
class SlotQueue:
    """Gives each call a slot of its own until the call ends. Other calls wait in the order in which they arrived.

    A call gets the slot that already contains most of its prompt. If no slot is related, a short prompt gets the
    lowest free slot, and a long prompt the highest. While long prompts are being read, one slot stays available for
    other calls.
    """

    slots: Sequence[Slot]
    _waiting_prompts: dict[asyncio.Future[Slot], CallPrompt] = field(default_factory=dict)
    _uses: int = 0

    async def take(self, prompt: CallPrompt) -> Slot:
        """Wait for a slot and return it. The caller must `release` the slot."""
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting_prompts[waiter] = prompt
        self._grant()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiting_prompts.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result())
            raise

    def release(self, slot: Slot) -> None:
        slot.busy = slot.reading = False
        self._grant()

    def end_reading(self, slot: Slot) -> None:
        """Record that the long prompt in the slot has been read."""
        slot.reading = False
        self._grant()

    def _grant(self) -> None:
        for waiter, prompt in list(self._waiting_prompts.items()):
            if waiter.done():
                del self._waiting_prompts[waiter]
            elif (slot := self._choose(prompt)) is not None:
                del self._waiting_prompts[waiter]
                self._uses += 1
                slot.busy, slot.reading, slot.last_used = True, prompt.long, self._uses
                common = common_length(slot.text, prompt.text) if prompt.lora == slot.lora else 0
                slot.unrelated = common < MIN_COMMON_SHARE * len(prompt.text)
                slot.unread = 1 + (len(prompt.text) - common) // BYTES_PER_TOKEN
                if prompt.lora != slot.lora:
                    slot.tokens, slot.generated = (), 0
                slot.text, slot.lora = prompt.text, prompt.lora
                waiter.set_result(slot)

    def _choose(self, prompt: CallPrompt) -> Slot | None:
        free = [slot for slot in self.slots if not slot.busy]
        readers = sum(slot.reading for slot in self.slots)
        if not free or (prompt.long and readers and readers >= len(self.slots) - 1):
            return None
        min_length = max(1, MIN_COMMON_SHARE * len(prompt.text))
        common = {
            slot.number: common_length(slot.text, prompt.text) for slot in free if slot.lora == prompt.lora
        }
        if common and max(common.values()) >= min_length:
            return max(free, key=lambda slot: (common.get(slot.number, 0), slot.last_used))
        empty = [slot for slot in free if not slot.text] or [min(free, key=lambda slot: slot.last_used)]
        return empty[-1] if prompt.long else empty[0]


# Long prompts are read in parts. Together, the prompts being read are limited so that other calls still
# receive their tokens in between.


STEP_S = 0.5
"""Target duration of one llama.cpp step, in seconds."""

MIN_STEP_TOKENS, MAX_STEP_TOKENS = 64, 2048
"""Minimum and maximum number of tokens read in one step. Smaller steps are slower per token, and larger steps are not
faster.
"""

LONG_STEPS = 2
"""Number of steps above which a prompt counts as long and is read in parts."""

BYTES_PER_TOKEN = 3
"""Minimum number of bytes of text per token, used to estimate the tokens of prompts that are not counted."""

MAX_PASSED_COUNT = 3
"""Maximum number of shorter prompts that may be read before a prompt that arrived earlier."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A part of a prompt that is waiting to be read."""

    tokens: int
    granted: asyncio.Future[None]
    passed: int = 0


class ReadingBudget:
    """The number of prompt tokens that this machine reads in `STEP_S` with this model, estimated from the parts read
    last.

    llama.cpp reads the pending tokens of all slots in one step, and no call receives a token before the step ends.
    Callers therefore reserve tokens before llama.cpp reads them. Short prompts are read first, unless too many prompts
    have already passed a longer one.
    """

    def __init__(self) -> None:
        self._rate = 0.0
        self._reserved = 0
        self._waiters: list[_Waiting] = []

    @property
    def tokens(self) -> int:
        """Number of tokens in one step."""
        return max(MIN_STEP_TOKENS, min(MAX_STEP_TOKENS, int(self._rate * STEP_S) // 16 * 16))

    @property
    def is_measured(self) -> bool:
        return self._rate > 0

    def record(self, tokens: int, seconds: float) -> None:
        """Record that ``tokens`` were read in ``seconds``."""
        if tokens >= MIN_STEP_TOKENS // 2 and seconds > 0:
            rate = tokens / seconds
            self._rate = (self._rate + rate) / 2 if self._rate else rate

    @asynccontextmanager
    async def reserved(self, tokens: int, deadline: float | None) -> AsyncIterator[None]:
        """Reserve ``tokens`` for reading within the context. Raise `TimeoutError` at the deadline."""
        waiter = _Waiting(tokens, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._grant()
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.granted
            yield
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:
                self._reserved -= tokens
            self._grant()

    def _grant(self) -> None:
        while self._waiters:
            first = min(self._waiters, key=lambda waiter: (waiter.passed < MAX_PASSED_COUNT, waiter.tokens))
            if self._reserved and self.is_measured and self._reserved + first.tokens > self.tokens:
                return
            for earlier in self._waiters[: self._waiters.index(first)]:
                earlier.passed += 1
            self._waiters.remove(first)
            self._reserved += first.tokens
            if not first.granted.done():
                first.granted.set_result(None)


class LlamaCppClient(ChoiceStreamClient):
    """An `EngineClient` that `AttachesAdapters`. The engine loaded ``adapters`` when it started.

    ``slots`` is the number of calls that llama.cpp answers at the same time. ``continues`` means that a prompt can be
    read in parts. ``prompts`` are prompts that an earlier process has read.
    """

    scores_prompts = True

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        facts: ServerFacts,
        description: ModelDescription,
        adapters: Sequence[AdapterScale] = (),
        *,
        slots: int,
        continues: bool,
        prompts: KeptPrompts | None = None,
    ) -> None:
        super().__init__(transport, child, name, facts, description)
        self._adapters = tuple(adapters)
        self._slots = SlotQueue([Slot(number) for number in range(slots)])
        self._continues = continues
        self._is_small = is_small(description.parameters)
        self._default_max_tokens = default_max_tokens(
            description.parameters, facts.context_length, has_thoughts=description.thoughts
        )
        self._budget = ReadingBudget()
        self._kept_prompts = prompts
        self._keeping = asyncio.Lock()
        self._native = HttpTokenizer(transport, child, name, facts.context_length)

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Start a streamed call in its own slot and yield its frames. Raise `PorticoError`."""
        if operation == "completions":
            if body["prompt"] in ("", []):
                body = {**body, "prompt": await self._beginning(deadline)}
            if "echo" in body and "logprobs" not in body:
                further_body = {name: value for name, value in body.items() if name != "echo"}
                echo = text_frame(await self._detokenize(body["prompt"], deadline))
                return _preceded(echo, await self.open(operation, further_body, deadline))
            if body.get("max_tokens") == 0 and "echo" not in body:
                tokens = await self._tokens(body, deadline)
                return single_chunk(_end_without_text(tokens))
        prompt = CallPrompt.of(body, LONG_STEPS * self._budget.tokens)
        await self._refuse_excess(prompt, operation, body, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                slot = await self._slots.take(prompt)
        except TimeoutError as error:
            raise deadline_exceeded(self._name) from error
        try:
            if "echo" in body:
                slot.body = None
                scored_frames = self._scored(slot, body, deadline)
                return SlotFrames(scored_frames, lambda: self._slots.release(slot))
            slot.body = body
            if self._kept_prompts is not None and slot.unrelated and len(prompt.text) >= MIN_KEPT_TOKENS:
                await self._restore(self._kept_prompts, slot, body, deadline)
            cached_tokens = await self._read_ahead(slot, body, deadline) if prompt.long else None
            if not prompt.long:
                slot.tokens, slot.generated = (), 0
            self._slots.end_reading(slot)
            # llama.cpp responds only once it has read the whole prompt.
            async with self._budget.reserved(slot.unread, deadline):
                frames = await super().open(operation, {**body, "id_slot": slot.number}, deadline)
        except BaseException as error:
            self._slots.release(slot)
            if type(error) is TimeoutError:
                raise deadline_exceeded(self._name) from error
            raise
        frames = self._count(frames, slot, cached_tokens)
        if self._is_small and not body.get("ignore_eos"):
            frames = self._guard(frames, body, deadline)
        return SlotFrames(frames, lambda: self._slots.release(slot))

    def _prepare(self, request: Relay) -> PreparedRequest:
        """Return the request with a limit of the answer's length if it has none."""
        prepared_request = super()._prepare(request)
        for body in prepared_request.bodies:
            if "n_predict" not in body:
                body.setdefault("max_tokens", self._default_max_tokens)
        return prepared_request

    async def _guard(
        self, frames: AsyncGenerator[bytes], body: dict[str, Any], deadline: float | None
    ) -> AsyncGenerator[bytes]:
        """Yield the frames of a call. End the answer with ``length`` once it only repeats itself."""
        guard = RepetitionGuard()
        async with aclosing(frames):
            async for data in frames:
                yield data
                if guard.read(data):
                    break
            else:
                return
        logger.info("'%s' repeated itself; the answer was ended after %d tokens", self._name, guard.tokens)
        end = {"index": 0, "finish_reason": "length", "stop_reason": REPETITION}
        yield b"data: " + orjson.dumps({"choices": [end]}) + b"\n\n"
        # llama.cpp reports the usage only at the end of an answer.
        try:
            prompt_tokens = len(await self._tokens(body, deadline))
        except PorticoError:
            prompt_tokens = 0
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": guard.tokens}
        yield b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"

    async def _beginning(self, deadline: float | None) -> list[int]:
        """Return the token that begins a text, for an empty prompt. Raise `InvalidRequest` for a model without one."""
        for text in ("", END_OF_TEXT):
            tokens = await self._tokens({"prompt": text}, deadline)
            if len(tokens) == 1:
                return tokens
        raise InvalidRequest(
            f"'{self._name}' has no token that begins a text, so it cannot continue an empty prompt. Send a text.",
            code="unsupported_value",
            param="prompt",
        )

    async def _detokenize(self, tokens: Sequence[int], deadline: float | None) -> str:
        return str((await self._native.ask("detokenize", {"tokens": tokens}, deadline)).get("content", ""))

    async def _scored(
        self, slot: Slot, body: dict[str, Any], deadline: float | None
    ) -> AsyncGenerator[bytes]:
        """Yield the frames of a completion that begins with its prompt and the log-probabilities of the prompt."""
        self._slots.end_reading(slot)
        tokens = await self._tokens(body, deadline)
        context, max_tokens = self._facts.context_length, body["max_tokens"]
        if context and len(tokens) + min(max_tokens, 1) > context:
            raise self._too_long(str(len(tokens)), context, "prompt")
        options = {"id_slot": slot.number, **({"lora": body["lora"]} if "lora" in body else {})}
        vocabulary = self._facts.vocabulary or len(tokens)
        scorer = PromptScorer(self._native, options, body["logprobs"], vocabulary, deadline)
        slot.tokens, slot.generated = (), 0
        async for data in scorer.frames(tokens, body["echo"]):
            yield data
        slot.tokens, slot.unread = tokens[:-1], 1
        if max_tokens == 0:
            yield _end_without_text(tokens)
            return
        further_body = {name: value for name, value in body.items() if name != "echo"} | {
            "id_slot": slot.number
        }
        async with self._budget.reserved(slot.unread, deadline):
            frames = await super().open("completions", further_body, deadline)
        async for data in self._count(frames, slot, None):
            yield data

    async def _read_ahead(self, slot: Slot, body: dict[str, Any], deadline: float | None) -> int | None:
        """Let llama.cpp read a long prompt except its last part. Return how many tokens of the prompt were cached.

        Return ``None`` if the call should be made unchanged, because nothing can be read ahead or the call will be
        refused.
        """
        if not self._continues:
            return None
        try:
            tokens = await self._tokens(body, deadline)
        except PorticoError:
            return None  # return so that the call itself reports the reason
        if self._facts.context_length and len(tokens) >= self._facts.context_length:
            return None
        position, cached_tokens = slot.count_known(tokens), None
        while len(tokens) - position > (step := self._budget.tokens):
            async with self._budget.reserved(step, deadline):
                position += step
                part: dict[str, Any] = {"prompt": tokens[:position], "n_predict": 0, "id_slot": slot.number}
                if "lora" in body:
                    part["lora"] = body["lora"]
                slot.tokens, slot.generated = tokens[:position], 0
                timings = (await self._native.ask("completion", part, deadline)).get("timings") or {}
            self._record(timings)
            cached_tokens = int(timings.get("cache_n", 0)) if cached_tokens is None else cached_tokens
        slot.tokens, slot.generated = tokens, 0
        slot.unread = len(tokens) - position
        return cached_tokens

    async def _count(
        self, frames: AsyncIterator[bytes], slot: Slot, cached_tokens: int | None
    ) -> AsyncGenerator[bytes]:
        """Yield the frames of a call. At the end, record what the slot contains.

        ``cached_tokens`` is the number of prompt tokens that were cached before the first part was read. For a prompt
        that was read in parts, llama.cpp does not know this number.
        """
        try:
            async for data in frames:
                if b'"usage":{' not in data:
                    yield data
                    continue
                for frame in data.split(b"\n\n"):
                    if b'"usage":{' in frame:
                        document = orjson.loads(frame.removeprefix(b"data: "))
                        usage = document["usage"]
                        slot.generated = int(usage.get("completion_tokens", 0))
                        if not self._budget.is_measured:
                            self._record(document.get("timings") or {})
                        if cached_tokens is not None:
                            usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
                            yield b"data: " + orjson.dumps(document) + b"\n\n"
                            continue
                    if frame:
                        yield frame + b"\n\n"
        finally:
            close = getattr(frames, "aclose", None)
            if close is not None:
                await close()

    def _record(self, timings: Mapping[str, Any]) -> None:
        """Record how long llama.cpp took to read a prompt."""
        self._budget.record(int(timings.get("prompt_n", 0)), timings.get("prompt_ms", 0) / 1000)

    async def _restore(
        self, prompts: KeptPrompts, slot: Slot, body: Mapping[str, Any], deadline: float | None
    ) -> None:
        """Restore a prompt that an earlier process has read into the slot, if this is faster than reading it again.

        Raises `PorticoError`.
        """
        adapter = self._adapter_of(body)
        async with self._keeping:
            if not await pools.MODELS.run(prompts.refresh, adapter):
                return
            try:
                tokens = await self._tokens(dict(body), deadline)
            except PorticoError:
                return  # return so that the call itself reports the reason
            prompt = prompts.find(tokens, adapter)
            if prompt is None or not await pools.MODELS.run(prompts.check, prompt, adapter):
                return
        if adapter:  # a slot loses its contents when its adapter changes
            first = {"prompt": tokens[:1], "n_predict": 0, "id_slot": slot.number, "lora": body["lora"]}
            await self._native.ask("completion", first, deadline)
        try:
            state = {"filename": prompt.name + STATE_SUFFIX}
            await self._native.ask(f"slots/{slot.number}?action=restore", state, deadline)
        except InvalidRequest as error:
            # The data that was read before the failure stays in llama.cpp's cache and would corrupt later
            # answers.
            await pools.MODELS.run(prompts.forget, prompt, adapter)
            await self._child.kill()
            raise EngineFailed(
                f"A kept prompt of '{self._name}' could not be read back: {error.message} The kept prompt is "
                "deleted, and the next call restarts the engine.",
                code="engine_lost",
            ) from error
        slot.tokens, slot.generated = prompt.tokens, 0

    async def keep_prompts(self, deadline: float) -> None:
        """See `portico_server.models.protocol.KeepsPrompts`."""
        prompts = self._kept_prompts
        if prompts is None:
            return
        for slot in self._slots.slots:
            if slot.busy or slot.body is None:
                continue
            adapter = self._adapter_of(slot.body)
            tokens = list(slot.tokens) or await self._tokens(dict(slot.body), deadline)
            if len(tokens) < MIN_KEPT_TOKENS or prompts.holds(tokens, adapter):
                continue
            draft = prompts.draft()
            try:
                answer = await self._native.ask(
                    f"slots/{slot.number}?action=save", {"filename": draft}, deadline
                )
                saved_tokens = int(answer.get("n_saved", 0))
                if saved_tokens >= MIN_KEPT_TOKENS:
                    await pools.MODELS.run(prompts.keep, draft, tokens[:saved_tokens], adapter)
                else:
                    await pools.MODELS.run(prompts.discard, draft)
            except BaseException:
                await asyncio.shield(pools.MODELS.run(prompts.discard, draft))
                raise

    def _adapter_of(self, body: Mapping[str, Any]) -> str:
        """Return the adapters of a call with their scales, as one string; "" if the call uses no adapter."""
        chosen_adapters = (
            (self._adapters[adapter_entry["id"]], adapter_entry["scale"])
            for adapter_entry in body.get("lora") or ()
        )
        return " ".join(f"{adapter.path}:{scale:g}" for adapter, scale in chosen_adapters if scale)

    async def _refuse_excess(
        self, prompt: CallPrompt, operation: str, body: dict[str, Any], deadline: float | None
    ) -> None:
        """Raise `InvalidRequest` if the beginning of a prompt alone exceeds the context. To tokenize the whole prompt
        would take seconds for each million characters.
        """
        context = self._facts.context_length or 0
        beginning = EXCESS_CHARS_PER_TOKEN * context
        if not context or len(prompt.text) <= beginning or isinstance(body.get("prompt"), list):
            return
        try:
            text = await self._text(body, deadline)
            tokens = await self._tokens({"prompt": text[:beginning]}, deadline)
        except PorticoError:
            return  # the call itself reports the reason
        if len(tokens) > context:
            param = "prompt" if operation == "completions" else "messages"
            raise self._too_long(f"more than {len(tokens)}", context, param)

    async def _text(self, body: dict[str, Any], deadline: float | None) -> str:
        """Return the text of a call's prompt, with the template of the model. Raises `PorticoError`."""
        prompt = body.get("prompt")
        if prompt is None:
            prompt = (await self._native.ask("apply-template", body, deadline)).get("prompt")
        return str(prompt)

    async def _tokens(self, body: dict[str, Any], deadline: float | None) -> list[int]:
        """Return the tokens of a call's prompt as llama.cpp will read them. Raises `PorticoError`."""
        prompt = body.get("prompt")
        if isinstance(prompt, list):
            return prompt
        content = {"content": await self._text(body, deadline), "add_special": True, "parse_special": True}
        return list((await self._native.ask("tokenize", content, deadline)).get("tokens") or ())

    def fits(self, adapter: AdapterScale) -> bool:
        """See `portico_server.models.protocol.AttachesAdapters`. The scale is irrelevant, because each call sets it."""
        return any(is_same_file(adapter_scale, adapter) for adapter_scale in self._adapters)

    async def attach(self, adapter: AdapterScale) -> None:
        """Do nothing, because an adapter that fits is already loaded."""

    async def detach(self, name: str) -> bool:
        """Return whether the engine no longer uses the adapter. llama.cpp loads adapters only when it starts, so it
        cannot remove one that is loaded.
        """
        return all(adapter_scale.name != name for adapter_scale in self._adapters)

    def _adapter_fields(self, request: Relay) -> dict[str, Any]:
        if "lora" in request.body:
            raise InvalidRequest(
                "Each adapter has its own model name: put the adapter's name into 'model' and leave out "
                "'lora'.",
                param="lora",
            )
        try:
            return adapter_scales(self._adapters, request.adapter)
        except ValueError as error:
            raise Unavailable(
                f"The adapter '{error}' could not be loaded with '{self._name}'. See the daemon's log for "
                "the reason.",
                code="adapter_not_loaded",
            ) from error


def _end_without_text(tokens: Sequence[int]) -> bytes:
    """Return the last frame of a completion that generates no token."""
    usage = {"prompt_tokens": len(tokens), "completion_tokens": 0}
    return text_frame("", finish="length", usage=usage)


async def _preceded(first: bytes, frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield ``first`` and then ``frames``."""
    try:
        yield first
        async for data in frames:
            yield data
    finally:
        await close_chunks(frames)


class SlotFrames:
    """The frames of a call. They are received as soon as they arrive, so that a slow reader does not keep the slot
    occupied.

    There are never more frames than tokens in the context. ``on_end`` is called when llama.cpp has nothing more to
    send.
    """

    def __init__(self, frames: AsyncGenerator[bytes], on_end: Callable[[], None]) -> None:
        self._frames = frames
        self._on_end: Callable[[], None] | None = on_end
        self._received: asyncio.Queue[bytes | BaseException] = asyncio.Queue()
        self._receiving = asyncio.create_task(self._receive(), name="receive frames")

    async def _receive(self) -> None:
        end: BaseException = StopAsyncIteration()
        try:
            async for data in self._frames:
                self._received.put_nowait(data)
        except (*CONNECTION_ERRORS, PorticoError) as error:
            end = error
        finally:
            self._end()
            self._received.put_nowait(end)

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def __aiter__(self) -> SlotFrames:
        return self

    async def __anext__(self) -> bytes:
        item = await self._received.get()
        if isinstance(item, bytes):
            return item
        self._received.put_nowait(item)  # so that a later read returns the same item again
        raise item

    async def aclose(self) -> None:
        """Stop receiving the call."""
        self._receiving.cancel()
        await asyncio.wait([self._receiving])
        await self._frames.aclose()
        self._end()  # needed if receiving has not started


class LlamaTokenizer(HttpTokenizer):
    """A tokenizer that uses llama.cpp's ``/tokenize``, ``/detokenize`` and ``/apply-template``."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        facts: ServerFacts,
    ) -> None:
        super().__init__(transport, child, name, facts.context_length)
        self._facts = facts

    async def tokenize(self, request: Tokenize, deadline: float | None) -> TokenizedText:
        text = request.prompt
        if request.messages is not None:
            # The body must be the same as in a call, so that the tokens are the same.
            chat_body = {**request.options, "messages": list(request.messages)}
            if self._facts.max_alternatives is not None:
                check_alternatives(chat_body, self._name, self._facts.max_alternatives)
            prepared_request = prepare_chat(
                chat_body,
                template_has_tools=self._facts.template_has_tools,
                makes_grammars=self._facts.makes_grammars,
            )
            request_body = {**prepared_request.bodies[0], "add_generation_prompt": request.generation}
            text = str((await self.ask("apply-template", request_body, deadline)).get("prompt", ""))
        body = {
            "content": text or "",
            "add_special": request.special is not False,
            "parse_special": True,
            "with_pieces": request.texts,
        }
        tokens = (await self.ask("tokenize", body, deadline)).get("tokens")
        try:
            if not request.texts:
                return TokenizedText(tuple(int(token) for token in tokens or ()), self.longest)
            ids = tuple(int(token["id"]) for token in tokens or ())
            return TokenizedText(ids, self.longest, tuple(_piece(token["piece"]) for token in tokens or ()))
        except (KeyError, TypeError, ValueError) as error:
            raise self.wrong() from error

    async def detokenize(self, request: Detokenize, deadline: float | None) -> Detokenized:
        self._facts.check_tokens(self._name, request.tokens, "tokens")
        content = (await self.ask("detokenize", {"tokens": list(request.tokens)}, deadline)).get("content")
        if not isinstance(content, str):
            raise self.wrong()
        return Detokenized(content)


def _piece(piece: Any) -> str:
    """Return the text of a token, or its bytes if it is only a part of a character."""
    return bytes(piece).decode("utf-8", "replace") if isinstance(piece, list) else str(piece)
