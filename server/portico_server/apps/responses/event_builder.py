"""The events of a response, as OpenAI's clients expect them. Pure: what a model says goes in, events come out.

Every client is a state machine over these: an event that is left out, an index that is used twice, an id that changes
on the way, and the text is lost under a 200. So all items of a response share one counter of indexes, ids are made
once, `sequence_number` has no gaps, and every snapshot is whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from portico.wire import AnswerClaim, Passage, Usage
from portico_server.apps.responses.ids import ItemIds
from portico_server.apps.responses.items import Item, without_model_output
from portico_server.apps.responses.request import ResponseRequest
from portico_server.core.errors import PorticoError
from portico_server.core.passage import marks, to_json

Event: TypeAlias = dict[str, Any]
"""One event of the stream as OpenAI defines it."""

Annotate: TypeAlias = Callable[[str], list[dict[str, Any]]]
"""The annotations of a text."""

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
        self._message: int | None = None
        self._thought: int | None = None
        self._pieces: list[str] = []
        self._notes: list[dict[str, Any]] = []
        self._claims: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self._refusing = False
        self._calls: dict[int, int] = {}
        self._arguments: dict[int, list[str]] = {}

    # --- the whole -------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The response as it is told now."""
        return {**self.response, "output": [shown(item, self._include) for item in self.output]}

    def document(self) -> dict[str, Any]:
        """The response as it is kept: with everything that may be asked for later."""
        return {**self.response, "output": [without_model_output(item) for item in self.output]}

    def draft(self) -> dict[str, Any]:
        """The response with what is whole of it, for who continues with it after a crash."""
        return {**self.response, "output": [item for item in self.output if item.get("status") not in OPEN]}

    def begin(self, *, queued: bool = False) -> list[Event]:
        """The first events."""
        events = []
        if queued:
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

    # --- what a model says -----------------------------------------------------------------------------------

    def text(self, piece: str, logprobs: list[dict[str, Any]] | None = None) -> list[Event]:
        """A piece of the answer."""
        events = []
        if self._message is None or self._refusing:
            events = [*self.settle(), *self._open_message(refusing=False)]
        assert self._message is not None
        item = self.output[self._message]
        self._pieces.append(piece)
        if logprobs:
            self._logprobs += logprobs
        self.number += 1
        events.append(
            {
                "type": "response.output_text.delta",
                "sequence_number": self.number - 1,
                "item_id": item["id"],
                "output_index": self._message,
                "content_index": 0,
                "delta": piece,
                "logprobs": logprobs or [],
            }
        )
        return events

    def claim(self, claim: AnswerClaim) -> list[Event]:
        """A sentence of the text so far was checked: its evidence as citations, and the whole of it as an entry of
        ``claims`` beside a delta without text, since clients skip fields that they do not know, but not events.
        """
        *opened, delta = self.text("")
        [made] = to_json([claim])
        self._claims.append(made)
        notes = [
            {
                "type": "file_citation",
                "index": claim.end,
                "file_id": found.file_id,
                "filename": found.filename,
            }
            for found in claim.evidence
        ]
        return [*opened, {**delta, "claims": [made]}, *self._add_notes(notes)]

    def refusal(self, piece: str) -> list[Event]:
        """A piece of the sentence in which a model says no."""
        events = []
        if self._message is None or not self._refusing:
            events = [*self.settle(), *self._open_message(refusing=True)]
        assert self._message is not None
        self._pieces.append(piece)
        at = self._at(self._message)
        return [*events, self._event("response.refusal.delta", **at, content_index=0, delta=piece)]

    def thought(self, piece: str) -> list[Event]:
        """A piece of what the model thinks before it answers."""
        events = []
        if self._thought is None:
            events = self.settle()
            item = {"id": self.mint("rs_"), "type": "reasoning", "summary": [], "content": []}
            self._thought, added = self.add({**item, "status": "in_progress"})
            part = {"type": "reasoning_text", "text": ""}
            at = self._at(self._thought)
            events += added
            events.append(self._event("response.content_part.added", **at, content_index=0, part=part))
        self._pieces.append(piece)
        at = self._at(self._thought)
        return [*events, self._event("response.reasoning_text.delta", **at, content_index=0, delta=piece)]

    def call(self, key: int, call_id: str, name: str, namespace: str = "") -> list[Event]:
        """The model calls a function of the client; ``key`` identifies the call."""
        events = [] if self._calls else self.settle()
        item: Item = {"id": self.mint("fc_"), "type": "function_call", "status": "in_progress"}
        if namespace:
            item["namespace"] = namespace
        self._calls[key], added = self.add({**item, "call_id": call_id, "name": name, "arguments": ""})
        self._arguments[key] = []
        return [*events, *added]

    def arguments(self, key: int, piece: str) -> list[Event]:
        """A piece of the arguments of such a call."""
        self._arguments[key].append(piece)
        at = self._at(self._calls[key])
        return [self._event("response.function_call_arguments.delta", **at, delta=piece)]

    def settle(self, status: str = "") -> list[Event]:
        """Close what is open, without a status because something follows: then a call that is not whole was cut off."""
        if self._message is not None:
            return self._close_message(status or "completed")
        if self._thought is not None:
            return self._close_thought(status or "completed")
        if self._calls:
            return self._close_calls(status)
        return []

    # --- items of any kind -----------------------------------------------------------------------------------

    def add(self, item: Item) -> tuple[int, list[Event]]:
        """Begin an item: its index, and the event that says so."""
        index = len(self.output)
        self.output.append(item)
        public = shown(item, self._include)
        return index, [self._event("response.output_item.added", output_index=index, item=public)]

    def change(self, index: int, **changes: Any) -> None:
        """Add fields to an item that has begun."""
        self.output[index] = {**self.output[index], **changes}

    def tell(self, index: int, kind: str, **more: Any) -> Event:
        """An event about an item that has begun."""
        return self._event(kind, **self._at(index), **more)

    def done(self, index: int, **changes: Any) -> Event:
        """An item is whole."""
        item = self.output[index] = {**self.output[index], **changes}
        public = shown(item, self._include)
        return self._event("response.output_item.done", output_index=index, item=public)

    # --- inside ----------------------------------------------------------------------------------------------

    def _open_message(self, *, refusing: bool) -> list[Event]:
        self._refusing = refusing
        item = {"id": self.mint("msg_"), "type": "message", "status": "in_progress", "role": "assistant"}
        self._message, events = self.add({**item, "content": []})
        at = self._at(self._message)
        return [
            *events,
            self._event("response.content_part.added", **at, content_index=0, part=self._part("")),
        ]

    def _part(self, text: str) -> dict[str, Any]:
        """The content of the message; ``claims``, which OpenAI does not have, only where sentences were checked."""
        if self._refusing:
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "text": text,
            "annotations": list(self._notes),
            "logprobs": list(self._logprobs),
            **({"claims": list(self._claims)} if self._claims else {}),
        }

    def _add_notes(self, notes: Sequence[dict[str, Any]]) -> list[Event]:
        """Annotate the message that is open."""
        assert self._message is not None
        at = {**self._at(self._message), "content_index": 0}
        first = len(self._notes)
        self._notes += notes
        return [
            self._event(
                "response.output_text.annotation.added", **at, annotation_index=number, annotation=note
            )
            for number, note in enumerate(notes, first)
        ]

    def _close_message(self, status: str) -> list[Event]:
        index, text = self._message, "".join(self._pieces)
        assert index is not None
        at = {**self._at(index), "content_index": 0}
        events = [] if self._refusing else self._add_notes(self.annotate(text))
        part = self._part(text)
        if self._refusing:
            events.append(self._event("response.refusal.done", **at, refusal=text))
        else:
            logprobs = part["logprobs"]
            events.append(self._event("response.output_text.done", **at, text=text, logprobs=logprobs))
        events.append(self._event("response.content_part.done", **at, part=part))
        events.append(self.done(index, content=[part], status=status))
        self._message, self._pieces, self._logprobs = None, [], []
        self._notes, self._claims = [], []
        return events

    def _close_thought(self, status: str) -> list[Event]:
        index, text = self._thought, "".join(self._pieces)
        assert index is not None
        at = {**self._at(index), "content_index": 0}
        part = {"type": "reasoning_text", "text": text}
        events = [
            self._event("response.reasoning_text.done", **at, text=text),
            self._event("response.content_part.done", **at, part=part),
            self.done(index, content=[part], status=status),
        ]
        self._thought, self._pieces = None, []
        return events

    def _close_calls(self, status: str) -> list[Event]:
        events: list[Event] = []
        for key, index in self._calls.items():
            arguments = "".join(self._arguments[key])
            name = self.output[index]["name"]
            events += [
                self.tell(index, "response.function_call_arguments.done", arguments=arguments, name=name),
                self.done(index, arguments=arguments, status=status or _status_of(arguments)),
            ]
        self._calls, self._arguments = {}, {}
        return events

    def _at(self, index: int) -> dict[str, Any]:
        return {"item_id": self.output[index]["id"], "output_index": index}

    def _whole(self, kind: str) -> Event:
        return self._event(kind, response=self.snapshot())

    def _event(self, kind: str, **more: Any) -> Event:
        self.number += 1
        return {"type": kind, "sequence_number": self.number - 1, **more}


