"""A session: it handles its client's events in order while responses are created.

Source: https://platform.openai.com/docs/api-reference/realtime-client-events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from portico_server.core import fields
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.fields import BodyField
from portico_server.core.invalid import missing, wrong, wrong_type
from portico_server.core.principal import Principal
from portico_server.features.realtime import config
from portico_server.features.realtime.audio import Voices
from portico_server.features.realtime.config import Config
from portico_server.features.realtime.context import (
    MAX_EVENT_ID_CHARS,
    Emit,
    SessionConfig,
    SessionContext,
    SessionMemory,
)
from portico_server.features.realtime.conversation import SessionItems
from portico_server.features.realtime.input_buffer import InputBuffer
from portico_server.features.realtime.items import read_item
from portico_server.features.realtime.speech_input import SpeechInput
from portico_server.features.realtime.transcriber import Transcriber
from portico_server.features.realtime.turns import RealtimeTurns
from portico_server.features.responses.responder import Responder

APPEND: Final = "input_audio_buffer.append"
"""Type of the client event that contains a piece of audio."""


class RealtimeSession:
    """A Realtime session. ``emit`` sends an event; ``keep`` receives the memory that the session uses (see
    `SessionMemory`).

    In a ``bound`` session, which was opened with a client secret, the tools of the daemon cannot be changed after the
    start.
    """

    def __init__(
        self,
        responder: Responder,
        caller: Principal,
        config: Config,
        emit: Emit,
        keep: Callable[[int], bool],
        voices: Voices,
        *,
        bound: bool = False,
    ) -> None:
        self._emit = emit
        self._input = InputBuffer()
        self._config = SessionConfig(config, bound=bound)
        self._memory = SessionMemory(keep, self._input, self._config.size)
        self._conversation = SessionItems(self._memory.keep_items)
        context = SessionContext(self._config, self._conversation, self._memory, voices, emit, heard={})
        self._heard_sentences = context.heard
        self._transcriber = Transcriber(context)
        self._turns = RealtimeTurns(
            responder,
            caller,
            context,
            self._transcriber,
            on_start=lambda: self._speech.stop_waiting(),
            on_end=lambda turn: self._speech.await_speech(turn),
        )
        self._speech = SpeechInput(context, self._input, self._transcriber, self._turns)
        self._handlers: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = {
            "session.update": self._update,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            APPEND: self._speech.append,
            "input_audio_buffer.commit": self._speech.commit,
            "input_audio_buffer.clear": self._speech.clear,
            "response.create": self._turns.create,
            "response.cancel": self._turns.cancel,
        }

    @property
    def busy(self) -> bool:
        """Return whether any work of the session is in progress."""
        return bool(self._turns.tasks or self._transcriber.tasks or self._speech.prompting)

    async def begin(self) -> None:
        """Send the event that announces the session."""
        await self._speech.configure()
        await self._emit("session.created", session=self._config.current)

    def weight(self, event: Mapping[str, Any]) -> int:
        """Return how many bytes of the session's data must be read and sent again because of an event, in addition to
        the event's own size.
        """
        kind = event.get("type")
        if kind in ("session.update", "response.create"):
            return self._config.size
        item_id = event.get("item_id")
        if (
            kind == "conversation.item.retrieve"
            and isinstance(item_id, str)
            and item_id in self._conversation
        ):
            return self._conversation.size(item_id)
        return 0

    async def handle(self, event: Mapping[str, Any]) -> None:
        """Handle a client event. Raise `PorticoError` if it cannot be handled."""
        kind = event.get("type")
        if kind is None:
            missing("type")
        if not isinstance(kind, str):
            wrong_type("type", "a string", kind)
        body = _EVENTS.get(kind)
        if body is None:
            raise InvalidRequest(
                f"Unknown event '{kind[:100]}'.{nearest(kind, _EVENTS)}",
                code="unknown_event",
                param="type",
            )
        if self._config.only_transcribes and kind in _CONVERSING:
            raise InvalidRequest(
                f"A session of the type 'transcription' does not answer, so it does not support '{kind}'. "
                "Open a session of the type 'realtime' with a model.",
                code="invalid_event",
                param="type",
            )
        body.check(event, "")
        await self._handlers[kind](event)

    async def close(self) -> None:
        """Stop the work in progress."""
        self._speech.close()
        tasks: list[asyncio.Task[Any]] = [*self._turns.tasks, *self._transcriber.tasks]
        if self._speech.prompting is not None:
            tasks.append(self._speech.prompting)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _update(self, event: Mapping[str, Any]) -> None:
        changed_config = config.updated(self._config.current, event["session"])
        self._config.require_granted(changed_config, "session")
        input_settings, before = changed_config["audio"]["input"], self._config.input
        if input_settings["format"] != before["format"] and self._input.is_needed:
            wrong(
                "session.audio.input.format",
                "cannot be changed while audio is buffered: send input_audio_buffer.commit or "
                "input_audio_buffer.clear",
            )
        model_name = config.transcription_of(changed_config).get("model")
        if model_name is not None and model_name != self._config.transcription_model:
            await self._transcriber.require_model(model_name)
        self._config.change(changed_config, self._memory)
        if any(
            input_settings[name] != before[name] for name in ("turn_detection", "format", "noise_reduction")
        ):
            await self._speech.configure()
        if input_settings["turn_detection"] is None:
            self._speech.forget_turn()
        await self._emit("session.updated", session=self._config.current)

    async def _create_item(self, event: Mapping[str, Any]) -> None:
        item = read_item(event["item"], "item")
        if item["type"] == "function_call_output":
            self._conversation.require_call(item["call_id"])
        self._conversation.add(item, event.get("previous_item_id"))
        previous = self._conversation.id_before(item["id"])
        await self._emit("conversation.item.added", previous_item_id=previous, item=item)
        await self._emit("conversation.item.done", previous_item_id=previous, item=item)

    async def _retrieve_item(self, event: Mapping[str, Any]) -> None:
        item = self._conversation.get(event["item_id"])
        await self._emit("conversation.item.retrieved", item=item)

    async def _delete_item(self, event: Mapping[str, Any]) -> None:
        self._conversation.delete(event["item_id"])
        self._heard_sentences.pop(event["item_id"], None)
        await self._emit("conversation.item.deleted", item_id=event["item_id"])

    async def _truncate_item(self, event: Mapping[str, Any]) -> None:
        item = self._conversation.get(event["item_id"])
        if item["type"] != "message" or item["role"] != "assistant":
            wrong("item_id", "must be the id of an assistant message")
        sentences = self._heard_sentences.get(item["id"])
        if sentences is None:
            wrong("item_id", "is the id of a message that was not spoken: it has no audio to truncate")
        if event["content_index"] != 0:
            wrong("content_index", "must be 0")
        end = event["audio_end_ms"]
        if end > (sentences[-1][0] if sentences else 0):
            wrong("audio_end_ms", f"is {end}, but the audio has {sentences[-1][0] if sentences else 0} ms")
        self._heard_sentences[item["id"]] = sentences = [
            sentence for sentence in sentences if sentence[0] <= end
        ]
        transcript = "".join(text for _end, text in sentences)
        self._conversation.change({**item, "content": [{"type": "output_audio", "transcript": transcript}]})
        await self._emit("conversation.item.truncated", item_id=item["id"], content_index=0, audio_end_ms=end)


def _event(*required_fields: str, **properties: BodyField) -> BodyField:
    common = {"type": fields.text(), "event_id": BodyField(_event_id, {})}
    return fields.closed_object({**common, **properties}, required_fields=required_fields)


def _event_id(value: Any, path: str) -> None:
    fields.text().check(value, path)
    if len(value) > MAX_EVENT_ID_CHARS:
        wrong(path, f"has more than {MAX_EVENT_ID_CHARS} characters")


_ID: Final = fields.name()
_COUNT: Final = fields.integer(0)

_EVENTS: Final[Mapping[str, BodyField]] = {
    "session.update": _event("session", session=fields.mapping()),
    "conversation.item.create": _event("item", item=fields.mapping(), previous_item_id=_ID),
    "conversation.item.retrieve": _event("item_id", item_id=_ID),
    "conversation.item.delete": _event("item_id", item_id=_ID),
    "conversation.item.truncate": _event(
        "item_id", "content_index", "audio_end_ms", item_id=_ID, content_index=_COUNT, audio_end_ms=_COUNT
    ),
    APPEND: _event("audio", audio=fields.text()),
    "input_audio_buffer.commit": _event(),
    "input_audio_buffer.clear": _event(),
    "response.create": _event(response=fields.mapping()),
    "response.cancel": _event(response_id=_ID),
}
"""The fields of each event that a client can send, keyed by event type."""

_CONVERSING: Final = frozenset(
    {"conversation.item.create", "conversation.item.truncate", "response.create", "response.cancel"}
)
"""Types of client events that a transcription session does not support."""
