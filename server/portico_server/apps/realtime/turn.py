"""One response of a session: what the Responses API says of it, said in the events of the Realtime API."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from portico_server.apps.realtime.audio import MAX_DELTA_BYTES, Sentences, Voices, duration_ms
from portico_server.apps.realtime.config import Config
from portico_server.apps.realtime.conversation import Item, SessionItems
from portico_server.apps.responses.event_builder import Event
from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id

Emit: TypeAlias = Callable[..., Awaitable[None]]
"""Sends an event: its type, and its fields."""

Heard: TypeAlias = dict[str, list[tuple[int, str]]]
"""By message of the conversation: its sentences that were said aloud, each with the milliseconds at which it ends."""

_HIDDEN: Final = "reasoning"
"""Items that the Realtime API does not have."""


class RealtimeTurn:
    """Takes the events of a response in their order. ``conversation`` is ``None`` for one that is in none; what is said
    aloud in it is noted in ``heard``.
    """

    def __init__(
        self, asked: Config, conversation: SessionItems | None, emit: Emit, voices: Voices, heard: Heard
    ) -> None:
        self.id = new_id("resp_")
        self.ended = False
        self.delivering = False
        """Whether events are on their way that belong together: it is not cancelled between them."""
        self.cancelled_by = ""
        """Why it is to end, if it is: ``client_cancelled`` or ``turn_detected``."""
        self.spoken_ms = 0
        """How long what it has said aloud lasts."""
        self.conversation = conversation
        self._emit = emit
        self._output: list[Item] = []
        self._places: dict[int, int] = {}
        """Where the items of the other API are in ``_output``."""
        self._heard = heard
        self._voices = voices
        self._audio = asked["audio"]["output"]
        self._aloud = asked["output_modalities"] == ["audio"]
        self._sentences = Sentences()
        self._open: dict[str, list[str]] = {}
        """What was said so far of items that are not whole, by their ids."""
        self._failure: Mapping[str, Any] | None = None
        self._response: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.id,
            "status": "in_progress",
            "status_details": None,
            "conversation_id": None if conversation is None else conversation.id,
            "output_modalities": asked["output_modalities"],
            "audio": {"output": {name: self._audio[name] for name in ("format", "voice")}},
            "max_output_tokens": asked["max_output_tokens"],
            "metadata": asked.get("metadata"),
            "usage": None,
        }

    async def begin(self) -> None:
        """Say that it begins."""
        await self._emit("response.created", response={**self._response, "output": []})

    async def take(self, events: Sequence[Event]) -> None:
        """Events of the response that belong together."""
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
        """It ended in an error."""
        self._failure = {"type": error.type, "code": error.code, "message": error.message}
        await self._break_off()
        await self._end("failed", None)

    async def leave(self) -> None:
        """There is nothing to answer."""
        await self._end("completed", None)

    async def cancel(self) -> None:
        """Somebody does not want it any longer."""
        await self._break_off()
        await self._end("cancelled", None, reason=self.cancelled_by)

    async def _break_off(self) -> None:
        """Close what is open with what was said of it so far."""
        for place, item in enumerate(self._output):
            if item["id"] not in self._open:
                continue
            said = "".join(self._open.pop(item["id"]))
            item = {**item, "status": "incomplete"}
            at = {"response_id": self.id, "output_index": place}
            if item["type"] == "message":
                within = {**at, "item_id": item["id"], "content_index": 0}
                item["content"] = [self._content(said)]
                await self._emit_text_done(within, said)
                await self._emit("response.content_part.done", **within, part=self._shown(said))
            else:
                item["arguments"] = said
            self._output[place] = item
            await self._conclude(item)
            await self._emit("response.output_item.done", **at, item=item)

    # --- what is heard ---------------------------------------------------------------------------------------

    async def _added(self, event: Event) -> None:
        item = self._told(event["item"])
        if item["type"] == _HIDDEN:
            return
        if item["type"] == "mcp_list_tools":  # of the conversation alone
            if self.conversation is not None:
                await self._join(item)
            return
        self._places[event["output_index"]] = len(self._output)
        self._output.append(item)
        if item["type"] in ("message", "function_call"):
            self._open[item["id"]] = []
        await self._say("response.output_item.added", event, item=item)
        if self.conversation is not None:
            await self._join(item)

    async def _join(self, item: Item) -> None:
        assert self.conversation is not None
        self.conversation.add(item)
        previous = self.conversation.before(item["id"])
        await self._emit("conversation.item.added", previous_item_id=previous, item=item)

    async def _done(self, event: Event) -> None:
        item = self._told(event["item"])
        if item["type"] == _HIDDEN:
            return
        self._open.pop(item["id"], None)
        await self._conclude(item)
        if event["output_index"] in self._places:
            self._output[self._places[event["output_index"]]] = item
            await self._say("response.output_item.done", event, item=item)

    async def _conclude(self, item: Item) -> None:
        """An item is as it stays: so it is in the conversation, if nobody has deleted it there."""
        conversation = self.conversation
        if conversation is not None and item["id"] in conversation:
            conversation.change(item)
            previous = conversation.before(item["id"])
            await self._emit("conversation.item.done", previous_item_id=previous, item=item)

    async def _part_added(self, event: Event) -> None:
        await self._part("response.content_part.added", event)

    async def _part_done(self, event: Event) -> None:
        await self._part("response.content_part.done", event)

    async def _part(self, kind: str, event: Event) -> None:
        part = event["part"]
        text = part.get("text", part.get("refusal"))
        await self._in_item(kind, event, content_index=0, part=self._shown(text or ""))

    async def _text(self, event: Event) -> None:
        if not event["delta"]:  # it carries what this API does not have
            return
        if self._aloud:
            for sentence in self._sentences.take(event["delta"]):
                await self._speak(sentence, event)
            return
        self._open[event["item_id"]].append(event["delta"])
        await self._in_item("response.output_text.delta", event, content_index=0, delta=event["delta"])

    async def _text_done(self, event: Event) -> None:
        if self._aloud:
            for sentence in self._sentences.end():
                await self._speak(sentence, event)
        at = self._places[event["output_index"]]
        within = {
            "response_id": self.id,
            "output_index": at,
            "item_id": event["item_id"],
            "content_index": 0,
        }
        await self._emit_text_done(within, event["text"] if "text" in event else event["refusal"])

    async def _speak(self, sentence: str, event: Event) -> None:
        """Say a sentence, and then its sound. It may be cancelled while that is made."""
        item_id = event["item_id"]
        self._open[item_id].append(sentence)
        kind = "response.output_audio_transcript.delta"
        await self._in_item(kind, event, content_index=0, delta=sentence)
        sound = b""
        if any(char.isalnum() for char in sentence):
            self.delivering = False
            sound = await self._voices.spoken(sentence.strip(), self._audio)
            self.delivering = True
        for start in range(0, len(sound), MAX_DELTA_BYTES):
            delta = base64.b64encode(sound[start : start + MAX_DELTA_BYTES]).decode()
            await self._in_item("response.output_audio.delta", event, content_index=0, delta=delta)
        length = duration_ms(sound, self._audio["format"]["type"])
        self.spoken_ms += length
        if self.conversation is not None and item_id in self.conversation:
            ended = self._heard.setdefault(item_id, [])
            ended.append(((ended[-1][0] if ended else 0) + length, sentence))

    async def _emit_text_done(self, within: Mapping[str, Any], text: str) -> None:
        if self._aloud:
            await self._emit("response.output_audio.done", **within)
            await self._emit("response.output_audio_transcript.done", **within, transcript=text)
        else:
            await self._emit("response.output_text.done", **within, text=text)

    def _shown(self, text: str) -> dict[str, Any]:
        return {"type": "audio", "transcript": text} if self._aloud else {"type": "text", "text": text}

    def _told(self, item: Mapping[str, Any]) -> Item:
        """An item of a response as this API has it."""
        told: Item = {**item, "object": "realtime.item"}
        if item["type"] == "message":
            told["content"] = [
                self._content(part.get("text", part.get("refusal"))) for part in item["content"]
            ]
        elif item["type"] == "mcp_call" and item["error"] is not None:
            text = "".join(part["text"] for part in item["error"]["content"])
            told["error"] = {"type": "tool_execution_error", "message": text}
        elif item["type"] == "mcp_list_tools":
            told.pop("error")
        return told

    def _content(self, text: str) -> dict[str, Any]:
        if self._aloud:
            return {"type": "output_audio", "transcript": text}
        return {"type": "output_text", "text": text}

    async def _arguments(self, event: Event) -> None:
        self._open[event["item_id"]].append(event["delta"])
        more = {"call_id": self._call(event), "delta": event["delta"]}
        await self._in_item(event["type"], event, **more)

    async def _arguments_done(self, event: Event) -> None:
        more = {"call_id": self._call(event), "name": event["name"], "arguments": event["arguments"]}
        await self._in_item(event["type"], event, **more)

    async def _tool_arguments(self, event: Event) -> None:
        more = {name: event[name] for name in ("delta", "arguments") if name in event}
        await self._in_item(event["type"], event, **more)

    async def _tool(self, event: Event) -> None:
        if event["output_index"] in self._places:
            at = self._places[event["output_index"]]
            await self._emit(event["type"], item_id=event["item_id"], output_index=at)

    async def _tools_listed(self, event: Event) -> None:
        if self.conversation is not None:
            await self._emit(event["type"].removeprefix("response."), item_id=event["item_id"])

    async def _finished(self, event: Event) -> None:
        response = event["response"]
        details = response["incomplete_details"]
        status = response["status"]
        await self._end(status, response["usage"], reason=details["reason"] if details else "")

    async def _failed(self, event: Event) -> None:
        self._failure = {name: event["error"][name] for name in ("type", "code", "message")}
        await self._end("failed", None)

    # --- what is said ----------------------------------------------------------------------------------------

    def _call(self, event: Event) -> str:
        call_id: str = self._output[self._places[event["output_index"]]]["call_id"]
        return call_id

    async def _in_item(self, kind: str, event: Event, **more: Any) -> None:
        if event["output_index"] in self._places:
            await self._say(kind, event, item_id=event["item_id"], **more)

    async def _say(self, kind: str, event: Event, **more: Any) -> None:
        at = self._places[event["output_index"]]
        await self._emit(kind, response_id=self.id, output_index=at, **more)

    async def _end(self, status: str, usage: Mapping[str, Any] | None, reason: str = "") -> None:
        if self.ended:
            return
        self.ended = True
        details: dict[str, Any] = {"type": status}
        if reason:
            details["reason"] = reason
        if self._failure is not None:
            details["error"] = self._failure
        ended = {**self._response, "status": status, "output": self._output}
        ended["status_details"] = None if status == "completed" else details
        ended["usage"] = None if usage is None else _usage(usage)
        await self._emit("response.done", response=ended)


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = usage["input_tokens_details"]["cached_tokens"]
    return {
        "total_tokens": usage["total_tokens"],
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "input_token_details": {
            "text_tokens": usage["input_tokens"],
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": usage["output_tokens"], "audio_tokens": 0},
    }


_HEARD: Final[Mapping[str, Callable[[RealtimeTurn, Event], Awaitable[None]]]] = {
    "response.output_item.added": RealtimeTurn._added,
    "response.output_item.done": RealtimeTurn._done,
    "response.content_part.added": RealtimeTurn._part_added,
    "response.content_part.done": RealtimeTurn._part_done,
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
    "response.completed": RealtimeTurn._finished,
    "response.incomplete": RealtimeTurn._finished,
    "error": RealtimeTurn._failed,
}
