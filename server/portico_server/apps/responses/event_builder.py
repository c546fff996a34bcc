"""The events of a response, as OpenAI's clients expect them. Pure: what a model says goes in, events come out.

Every client is a state machine over these: an event that is left out, an index that is used twice, an id that changes
on the way, and the text is lost under a 200. So all items of a response share one counter of indexes, ids are made
once, ``sequence_number`` has no gaps, and every snapshot is whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico.wire import AnswerClaim, Usage
from portico_server.apps.responses.ids import ItemIds
from portico_server.apps.responses.items import Item, without_model_output
from portico_server.apps.responses.open_items import Annotate, Event, OpenCalls, OpenMessage, OpenThought
from portico_server.core.errors import PorticoError

REASONS: Final[Mapping[str, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a chat ended early, and what a response says of it."""


OPEN: Final = ("in_progress", "searching", "interpreting", "generating", "calling")
"""Statuses of items that are not whole."""


def no_notes(_text: str) -> list[dict[str, Any]]:
    """For an answer that stands on nothing."""
    return []


class EventBuilder:
    """One response on its way. ``response`` is the whole document as it stands; its output is in `output`.

    Items of the input that was answered are not its business. ``number`` is that of the next event; ``include`` names
    what of the items is told (see `shown`).
    """

    def __init__(
        self,
        response: dict[str, Any],
        mint: ItemIds,
        include: frozenset[str] = frozenset(),
        *,
        output: Sequence[Item] = (),
        number: int = 0,
    ) -> None:
        self.response = response
        self.output: list[Item] = list(output)
        self.annotate: Annotate = no_notes
        self.number = number
        self.mint = mint
        """Who makes the ids of this response's items."""
        self._include = include
        self._open: OpenMessage | OpenThought | OpenCalls | None = None

    def snapshot(self) -> dict[str, Any]:
        """The response as it is told now."""
        return {**self.response, "output": [shown(item, self._include) for item in self.output]}

    def document(self) -> dict[str, Any]:
        """The response as it is kept: with everything that may be asked for later."""
        return {**self.response, "output": [without_model_output(item) for item in self.output]}

    def draft(self) -> dict[str, Any]:
        """The response with what is whole of it, for who continues with it after a crash."""
        return {**self.response, "output": [item for item in self.output if item.get("status") not in OPEN]}

    def begin(self, *, is_queued: bool = False) -> list[Event]:
        """The first events."""
        events = []
        if is_queued:
            self.response["status"] = "queued"
            events += [self._whole("response.created"), self._whole("response.queued")]
            self.response["status"] = "in_progress"
        else:
            events.append(self._whole("response.created"))
        return [*events, self._whole("response.in_progress")]

    def close(self, finish_reason: str) -> list[Event]:
        """Close what is open; an answer without anything in it is a message without words."""
        events = [] if self.output else self.text("")
        return [*events, *self.settle(status_after(finish_reason))]

    def end(self, finish_reason: str, usage: Usage, thoughts: int = 0) -> list[Event]:
        """What is open is closed; ``thoughts``: tokens of the answer that were reasoning."""
        reason = REASONS.get(finish_reason)
        events = self.close(finish_reason)
        self.response["usage"] = usage_of(usage, thoughts)
        self.response["completed_at"] = int(time.time())
        if reason is None:
            self.response["status"] = "completed"
            return [*events, self._whole("response.completed")]
        self.response["status"] = "incomplete"
        self.response["incomplete_details"] = {"reason": reason}
        return [*events, self._whole("response.incomplete")]

    def prime(self) -> list[Event]:
        """It is complete without any answer."""
        events = self.begin()
        self.response["usage"] = usage_of(Usage(), 0)
        self.response["completed_at"] = int(time.time())
        self.response["status"] = "completed"
        return [*events, self._whole("response.completed")]

    def fail(self, error: PorticoError) -> list[Event]:
        """It ended in an error: the response says so, and so does an event that every client reads."""
        events = self.settle("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = error_of(error)
        events.append(self._whole("response.failed"))
        document = {"code": error.code, "message": error.message, "param": error.param}
        events.append(self._event("error", **document, error={"type": error.type, **document}))
        return events

    def cancel(self) -> list[Event]:
        """Somebody did not want it any longer."""
        events = self.settle("incomplete")
        self.response["status"] = "cancelled"
        return [*events, self._whole("response.failed")]

    def text(self, piece: str, logprobs: list[dict[str, Any]] | None = None) -> list[Event]:
        """A piece of the answer."""
        message, events = self._message(refusing=False)
        return [*events, message.text(piece, logprobs)]

    def claim(self, claim: AnswerClaim) -> list[Event]:
        """A sentence of the text so far was checked, see `OpenMessage.claim`."""
        message, events = self._message(refusing=False)
        return [*events, *message.claim(claim)]

    def refusal(self, piece: str) -> list[Event]:
        """A piece of the sentence in which a model says no."""
        message, events = self._message(refusing=True)
        return [*events, message.refusal(piece)]

    def _message(self, *, refusing: bool) -> tuple[OpenMessage, list[Event]]:
        """The message that is open, and the events that open it."""
        if isinstance(self._open, OpenMessage) and self._open.refusing == refusing:
            return self._open, []
        settled_events = self.settle()
        self._open = message = OpenMessage(self, self.annotate, refusing=refusing)
        return message, [*settled_events, *message.begin()]

    def thought(self, piece: str) -> list[Event]:
        """A piece of what the model thinks before it answers."""
        events = []
        if not isinstance(self._open, OpenThought):
            events = self.settle()
            self._open = OpenThought(self)
            events += self._open.begin()
        return [*events, self._open.text(piece)]

    def call(self, key: int, call_id: str, name: str, namespace: str = "") -> list[Event]:
        """The model calls a function of the client; ``key`` identifies the call."""
        events = []
        if not isinstance(self._open, OpenCalls):
            events = self.settle()
            self._open = OpenCalls(self)
        return [*events, *self._open.begin(key, call_id, name, namespace)]

    def arguments(self, key: int, piece: str) -> list[Event]:
        """A piece of the arguments of such a call."""
        assert isinstance(self._open, OpenCalls)
        return [self._open.arguments(key, piece)]

    def settle(self, status: str = "") -> list[Event]:
        """Close what is open, without a status because something follows: then a call that is not whole was cut off."""
        closing, self._open = self._open, None
        return [] if closing is None else closing.close(status)

    def add(self, item: Item) -> tuple[int, list[Event]]:
        """Begin an item: its index, and the event that says so."""
        index = len(self.output)
        self.output.append(item)
        public = shown(item, self._include)
        return index, [self._event("response.output_item.added", output_index=index, item=public)]

    def change(self, index: int, **changes: Any) -> None:
        """Add fields to an item that has begun."""
        self.output[index] = {**self.output[index], **changes}

    def tell(self, index: int, kind: str, **event_fields: Any) -> Event:
        """An event about an item that has begun."""
        return self._event(kind, **self._at(index), **event_fields)

    def done(self, index: int, **changes: Any) -> Event:
        """An item is whole."""
        item = self.output[index] = {**self.output[index], **changes}
        public = shown(item, self._include)
        return self._event("response.output_item.done", output_index=index, item=public)

    def _at(self, index: int) -> dict[str, Any]:
        return {"item_id": self.output[index]["id"], "output_index": index}

    def _whole(self, kind: str) -> Event:
        return self._event(kind, response=self.snapshot())

    def _event(self, kind: str, **event_fields: Any) -> Event:
        self.number += 1
        return {"type": kind, "sequence_number": self.number - 1, **event_fields}


def status_after(finish_reason: str) -> str:
    """The status of what was being said when a chat ended so."""
    return "incomplete" if finish_reason in REASONS else "completed"


def shown(item: Item, include: frozenset[str]) -> Item:
    """An item as it is told: what search found and code printed only where that was asked for."""
    item = without_model_output(item)
    if item["type"] == "file_search_call" and "file_search_call.results" not in include:
        return {**item, "results": None}
    if item["type"] == "code_interpreter_call" and "code_interpreter_call.outputs" not in include:
        return {**item, "outputs": None}
    return item


def usage_of(usage: Usage, thoughts: int = 0) -> dict[str, Any]:
    """Tokens with all their details: those that are not known are 0."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def error_of(error: PorticoError) -> dict[str, str]:
    """An error in the few words that a response has for it; the message is ours."""
    code = "server_error"
    if error.status == 429:
        code = "rate_limit_exceeded"
    elif error.status < 500:
        code = "invalid_prompt"
    return {"code": code, "message": error.message}
