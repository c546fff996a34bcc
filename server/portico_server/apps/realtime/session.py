"""A session: the events of its client are handled in their order, while responses are made.

Source: https://platform.openai.com/docs/api-reference/realtime-client-events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from portico_server.apps.realtime import config
from portico_server.apps.realtime.audio import MAX_BUFFER_BYTES, MIN_COMMIT_MS, Voices, decoded, duration_ms
from portico_server.apps.realtime.config import Config
from portico_server.apps.realtime.conversation import Item, SessionItems, as_input, read_item, resolved
from portico_server.apps.realtime.turn import Emit, Heard, RealtimeTurn
from portico_server.apps.responses.responder import Responder
from portico_server.apps.responses.work import PreparedResponse
from portico_server.core import fields
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, PorticoError, TooMany, nearest
from portico_server.core.fields import BodyField
from portico_server.core.ids import new_id
from portico_server.core.invalid import missing, wrong, wrong_type
from portico_server.core.principal import Principal

MAX_TURNS_COUNT: Final = 4
"""Responses that are made at the same time, of which one is in the conversation."""

MAX_LISTENING_COUNT: Final = 4
"""Recordings that are being written down at the same time."""

MAX_EVENT_ID_CHARS: Final = 512

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
        self._items_bytes = 0
        self._buffer = bytearray()
        self._listening: dict[str, asyncio.Task[None]] = {}
        """Who writes down what is said in an item, by its id."""
        self._heard: Heard = {}
        self._conversation = SessionItems(self._keep_items)
        self._granted = begun["tools"] if bound else None
        self._turns: dict[RealtimeTurn, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        """Whether something is being made."""
        return bool(self._turns or self._listening)

    async def begin(self) -> None:
        """Say that it begins."""
        await self._emit("session.created", session=self.config)

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
        body.check(event, "")
        await do(self, event)

    async def close(self) -> None:
        """End what is being made."""
        turns = [*self._turns.values(), *self._listening.values()]
        for task in turns:
            task.cancel()
        if turns:
            await asyncio.wait(turns)

    # --- the session and its conversation ------------------------------------------------------------------------

    async def _update(self, event: Mapping[str, Any]) -> None:
        changed = config.updated(self.config, event["session"])
        self._require_granted(changed, "session")
        if changed["audio"]["input"]["format"] != self.config["audio"]["input"]["format"] and self._buffer:
            wrong(
                "session.audio.input.format",
                "cannot be changed while sound is waiting: send input_audio_buffer.commit or input_audio_buffer.clear",
            )
        self.config = changed
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

    # --- what is heard -------------------------------------------------------------------------------------------

    def _keep_items(self, size: int) -> bool:
        self._items_bytes = size
        return self._keep(size + len(self._buffer))

    async def _append(self, event: Mapping[str, Any]) -> None:
        data = decoded(event["audio"], self.config["audio"]["input"]["format"]["type"])
        size = len(self._buffer) + len(data)
        if size > MAX_BUFFER_BYTES or not self._keep(self._items_bytes + size):
            self._keep(self._items_bytes + len(self._buffer))
            raise TooMany(
                f"There is no room for more sound: {len(self._buffer):,} bytes are waiting, of which at most "
                f"{MAX_BUFFER_BYTES:,} may, or fewer where other calls of this key need the room. Send "
                "input_audio_buffer.commit or input_audio_buffer.clear.",
                code="input_audio_buffer_full",
                param="audio",
            )
        self._buffer += data

    async def _clear(self, _event: Mapping[str, Any]) -> None:
        self._empty()
        await self._emit("input_audio_buffer.cleared")

    def _empty(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        self._keep(self._items_bytes)
        return data

    async def _commit(self, _event: Mapping[str, Any]) -> None:
        audio = self.config["audio"]["input"]
        length = duration_ms(bytes(self._buffer), audio["format"]["type"])
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
        named = (audio["transcription"] or {}).get("model")
        with config.inside("session"):
            await self._voices.able("transcription", named, "audio.input.transcription.model")
        item: Item = {
            "id": new_id("item_"),
            "type": "message",
            "object": "realtime.item",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        self._conversation.add(item)
        data = self._empty()
        previous = self._conversation.before(item["id"])
        await self._emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item["id"])
        await self._emit("conversation.item.added", previous_item_id=previous, item=item)
        await self._emit("conversation.item.done", previous_item_id=previous, item=item)
        task = asyncio.create_task(self._listen(item, data, audio, length), name=f"listen {item['id']}")
        self._listening[item["id"]] = task
        task.add_done_callback(lambda _task: self._listening.pop(item["id"]))

    async def _listen(self, item: Item, data: bytes, audio: Mapping[str, Any], length: int) -> None:
        """Write down what is said, for the model, and for the client if it wants that."""
        kind = "conversation.item.input_audio_transcription"
        at = {"item_id": item["id"], "content_index": 0}
        try:
            found = await self._voices.heard(data, audio)
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
            await self._emit(f"{kind}.failed", **at, error=failure)
            return
        if audio["transcription"] is not None:
            usage = {"type": "duration", "seconds": length / 1000}
            await self._emit(f"{kind}.completed", **at, transcript=found.text, usage=usage)

    def _require_granted(self, made: Config, at: str) -> None:
        """Raises `Forbidden` for tools of the daemon that the client secret of this session does not have."""
        if self._granted is None:
            return
        for number, tool in enumerate(made["tools"]):
            if tool["type"] != "function" and tool not in self._granted:
                raise Forbidden(
                    "A session that was opened with a client secret has the daemon's tools that were named when the "
                    "secret was made, as they were named there, and functions of its client.",
                    code="not_in_client_secret",
                    param=f"{at}.tools[{number}]",
                )

    # --- responses -----------------------------------------------------------------------------------------------

    async def _create_response(self, event: Mapping[str, Any]) -> None:
        asked = config.asked(self.config, event.get("response"))
        self._require_granted(asked, "response")
        aside = asked.get("conversation") == "none"
        if not aside:
            active = self._active
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
        if asked["output_modalities"] == ["audio"]:
            with config.inside("response"):
                named = asked["audio"]["output"]["model"]
                await self._voices.able("speech", named, "audio.output.model")
        if self._listening:  # a model is asked with what was said
            await asyncio.wait(list(self._listening.values()))
        items = list(self._conversation)
        if "input" in asked:
            items = resolved(asked["input"], self._conversation, "response.input")
        with config.inside("response"):
            prepared = await self._responder.prepare(config.body_of(asked, as_input(items)), self._caller)
        conversation = None if aside else self._conversation
        turn = RealtimeTurn(asked, conversation, self._emit, self._voices, self._heard)
        await turn.begin()
        task = asyncio.create_task(self._respond(turn, prepared), name=f"realtime {turn.id}")
        self._turns[turn] = task
        task.add_done_callback(lambda _task: self._turns.pop(turn))

    @property
    def _active(self) -> RealtimeTurn | None:
        """The response that is being made in the conversation."""
        return next((t for t in self._turns if t.conversation is not None and not t.ended), None)

    async def _respond(self, turn: RealtimeTurn, prepared: PreparedResponse) -> None:
        try:
            async with aclosing(self._responder.stream(prepared, self._caller, lambda: True)) as batches:
                async for batch in batches:
                    await turn.take(batch)
                    if turn.cancelled_by:
                        return
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
    "input_audio_buffer.append": (_event("audio", audio=fields.text()), RealtimeSession._append),
    "input_audio_buffer.commit": (_event(), RealtimeSession._commit),
    "input_audio_buffer.clear": (_event(), RealtimeSession._clear),
    "response.create": (_event(response=fields.mapping()), RealtimeSession._create_response),
    "response.cancel": (_event(response_id=_ID), RealtimeSession._cancel_response),
}


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