def _status_of(arguments: str) -> str:
    """The status of a call with these arguments that no end of a chat speaks of."""
    try:
        orjson.loads(arguments)
    except ValueError:
        return "incomplete"
    return "completed"


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


# A response as OpenAI describes it, before anything was answered; and what a text's citations are.


def skeleton(ask: ResponseRequest, response_id: str) -> dict[str, Any]:
    """Every field, with what the request says of it."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": ask.background,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": [],
        "previous_response_id": ask.previous or None,
        "conversation": {"id": ask.conversation} if ask.conversation else None,
        "service_tier": "default",
        "store": ask.store,
        "usage": None,
        **ask.echo,
    }


def file_citations(
    text: str, passages: Sequence[Passage], *, all_of_them: bool = False
) -> list[dict[str, Any]]:
    """The passages that a text points at by numbers in brackets; ``index`` is where the bracket stands.

    ``all_of_them``: those that it does not point at too, behind its last character, as an app answers with them.
    """
    by_rank = {passage.rank: passage for passage in passages}
    found = [(at, number) for at, numbers in marks(text) for number in numbers if number in by_rank]
    if all_of_them:
        pointed = {number for _at, number in found}
        found += [(len(text), number) for number in by_rank if number not in pointed]
    return [
        {
            "type": "file_citation",
            "index": at,
            "file_id": by_rank[number].file_id,
            "filename": by_rank[number].filename,
        }
        for at, number in found
    ]
