"""One response of a session: translates events of the Responses API into events of the Realtime API."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id
from portico_server.features.realtime.audio import MAX_DELTA_BYTES, Sentences, duration_ms
from portico_server.features.realtime.config import Config
from portico_server.features.realtime.context import SessionContext
from portico_server.features.realtime.turn_items import TurnItems
from portico_server.features.responses.open_items import Event


class RealtimeTurn:
    """Processes the events of a response in order. A response with ``aside`` does not belong to the conversation. The
    spoken text of every other response is recorded in the session's ``heard``.
    """

    def __init__(self, config: Config, context: SessionContext, *, aside: bool = False) -> None:
        self.id = new_id("resp_")
        self.ended = False
        self.delivering = False
        """True while related events are being sent. The response must not be cancelled between them."""
        self.cancelled_by = ""
        """Reason why the response must end: ``client_cancelled`` or ``turn_detected``; empty if the response
        continues.
        """
        self.spoken_ms = 0
        """Duration of the audio sent so far, in milliseconds."""
        self.conversation = conversation = None if aside else context.conversation
        self._emit = context.emit
        self._heard_sentences = context.heard
        self._voices = context.voices
        self._audio = config["audio"]["output"]
        self._is_spoken = config["output_modalities"] == ["audio"]
        self._items = TurnItems(self.id, conversation, self._emit, is_spoken=self._is_spoken)
        self._sentences = Sentences()
        self._failure: Mapping[str, Any] | None = None
        self._response: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.id,
            "status": "in_progress",
            "status_details": None,
            "conversation_id": None if conversation is None else conversation.id,
            "output_modalities": config["output_modalities"],
            "audio": {"output": {name: self._audio[name] for name in ("format", "voice")}},
            "max_output_tokens": config["max_output_tokens"],
            "metadata": config.get("metadata"),
            "usage": None,
        }

    async def begin(self) -> None:
        """Send the event that announces the response."""
        await self._emit("response.created", response={**self._response, "output": []})

    async def take(self, events: Sequence[Event]) -> None:
        """Process a group of related events of the response."""
        self.delivering = True
        try:
            for event in events:
                if self.cancelled_by:
                    return
                hear = _HEARD.get(event["type"])
                if hear is not None:
                    await hear(self, event)
        finally:
            self.delivering = False

    async def fail(self, error: PorticoError) -> None:
        """End the response with an error."""
        self._failure = {"type": error.type, "code": error.code, "message": error.message}
        await self._items.break_off()
        await self._end("failed", None)

    async def leave(self) -> None:
        """End the response because there is nothing to answer."""
        await self._end("completed", None)

    async def cancel(self) -> None:
        """Cancel the response."""
        await self._items.break_off()
        await self._end("cancelled", None, reason=self.cancelled_by)

    async def _item_added(self, event: Event) -> None:
        await self._items.add(event)

    async def _item_done(self, event: Event) -> None:
        await self._items.finish(event)

    async def _part(self, event: Event) -> None:
        await self._items.emit_part(event)

    async def _text(self, event: Event) -> None:
        if not event["delta"]:  # such an event contains data that the Realtime API does not have
            return
        if self._is_spoken:
            for sentence in self._sentences.take(event["delta"]):
                await self._speak(sentence, event)
            return
        self._items.extend(event, event["delta"])
        await self._items.emit("response.output_text.delta", event, content_index=0, delta=event["delta"])

    async def _text_done(self, event: Event) -> None:
        if self._is_spoken:
            for sentence in self._sentences.end():
                await self._speak(sentence, event)
        await self._items.end_text(event)

    async def _speak(self, sentence: str, event: Event) -> None:
        """Send a sentence, then its audio. The response may be cancelled while the audio is being generated."""
        item_id = event["item_id"]
        self._items.extend(event, sentence)
        kind = "response.output_audio_transcript.delta"
        await self._items.emit(kind, event, content_index=0, delta=sentence)
        sound = b""
        if any(char.isalnum() for char in sentence):
            self.delivering = False
            sound = await self._voices.speak(sentence.strip(), self._audio)
            self.delivering = True
        for start in range(0, len(sound), MAX_DELTA_BYTES):
            delta = base64.b64encode(sound[start : start + MAX_DELTA_BYTES]).decode()
            await self._items.emit("response.output_audio.delta", event, content_index=0, delta=delta)
        length = duration_ms(sound, self._audio["format"]["type"])
        self.spoken_ms += length
        if self.conversation is not None and item_id in self.conversation:
            sentence_ends = self._heard_sentences.setdefault(item_id, [])
            sentence_ends.append(((sentence_ends[-1][0] if sentence_ends else 0) + length, sentence))

    async def _arguments(self, event: Event) -> None:
        self._items.extend(event, event["delta"])
        event_fields = {"call_id": self._items.call_id(event), "delta": event["delta"]}
        await self._items.emit(event["type"], event, **event_fields)

    async def _arguments_done(self, event: Event) -> None:
        event_fields = {
            "call_id": self._items.call_id(event),
            "name": event["name"],
            "arguments": event["arguments"],
        }
        await self._items.emit(event["type"], event, **event_fields)

    async def _tool_arguments(self, event: Event) -> None:
        event_fields = {name: event[name] for name in ("delta", "arguments") if name in event}
        await self._items.emit(event["type"], event, **event_fields)

    async def _tool(self, event: Event) -> None:
        if event in self._items:
            at = self._items.place(event)["output_index"]
            await self._emit(event["type"], item_id=event["item_id"], output_index=at)

    async def _tools_listed(self, event: Event) -> None:
        if self.conversation is not None:
            await self._emit(event["type"].removeprefix("response."), item_id=event["item_id"])

    async def _on_finished(self, event: Event) -> None:
        response = event["response"]
        details = response["incomplete_details"]
        status = response["status"]
        await self._end(status, response["usage"], reason=details["reason"] if details else "")

    async def _on_failed(self, event: Event) -> None:
        self._failure = {name: event["error"][name] for name in ("type", "code", "message")}
        await self._end("failed", None)

    async def _end(self, status: str, usage: Mapping[str, Any] | None, reason: str = "") -> None:
        if self.ended:
            return
        self.ended = True
        details: dict[str, Any] = {"type": status}
        if reason:
            details["reason"] = reason
        if self._failure is not None:
            details["error"] = self._failure
        response = {**self._response, "status": status, "output": self._items.output}
        response["status_details"] = None if status == "completed" else details
        response["usage"] = None if usage is None else _usage(usage)
        await self._emit("response.done", response=response)


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached_tokens = usage["input_tokens_details"]["cached_tokens"]
    return {
        "total_tokens": usage["total_tokens"],
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "input_token_details": {
            "text_tokens": usage["input_tokens"],
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached_tokens,
            "cached_tokens_details": {"text_tokens": cached_tokens, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": usage["output_tokens"], "audio_tokens": 0},
    }


_HEARD: Final[Mapping[str, Callable[[RealtimeTurn, Event], Awaitable[None]]]] = {
    "response.output_item.added": RealtimeTurn._item_added,
    "response.output_item.done": RealtimeTurn._item_done,
    "response.content_part.added": RealtimeTurn._part,
    "response.content_part.done": RealtimeTurn._part,
    "response.output_text.delta": RealtimeTurn._text,
    "response.refusal.delta": RealtimeTurn._text,
    "response.output_text.done": RealtimeTurn._text_done,
    "response.refusal.done": RealtimeTurn._text_done,
    "response.function_call_arguments.delta": RealtimeTurn._arguments,
    "response.function_call_arguments.done": RealtimeTurn._arguments_done,
    "response.mcp_call_arguments.delta": RealtimeTurn._tool_arguments,
    "response.mcp_call_arguments.done": RealtimeTurn._tool_arguments,
    "response.mcp_call.in_progress": RealtimeTurn._tool,
    "response.mcp_call.completed": RealtimeTurn._tool,
    "response.mcp_call.failed": RealtimeTurn._tool,
    "response.mcp_list_tools.in_progress": RealtimeTurn._tools_listed,
    "response.mcp_list_tools.completed": RealtimeTurn._tools_listed,
    "response.mcp_list_tools.failed": RealtimeTurn._tools_listed,
    "response.completed": RealtimeTurn._on_finished,
    "response.incomplete": RealtimeTurn._on_finished,
    "error": RealtimeTurn._on_failed,
}
