"""A session: the events of its client are handled in their order, while responses are made.

Source: https://platform.openai.com/docs/api-reference/realtime-client-events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import orjson

from portico_server.apps.realtime import config
from portico_server.apps.realtime.audio import (
    MAX_BUFFER_BYTES,
    MIN_COMMIT_MS,
    Voices,
    decoded,
    duration_ms,
    work_on,
)
from portico_server.apps.realtime.config import Config
from portico_server.apps.realtime.conversation import Item, SessionItems, as_input, read_item, resolved
from portico_server.apps.realtime.input_buffer import InputBuffer, TurnMark, load_detector, load_noise_filter
from portico_server.apps.realtime.turn import Emit, Heard, RealtimeTurn
from portico_server.apps.responses.responder import Responder
from portico_server.apps.responses.work import PreparedResponse
from portico_server.core import fields
from portico_server.core.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    PorticoError,
    TooLarge,
    TooMany,
    nearest,
)
from portico_server.core.fields import BodyField
from portico_server.core.ids import new_id
from portico_server.core.invalid import missing, wrong, wrong_type
from portico_server.core.pools import LOADING
from portico_server.core.principal import Principal

MAX_TURNS_COUNT: Final = 4
"""Responses that are made at the same time, of which one is in the conversation."""

MAX_LISTENING_COUNT: Final = 4
"""Recordings that are being written down at the same time."""

MAX_INLINE_CHARS: Final = 32_000
"""Characters of a sound that is read at once, in half a millisecond. A longer one is read in a thread."""

MAX_EVENT_ID_CHARS: Final = 512

MAX_CONFIG_BYTES: Final = 2 * 2**20
"""Bytes of what a session is told to be, which it is told back with each change."""

APPEND: Final = "input_audio_buffer.append"
"""The event with a piece of sound."""

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"

logger = logging.getLogger(__name__)


class RealtimeSession:
    """``emit`` sends an event; ``keep`` counts what the conversation holds (see `SessionItems`). In a ``bound``
    session, which somebody has opened with a client secret, the daemon's tools are those with which it begins.
    """

    def __init__(
        self,
        responder: Responder,
        caller: Principal,
        begun: Config,
        emit: Emit,
        keep: Callable[[int], bool],
        voices: Voices,
        *,
        bound: bool = False,
    ) -> None:
        self.config = begun
        self._responder = responder
        self._caller = caller
        self._emit = emit
        self._voices = voices
        self._keep = keep
        self._items_bytes = self._listening_bytes = 0
        self._config_bytes = self._asked_bytes = len(orjson.dumps(begun))
        self._writes_only = begun["type"] == config.TRANSCRIPTION
        self._input = InputBuffer()
        self._spoken: tuple[str, int] | None = None
        """The id that what somebody is saying will have, and where its sound begins."""
        self._listening: dict[str, asyncio.Task[str | None]] = {}
        """Who writes down what is said in an item, by its id."""
        self._heard: Heard = {}
        self._conversation = SessionItems(self._keep_items)
        self._granted = begun if bound else None
        self._turns: dict[RealtimeTurn, asyncio.Task[None]] = {}
        self._beginning = asyncio.Lock()
        """Held while a response begins, by its client, by what somebody has said or by silence."""
        self._silence: asyncio.TimerHandle | None = None
        """When nobody will have spoken for too long."""
        self._prompting: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether something is being made."""
        return bool(self._turns or self._listening or self._prompting)

    async def begin(self) -> None:
        """Say that it begins."""
        await self._configure_input()
        await self._emit("session.created", session=self.config)

    def weight(self, event: Mapping[str, Any]) -> int:
        """Bytes of the session that an event has read and told again, whatever its own size."""
        kind = event.get("type")
        if kind in ("session.update", "response.create"):
            return self._config_bytes
        item_id = event.get("item_id")
        if (
            kind == "conversation.item.retrieve"
            and isinstance(item_id, str)
            and item_id in self._conversation
        ):
            return self._conversation.size(item_id)
        return 0

    async def handle(self, event: Mapping[str, Any]) -> None:
        """Do what an event of the client says. Raises `PorticoError` for one that cannot be done."""
        kind = event.get("type")
        if kind is None:
            missing("type")
        if not isinstance(kind, str):
            wrong_type("type", "a string", kind)
        known = _EVENTS.get(kind)
        if known is None:
            raise InvalidRequest(
                f"There is no event '{kind[:100]}'.{nearest(kind, _EVENTS)}",
                code="unknown_event",
                param="type",
            )
        body, do = known
        if self._writes_only and do in _CONVERSING:
            raise InvalidRequest(
                f"A session of the type 'transcription' answers nothing, so it does not take '{kind}'. Open one of the "
                "type 'realtime', with a model.",
                code="invalid_event",
                param="type",
            )
        body.check(event, "")
        await do(self, event)

    async def close(self) -> None:
        """End what is being made."""
        self._wait_no_longer()
        turns: list[asyncio.Task[Any]] = [*self._turns.values(), *self._listening.values()]
        if self._prompting is not None:
            turns.append(self._prompting)
        self._closed = True
        for task in turns:
            task.cancel()
        if turns:
            await asyncio.wait(turns)

    # --- the session and its conversation ------------------------------------------------------------------------

    async def _update(self, event: Mapping[str, Any]) -> None:
        changed = config.updated(self.config, event["session"])
        self._require_granted(changed, "session")
        heard, before = changed["audio"]["input"], self.config["audio"]["input"]
        if heard["format"] != before["format"] and self._input.is_needed:
            wrong(
                "session.audio.input.format",
                "cannot be changed while sound is waiting: send input_audio_buffer.commit or input_audio_buffer.clear",
            )
        named = config.transcription_of(changed).get("model")
        if named is not None and named != config.transcription_of(self.config).get("model"):
            await self._voices.able("transcription", named, "session.audio.input.transcription.model")
        size = len(orjson.dumps(changed))
        if size > MAX_CONFIG_BYTES:
            raise TooLarge(
                f"The session would have {size:,} bytes; at most {MAX_CONFIG_BYTES:,} are kept.",
                code="session_too_large",
                param="session",
            )
        self._hold(size - self._config_bytes, "session")
        self._config_bytes = size
        self.config = changed
        if any(heard[name] != before[name] for name in ("turn_detection", "format", "noise_reduction")):
            await self._configure_input()
        if heard["turn_detection"] is None:
            self._spoken = None
            self._wait_no_longer()
        await self._emit("session.updated", session=self.config)

    async def _create_item(self, event: Mapping[str, Any]) -> None:
        item = read_item(event["item"], "item")
        if item["type"] == "function_call_output":
            self._conversation.require_call(item["call_id"])
        self._conversation.add(item, event.get("previous_item_id"))
        previous = self._conversation.before(item["id"])
        await self._emit("conversation.item.added", previous_item_id=previous, item=item)
        await self._emit("conversation.item.done", previous_item_id=previous, item=item)

    async def _retrieve_item(self, event: Mapping[str, Any]) -> None:
        item = self._conversation.get(event["item_id"])
        await self._emit("conversation.item.retrieved", item=item)

    async def _delete_item(self, event: Mapping[str, Any]) -> None:
        self._conversation.delete(event["item_id"])
        self._heard.pop(event["item_id"], None)
        await self._emit("conversation.item.deleted", item_id=event["item_id"])

    async def _truncate_item(self, event: Mapping[str, Any]) -> None:
        item = self._conversation.get(event["item_id"])
        if item["type"] != "message" or item["role"] != "assistant":
            wrong("item_id", "must be that of a message of the assistant")
        sentences = self._heard.get(item["id"])
        if sentences is None:
            wrong("item_id", "is that of a message that was not said aloud: there is nothing to truncate")
        if event["content_index"] != 0:
            wrong("content_index", "must be 0")
        end = event["audio_end_ms"]
        if end > (sentences[-1][0] if sentences else 0):
            wrong("audio_end_ms", f"is {end}, but the sound has {sentences[-1][0] if sentences else 0} ms")
        self._heard[item["id"]] = sentences = [one for one in sentences if one[0] <= end]
        said = "".join(sentence for _end, sentence in sentences)
        self._conversation.change({**item, "content": [{"type": "output_audio", "transcript": said}]})
        await self._emit("conversation.item.truncated", item_id=item["id"], content_index=0, audio_end_ms=end)

    async def _configure_input(self) -> None:
        """Take sound as the session says now."""
        detection = config.detection_of(self.config)
        if detection is not None:
            await LOADING.run(load_detector)
        noise = config.noise_of(self.config)
        if noise is not None:
            await LOADING.run(load_noise_filter)
        self._input.configure(self.config["audio"]["input"]["format"]["type"], detection, noise)

    # --- what is heard -------------------------------------------------------------------------------------------

    def _keep_items(self, size: int) -> bool:
        self._items_bytes = size
        return self._count()

    def _count(self, more: int = 0) -> bool:
        """Count what is held, and ``more`` bytes that are to come; whether there is room for them."""
        held = self._asked_bytes + self._items_bytes + len(self._input) + self._listening_bytes
        return self._keep(held + more)

    def _hold(self, size: int, param: str) -> None:
        """Count so many bytes more of what the session and its responses are asked for. Raises `TooMany`."""
        self._asked_bytes += size
        if not self._count():
            self._let_go(size)
            raise TooMany(
                f"There is no room for '{param}' beside the other calls of this key. Wait for one of them to end.",
                code="too_many_at_once",
                param=param,
                retry_after=1.0,
            )

    def _let_go(self, size: int) -> None:
        self._asked_bytes -= size
        self._count()

    async def _append(self, event: Mapping[str, Any]) -> None:
        text = event["audio"]
        is_long = len(text) > MAX_INLINE_CHARS  # the session reads no further meanwhile
        data = await work_on(is_long, decoded, text, self._input.kind)
        if len(self._input) + len(data) > MAX_BUFFER_BYTES or not self._count(len(data)):
            self._count()
            raise TooMany(
                f"There is no room for more sound: {len(self._input):,} bytes are waiting, of which at most "
                f"{MAX_BUFFER_BYTES:,} may, or fewer where other calls of this key need the room. Send "
                "input_audio_buffer.commit or input_audio_buffer.clear.",
                code="input_audio_buffer_full",
                param="audio",
            )
        data = await work_on(is_long, self._input.clean, data)
        marks = await work_on(is_long, self._input.detect, data)
        self._input.add(data)
        for mark in marks:
            await (self._speech_started if mark.started else self._speech_stopped)(mark)
        self._input.trim()
        self._count()

    async def _clear(self, _event: Mapping[str, Any]) -> None:
        self._empty()
        await self._emit("input_audio_buffer.cleared")

    def _empty(self) -> bytes:
        data = self._input.take()
        self._spoken = None
        self._count()
        return data

    async def _commit(self, _event: Mapping[str, Any]) -> None:
        length = self._input.length_ms
        if length < MIN_COMMIT_MS:
            raise InvalidRequest(
                f"The buffer has {length} ms of sound; at least {MIN_COMMIT_MS} ms are needed.",
                code="input_audio_buffer_commit_empty",
            )
        if len(self._listening) >= MAX_LISTENING_COUNT:
            raise TooMany(
                f"{len(self._listening)} recordings of this session are being written down, which is the most. Wait "
                "for one.",
                code="too_many_at_once",
                retry_after=1.0,
            )
        await self._require_listener()
        item_id = new_id("item_") if self._spoken is None else self._spoken[0]
        item = self._add_heard(item_id)
        await self._write_down(item, self._empty())

    async def _require_listener(self) -> None:
        named = config.transcription_of(self.config).get("model")
        await self._voices.able("transcription", named, "session.audio.input.transcription.model")

    def _add_heard(self, item_id: str, transcript: str | None = None) -> Item:
        """Put what somebody has said into the conversation, of which in time a ``transcript`` is made."""
        item: Item = {
            "id": item_id,
            "type": "message",
            "object": "realtime.item",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": transcript}],
        }
        if self._writes_only:
            self._conversation.forget_oldest()
        self._conversation.add(item)
        return item

    async def _write_down(self, item: Item, data: bytes) -> asyncio.Task[str | None]:
        await self._emit_committed(item)
        audio = self.config["audio"]["input"]
        task = asyncio.create_task(self._listen(item, data, audio), name=f"listen {item['id']}")
        self._listening[item["id"]] = task
        self._listening_bytes += len(data)
        self._count()

        def ended(_task: object) -> None:
            self._listening.pop(item["id"])
            self._listening_bytes -= len(data)
            self._count()

        task.add_done_callback(ended)
        return task

    async def _emit_committed(self, item: Item) -> None:
        previous = self._conversation.before(item["id"])
        await self._emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item["id"])
        await self._emit("conversation.item.added", previous_item_id=previous, item=item)
        await self._emit("conversation.item.done", previous_item_id=previous, item=item)

    async def _listen(self, item: Item, data: bytes, audio: Mapping[str, Any]) -> str | None:
        """Write down what is said, for the model, and for the client if it wants that. ``None`` if that failed."""
        told: list[str] = []
        wanted = audio["transcription"] is not None or self._writes_only

        async def tell(delta: str) -> None:
            if wanted:
                told.append(delta)
                await self._emit_part(item, delta)

        try:
            found = await self._voices.heard(data, audio, tell)
            self._conversation.change(
                {**item, "content": [{"type": "input_audio", "transcript": found.text}]}
            )
        except PorticoError as error:
            failure = {
                "type": error.type,
                "code": error.code,
                "message": error.message,
                "param": error.param,
            }
            await self._emit(f"{_TRANSCRIPTION}.failed", item_id=item["id"], content_index=0, error=failure)
            return None
        if wanted:
            if found.text and not told:
                await self._emit_part(item, found.text)
            await self._emit_transcript(item, found.text, duration_ms(data, audio["format"]["type"]))
        return found.text

    async def _emit_part(self, item: Item, delta: str) -> None:
        await self._emit(f"{_TRANSCRIPTION}.delta", item_id=item["id"], content_index=0, delta=delta)

    async def _emit_transcript(self, item: Item, text: str, length_ms: int) -> None:
        usage = {"type": "duration", "seconds": length_ms / 1000}
        await self._emit(
            f"{_TRANSCRIPTION}.completed", item_id=item["id"], content_index=0, transcript=text, usage=usage
        )

    # --- turns that are detected ---------------------------------------------------------------------------------

    async def _speech_started(self, mark: TurnMark) -> None:
        self._wait_no_longer()
        item_id, start_ms = self._spoken = new_id("item_"), self._input.start_ms(mark)
        await self._emit("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=item_id)
        if self._detection["interrupt_response"]:
            async with self._beginning:
                turn = self._active
                if turn is not None:
                    await self._cancel(turn, "turn_detected")

    async def _speech_stopped(self, mark: TurnMark) -> None:
        assert self._spoken is not None
        (item_id, start_ms), self._spoken = self._spoken, None
        data = self._input.take_turn(start_ms, mark.at_ms)
        await self._emit("input_audio_buffer.speech_stopped", audio_end_ms=mark.at_ms, item_id=item_id)
        while len(self._listening) >= MAX_LISTENING_COUNT:
            await asyncio.wait(list(self._listening.values()), return_when=asyncio.FIRST_COMPLETED)
        try:
            await self._require_listener()
            item = self._add_heard(item_id)
            listening = await self._write_down(item, data)
            if self._detection["create_response"]:
                async with self._beginning:
                    await self._answer(listening)
        except PorticoError as error:
            await self._report(error)

    @property
    def _detection(self) -> Mapping[str, Any]:
        return config.detection_of(self.config) or config.SERVER_VAD

    async def _answer(self, listening: asyncio.Task[str | None] | None) -> None:
        """Begin the response to what somebody has said, or to silence. It is made once that is written down."""
        asked = config.asked(self.config, None)
        self._require_no_other(aside=False)
        turn = RealtimeTurn(asked, self._conversation, self._emit, self._voices, self._heard)
        await turn.begin()
        self._start(turn, self._respond_to(turn, asked, listening))

    async def _respond_to(
        self, turn: RealtimeTurn, asked: Config, listening: asyncio.Task[str | None] | None
    ) -> None:
        async with self._failing(turn):
            if self._listening:
                await asyncio.wait(list(self._listening.values()))
            if listening is not None and not listening.result():  # a cough, or it could not be written down
                await turn.leave()
                return
            await self._require_speaker(asked)
            prepared = await self._prepare(asked, list(self._conversation))
            await self._deliver(turn, prepared)

    def _await_speech(self, turn: RealtimeTurn) -> None:
        """After a response: wait for as long as it is played, and as somebody may be silent then."""
        timeout_ms = self._detection["idle_timeout_ms"]
        if turn.conversation is None or timeout_ms is None or self._spoken is not None or self._closed:
            return
        self._wait_no_longer()
        delay = (turn.spoken_ms + timeout_ms) / 1000
        since_ms = self._input.end_ms
        self._silence = asyncio.get_running_loop().call_later(delay, self._begin_prompt, since_ms)

    def _wait_no_longer(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _begin_prompt(self, since_ms: int) -> None:
        self._silence = None
        if self._prompting is None:
            self._prompting = asyncio.create_task(self._prompt(since_ms), name="realtime silence")
            self._prompting.add_done_callback(self._prompted)

    def _prompted(self, _task: object) -> None:
        self._prompting = None

    async def _prompt(self, since_ms: int) -> None:
        """Nobody has spoken for too long: the model is asked with that."""
        async with self._beginning:
            if self._active is not None or self._spoken is not None:
                return
            try:
                item = self._add_heard(new_id("item_"), "")
                end_ms = self._input.end_ms
                await self._emit(
                    "input_audio_buffer.timeout_triggered",
                    audio_start_ms=since_ms,
                    audio_end_ms=end_ms,
                    item_id=item["id"],
                )
                await self._emit_committed(item)
                if self.config["audio"]["input"]["transcription"] is not None:
                    await self._emit_transcript(item, "", end_ms - since_ms)
                await self._answer(None)
            except PorticoError as error:
                await self._report(error)

    async def _report(self, error: PorticoError) -> None:
        """Say what went wrong that no event of the client has caused."""
        await self._emit("error", error=error_event(error, None)["error"])

    def _require_granted(self, made: Config, at: str) -> None:
        """Raises `Forbidden` for what is the daemon's and the client secret of this session does not have."""
        if self._granted is None:
            return
        for path, name, granted in config.named(made, self._granted):
            if name not in granted:
                raise Forbidden(
                    "A session that was opened with a client secret has the tools of the daemon, the prompt and the "
                    "models that were named when the secret was made, as they were named there, and functions of its "
                    "client.",
                    code="not_in_client_secret",
                    param=f"{at}.{path}",
                )

    # --- responses -----------------------------------------------------------------------------------------------

    async def _create_response(self, event: Mapping[str, Any]) -> None:
        asked = config.asked(self.config, event.get("response"))
        self._require_granted(asked, "response")
        async with self._beginning:
            aside = asked.get("conversation") == "none"
            self._require_no_other(aside)
            with config.inside("response"):
                await self._require_speaker(asked)
            if self._listening:  # a model is asked with what was said
                await asyncio.wait(list(self._listening.values()))
            items = list(self._conversation)
            if "input" in asked:
                items = resolved(asked["input"], self._conversation, "response.input")
            with config.inside("response"):
                prepared = await self._prepare(asked, items)
            conversation = None if aside else self._conversation
            size = len(orjson.dumps(event.get("response")))
            self._hold(size, "response")
            turn = RealtimeTurn(asked, conversation, self._emit, self._voices, self._heard)
            await turn.begin()
            self._start(turn, self._respond(turn, prepared), size)

    def _require_no_other(self, aside: bool) -> None:
        """Raises `Conflict` and `TooMany` unless a further response may be made, in the conversation or ``aside``."""
        active = None if aside else self._active
        if active is not None:
            raise Conflict(
                f"The response {active.id} is being made in this conversation. Wait for response.done, or send "
                "response.cancel.",
                code="conversation_already_has_active_response",
            )
        if len(self._turns) >= MAX_TURNS_COUNT:
            raise TooMany(
                f"{len(self._turns)} responses are being made in this session, which is the most. Wait for one to end.",
                code="too_many_at_once",
                retry_after=1.0,
            )

    async def _require_speaker(self, asked: Config) -> None:
        if asked["output_modalities"] == ["audio"]:
            await self._voices.able("speech", asked["audio"]["output"]["model"], "audio.output.model")

    async def _prepare(self, asked: Config, items: list[Item]) -> PreparedResponse:
        return await self._responder.prepare(config.body_of(asked, as_input(items)), self._caller)

    def _start(self, turn: RealtimeTurn, work: Coroutine[Any, Any, None], size: int = 0) -> None:
        """Make a response that has begun, and let go of ``size`` bytes that are held for it."""
        self._wait_no_longer()
        task = asyncio.create_task(work, name=f"realtime {turn.id}")
        self._turns[turn] = task

        def ended(_task: object) -> None:
            self._turns.pop(turn)
            self._let_go(size)
            self._await_speech(turn)

        task.add_done_callback(ended)

    @property
    def _active(self) -> RealtimeTurn | None:
        """The response that is being made in the conversation."""
        return next((t for t in self._turns if t.conversation is not None and not t.ended), None)

    async def _respond(self, turn: RealtimeTurn, prepared: PreparedResponse) -> None:
        async with self._failing(turn):
            await self._deliver(turn, prepared)

    async def _deliver(self, turn: RealtimeTurn, prepared: PreparedResponse) -> None:
        async with aclosing(self._responder.stream(prepared, self._caller, lambda: True)) as batches:
            async for batch in batches:
                await turn.take(batch)
                if turn.cancelled_by:
                    return

    @asynccontextmanager
    async def _failing(self, turn: RealtimeTurn) -> AsyncIterator[None]:
        """What goes wrong within is how the response ends."""
        try:
            yield
        except PorticoError as error:
            await turn.fail(error)
        except Exception:
            logger.exception("the response %s of a realtime session failed", turn.id)
            await turn.fail(
                PorticoError(f"Something went wrong inside Portico; the log has it under {turn.id}.")
            )

    async def _cancel_response(self, event: Mapping[str, Any]) -> None:
        wanted = event.get("response_id")
        turn = self._active
        if wanted is not None:
            turn = next((turn for turn in self._turns if turn.id == wanted and not turn.ended), None)
        if turn is None:
            raise InvalidRequest(
                "There is no response that could be cancelled: none is being made"
                + ("." if wanted is None else f" under the id '{wanted[:100]}'."),
                code="response_cancel_not_active",
                param=None if wanted is None else "response_id",
            )
        await self._cancel(turn, "client_cancelled")

    async def _cancel(self, turn: RealtimeTurn, reason: str) -> None:
        turn.cancelled_by = reason
        task = self._turns[turn]
        if not turn.delivering:
            task.cancel()
        await asyncio.wait([task])
        if not turn.ended:
            await turn.cancel()


def _event(*required: str, **properties: BodyField) -> BodyField:
    common = {"type": fields.text(), "event_id": BodyField(_event_id, {})}
    return fields.closed({**common, **properties}, required=required)


def _event_id(value: Any, path: str) -> None:
    fields.text().check(value, path)
    if len(value) > MAX_EVENT_ID_CHARS:
        wrong(path, f"has more than {MAX_EVENT_ID_CHARS} characters")


_ID: Final = fields.name()

_EVENTS: Final[
    Mapping[str, tuple[BodyField, Callable[[RealtimeSession, Mapping[str, Any]], Awaitable[None]]]]
] = {
    "session.update": (_event("session", session=fields.mapping()), RealtimeSession._update),
    "conversation.item.create": (
        _event("item", item=fields.mapping(), previous_item_id=_ID),
        RealtimeSession._create_item,
    ),
    "conversation.item.retrieve": (_event("item_id", item_id=_ID), RealtimeSession._retrieve_item),
    "conversation.item.delete": (_event("item_id", item_id=_ID), RealtimeSession._delete_item),
    "conversation.item.truncate": (
        _event(
            *("item_id", "content_index", "audio_end_ms"),
            item_id=_ID,
            content_index=fields.integer(0),
            audio_end_ms=fields.integer(0),
        ),
        RealtimeSession._truncate_item,
    ),
    APPEND: (_event("audio", audio=fields.text()), RealtimeSession._append),
    "input_audio_buffer.commit": (_event(), RealtimeSession._commit),
    "input_audio_buffer.clear": (_event(), RealtimeSession._clear),
    "response.create": (_event(response=fields.mapping()), RealtimeSession._create_response),
    "response.cancel": (_event(response_id=_ID), RealtimeSession._cancel_response),
}
_CONVERSING: Final = (
    RealtimeSession._create_item,
    RealtimeSession._truncate_item,
    RealtimeSession._create_response,
    RealtimeSession._cancel_response,
)
"""What is not done in a session that only writes down."""


def error_event(error: PorticoError, event_id: Any) -> dict[str, Any]:
    """An error as an event; ``event_id`` is that of the client's event that caused it, if it has one."""
    known = error.body()
    cause = event_id[:MAX_EVENT_ID_CHARS] if isinstance(event_id, str) else None
    return {
        "type": "error",
        "event_id": new_id("event_"),
        "error": {
            "type": known.type,
            "code": known.code,
            "message": known.message,
            "param": known.param,
            "event_id": cause,
        },
    }
