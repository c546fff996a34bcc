"""The events of a response, as OpenAI's clients expect them. Pure: model output goes in, events come out.

Every client is a state machine over these events. If an event is missing, an index is used twice or an id changes, the
client loses the text although the status is 200. Therefore all items of a response share one index counter, each id is
created once, ``sequence_number`` has no gaps, and every snapshot is complete.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico.wire import AnswerClaim, Usage
from portico_server.core.errors import PorticoError
from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.items import Item, without_model_output
from portico_server.features.responses.open_items import (
    Annotate,
    Event,
    OpenCalls,
    OpenMessage,
    OpenThought,
)

REASONS: Final[Mapping[str, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Maps the finish reason of a chat that ended early to the response's ``incomplete_details`` reason."""


OPEN: Final = ("in_progress", "searching", "interpreting", "generating", "calling")
"""Statuses of unfinished items."""


def no_notes(_text: str) -> list[dict[str, Any]]:
    """Return no annotations, for an answer without sources."""
    return []


class EventBuilder:
    """Builds one response. ``response`` is the current document; `output` contains its output items.

    The items of the input are not included. ``number`` is the number of the next event; ``include`` names the optional
    parts of items to show (see `to_client_item`).
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
        """Creates the ids of this response's items."""
        self.unenforced: tuple[str, ...] = ()
        """Keywords of the request's JSON schemas that the answer may violate."""
        self._include = include
        self._open: OpenMessage | OpenThought | OpenCalls | None = None

    def snapshot(self) -> dict[str, Any]:
        """Return the response in the form that the client sees now."""
        return {**self.response, "output": [to_client_item(item, self._include) for item in self.output]}

    def document(self) -> dict[str, Any]:
        """Return the response in the form that is stored, with everything that a client can request later."""
        return {**self.response, "output": [without_model_output(item) for item in self.output]}

    def draft(self) -> dict[str, Any]:
        """Return the response with its finished items, so that a daemon can continue it after a crash."""
        return {**self.response, "output": [item for item in self.output if item.get("status") not in OPEN]}

    def begin(self, *, is_queued: bool = False) -> list[Event]:
        """Return the first events."""
        events = []
        if is_queued:
            self.response["status"] = "queued"
            events += [self._response_event("response.created"), self._response_event("response.queued")]
            self.response["status"] = "in_progress"
        else:
            events.append(self._response_event("response.created"))
        return [*events, self._response_event("response.in_progress")]

    def close(self, finish_reason: str) -> list[Event]:
        """Close the open items. An answer without content becomes an empty message."""
        events = [] if self.output else self.text("")
        return [*events, *self.settle(status_after(finish_reason))]

    def end(self, finish_reason: str, usage: Usage, thoughts: int = 0) -> list[Event]:
        """Close the open items and end the response; ``thoughts`` is the number of reasoning tokens in the answer."""
        reason = REASONS.get(finish_reason)
        events = self.close(finish_reason)
        self.response["usage"] = usage_of(usage, thoughts)
        self.response["completed_at"] = int(time.time())
        if reason is None:
            self.response["status"] = "completed"
            return [*events, self._response_event("response.completed")]
        self.response["status"] = "incomplete"
        self.response["incomplete_details"] = {"reason": reason}
        return [*events, self._response_event("response.incomplete")]

    def prime(self) -> list[Event]:
        """Complete the response without an answer."""
        events = self.begin()
        self.response["usage"] = usage_of(Usage(), 0)
        self.response["completed_at"] = int(time.time())
        self.response["status"] = "completed"
        return [*events, self._response_event("response.completed")]

    def fail(self, error: PorticoError) -> list[Event]:
        """End the response with an error, both in the document and in an ``error`` event that every client reads."""
        events = self.settle("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = error_of(error)
        events.append(self._response_event("response.failed"))
        document = {"code": error.code, "message": error.message, "param": error.param}
        events.append(self._event("error", **document, error={"type": error.type, **document}))
        return events

    def cancel(self) -> list[Event]:
        """Cancel the response."""
        events = self.settle("incomplete")
        self.response["status"] = "cancelled"
        return [*events, self._response_event("response.failed")]

    def text(self, piece: str, logprobs: list[dict[str, Any]] | None = None) -> list[Event]:
        """Add a piece of the answer."""
        message, events = self._message(refusing=False)
        return [*events, message.text(piece, logprobs)]

    def claim(self, claim: AnswerClaim) -> list[Event]:
        """Record the result of checking a sentence in the current text, see `OpenMessage.claim`."""
        message, events = self._message(refusing=False)
        return [*events, *message.claim(claim)]

    def refusal(self, piece: str) -> list[Event]:
        """Add a piece of the model's refusal."""
        message, events = self._message(refusing=True)
        return [*events, message.refusal(piece)]

    def _message(self, *, refusing: bool) -> tuple[OpenMessage, list[Event]]:
        """Return the open message, and the events to send first if the message had to be opened."""
        if isinstance(self._open, OpenMessage) and self._open.refusing == refusing:
            return self._open, []
        settled_events = self.settle()
        self._open = message = OpenMessage(self, self.annotate, refusing=refusing)
        return message, [*settled_events, *message.begin()]

    def add_reasoning(self, piece: str) -> list[Event]:
        """Add a piece of the model's reasoning."""
        events = []
        if not isinstance(self._open, OpenThought):
            events = self.settle()
            self._open = OpenThought(self)
            events += self._open.begin()
        return [*events, self._open.text(piece)]

    def call(self, key: int, call_id: str, name: str, namespace: str = "") -> list[Event]:
        """Start a call of a client function; ``key`` identifies the call."""
        events = []
        if not isinstance(self._open, OpenCalls):
            events = self.settle()
            self._open = OpenCalls(self)
        return [*events, *self._open.begin(key, call_id, name, namespace)]

    def arguments(self, key: int, piece: str) -> list[Event]:
        """Add a piece of the arguments of a call."""
        assert isinstance(self._open, OpenCalls)
        return [self._open.arguments(key, piece)]

    def settle(self, status: str = "") -> list[Event]:
        """Close the open items. Without a status, a call whose arguments are incomplete is marked as cut off."""
        closing, self._open = self._open, None
        return [] if closing is None else closing.close(status)

    def add(self, item: Item) -> tuple[int, list[Event]]:
        """Start an item; return its index and the event that announces it."""
        index = len(self.output)
        self.output.append(item)
        public = to_client_item(item, self._include)
        return index, [self._event("response.output_item.added", output_index=index, item=public)]

    def change(self, index: int, **changes: Any) -> None:
        """Change fields of a started item."""
        self.output[index] = {**self.output[index], **changes}

    def tell(self, index: int, kind: str, **event_fields: Any) -> Event:
        """Return an event about a started item."""
        return self._event(kind, **self._at(index), **event_fields)

    def finish(self, index: int, **changes: Any) -> Event:
        """Finish an item."""
        item = self.output[index] = {**self.output[index], **changes}
        public = to_client_item(item, self._include)
        return self._event("response.output_item.done", output_index=index, item=public)

    def _at(self, index: int) -> dict[str, Any]:
        return {"item_id": self.output[index]["id"], "output_index": index}

    def _response_event(self, kind: str) -> Event:
        return self._event(kind, response=self.snapshot())

    def _event(self, kind: str, **event_fields: Any) -> Event:
        self.number += 1
        return {"type": kind, "sequence_number": self.number - 1, **event_fields}


def status_after(finish_reason: str) -> str:
    """Return the status to give the open items for the finish reason of a chat."""
    return "incomplete" if finish_reason in REASONS else "completed"


def to_client_item(item: Item, include: frozenset[str]) -> Item:
    """Return an item as the client sees it: search results and code output are included only if the request asked for
    them.
    """
    item = without_model_output(item)
    if item["type"] == "file_search_call" and "file_search_call.results" not in include:
        return {**item, "results": None}
    if item["type"] == "code_interpreter_call" and "code_interpreter_call.outputs" not in include:
        return {**item, "outputs": None}
    return item


def usage_of(usage: Usage, thoughts: int = 0) -> dict[str, Any]:
    """Return the token usage with all details; unknown details are 0."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def error_of(error: PorticoError) -> dict[str, str]:
    """Return an error as the ``error`` object of a response: a code of OpenAI's and Portico's message."""
    code = "server_error"
    if error.status == 429:
        code = "rate_limit_exceeded"
    elif error.status < 500:
        code = "invalid_prompt"
    return {"code": code, "message": error.message}
