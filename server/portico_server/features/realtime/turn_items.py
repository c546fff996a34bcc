"""The items of one response of a session: how they start, grow and finish in the Realtime API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.features.realtime.context import Emit
from portico_server.features.realtime.conversation import SessionItems
from portico_server.features.realtime.items import Item
from portico_server.features.responses.open_items import Event

_HIDDEN: Final = "reasoning"
"""Item type of the Responses API that the Realtime API does not have."""


class TurnItems:
    """Sends the items of a response to the client, and adds them to its ``conversation``, if any. If the response
    ``is_spoken``, the text of its items is sent as a transcript.
    """

    def __init__(
        self, response_id: str, conversation: SessionItems | None, emit: Emit, *, is_spoken: bool
    ) -> None:
        self.output: list[Item] = []
        self._response_id = response_id
        self._conversation = conversation
        self._emit = emit
        self._is_spoken = is_spoken
        self._places: dict[int, int] = {}
        """Positions of items in ``output``, keyed by their index in the Responses API."""
        self._open: dict[str, list[str]] = {}
        """The text of each incomplete item so far, keyed by item id."""

    async def add(self, event: Event) -> None:
        """Start the item that an event adds."""
        item = self._to_realtime(event["item"])
        if item["type"] == _HIDDEN:
            return
        if (
            item["type"] == "mcp_list_tools"
        ):  # the client does not see this item; it is only added to the conversation
            await self._join(item)
            return
        self._places[event["output_index"]] = len(self.output)
        self.output.append(item)
        if item["type"] in ("message", "function_call"):
            self._open[item["id"]] = []
        await self._emit("response.output_item.added", **self.place(event), item=item)
        await self._join(item)

    async def finish(self, event: Event) -> None:
        """Record the final state of the item that an event finishes."""
        item = self._to_realtime(event["item"])
        if item["type"] == _HIDDEN:
            return
        self._open.pop(item["id"], None)
        await self._conclude(item)
        if event["output_index"] in self._places:
            self.output[self._places[event["output_index"]]] = item
            await self._emit("response.output_item.done", **self.place(event), item=item)

    async def break_off(self) -> None:
        """Close the open items with the content that they have so far."""
        for place, item in enumerate(self.output):
            if item["id"] not in self._open:
                continue
            text = "".join(self._open.pop(item["id"]))
            item = {**item, "status": "incomplete"}
            at = {"response_id": self._response_id, "output_index": place}
            if item["type"] == "message":
                within = {**at, "item_id": item["id"], "content_index": 0}
                item["content"] = [self._content(text)]
                await self._emit_text_done(within, text)
                await self._emit("response.content_part.done", **within, part=self._part(text))
            else:
                item["arguments"] = text
            self.output[place] = item
            await self._conclude(item)
            await self._emit("response.output_item.done", **at, item=item)

    def extend(self, event: Event, piece: str) -> None:
        """Append ``piece`` to the text of an unfinished item."""
        self._open[event["item_id"]].append(piece)

    def call_id(self, event: Event) -> str:
        """Return the ``call_id`` of the function call to which an event belongs."""
        call_id: str = self.output[self._places[event["output_index"]]]["call_id"]
        return call_id

    def place(self, event: Event) -> dict[str, Any]:
        """Return the event fields that identify an event's item by response and position."""
        return {"response_id": self._response_id, "output_index": self._places[event["output_index"]]}

    def __contains__(self, event: Event) -> bool:
        return event["output_index"] in self._places

    async def emit(self, kind: str, event: Event, **event_fields: Any) -> None:
        """Send an event about an item, if the client has received that item."""
        if event in self:
            await self._emit(kind, **self.place(event), item_id=event["item_id"], **event_fields)

    async def emit_part(self, event: Event) -> None:
        """Send an event that says that a part of a message has started or is complete."""
        part = event["part"]
        text = part.get("text", part.get("refusal"))
        await self.emit(event["type"], event, content_index=0, part=self._part(text or ""))

    async def end_text(self, event: Event) -> None:
        """Send an event that says that a text is complete."""
        within = {**self.place(event), "item_id": event["item_id"], "content_index": 0}
        await self._emit_text_done(within, event["text"] if "text" in event else event["refusal"])

    async def _emit_text_done(self, within: Mapping[str, Any], text: str) -> None:
        if self._is_spoken:
            await self._emit("response.output_audio.done", **within)
            await self._emit("response.output_audio_transcript.done", **within, transcript=text)
        else:
            await self._emit("response.output_text.done", **within, text=text)

    async def _join(self, item: Item) -> None:
        if self._conversation is not None:
            self._conversation.add(item)
            previous = self._conversation.id_before(item["id"])
            await self._emit("conversation.item.added", previous_item_id=previous, item=item)

    async def _conclude(self, item: Item) -> None:
        """Store a finished item in the conversation, unless the client has deleted it."""
        conversation = self._conversation
        if conversation is not None and item["id"] in conversation:
            conversation.change(item)
            previous = conversation.id_before(item["id"])
            await self._emit("conversation.item.done", previous_item_id=previous, item=item)

    def _to_realtime(self, item: Mapping[str, Any]) -> Item:
        """Convert an item of the Responses API to the format of the Realtime API."""
        realtime_item: Item = {**item, "object": "realtime.item"}
        if item["type"] == "message":
            realtime_item["content"] = [
                self._content(part.get("text", part.get("refusal"))) for part in item["content"]
            ]
        elif item["type"] == "mcp_call" and item["error"] is not None:
            text = "".join(part["text"] for part in item["error"]["content"])
            realtime_item["error"] = {"type": "tool_execution_error", "message": text}
        elif item["type"] == "mcp_list_tools":
            realtime_item.pop("error")
        return realtime_item

    def _content(self, text: str) -> dict[str, Any]:
        if self._is_spoken:
            return {"type": "output_audio", "transcript": text}
        return {"type": "output_text", "text": text}

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "audio", "transcript": text} if self._is_spoken else {"type": "text", "text": text}
