"""Readers that convert server-sent events to the types of `portico.wire`, without I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico._read import error_body, read, usage
from portico._sse import ServerEvent
from portico.errors import NotPortico
from portico.schemas.fine_tuning import TuningEvent, TuningJob
from portico.schemas.questions import Question
from portico.schemas.runs import RunEvent
from portico.wire import (
    Cited,
    Claimed,
    Delta,
    Event,
    Failed,
    Finished,
    Passage,
    Place,
    ToolCalled,
    claim_from_json,
    event_from_json,
)


class RunEvents:
    """Reads a run's native event stream, starting after the event number ``last``: an item's ``id`` is the number of
    the event, and its ``data`` is the event.
    """

    def __init__(self, last: int = 0) -> None:
        self.done = False
        self.last = last

    def feed(self, item: ServerEvent) -> list[RunEvent]:
        event = event_from_json(_object(item.data))
        if event is None:
            return []
        self.last = int(item.id) if item.id.isdecimal() else self.last + 1
        self.done = isinstance(event, Finished | Failed)
        return [RunEvent(self.last, event)]


class QuestionEvents:
    """Reads the stream of questions, which the daemon never ends. Each new connection starts with the open
    questions.
    """

    done = False
    last = 0

    def feed(self, item: ServerEvent) -> list[Question]:
        return [read(Question, json.loads(item.data))]


class TuningEvents:
    """Reads the event stream of a fine-tuning job, starting after the event number ``last``; the stream ends with the
    job.
    """

    def __init__(self, last: int = 0) -> None:
        self.done = False
        self.last = last

    def feed(self, item: ServerEvent) -> list[TuningEvent | TuningJob]:
        value = json.loads(item.data)
        if item.event == "job":
            self.done = True
            return [read(TuningJob, value)]
        event = read(TuningEvent, value)
        self.last = event.number
        return [event]


@dataclass(slots=True)
class _Called:
    """A tool call that is still being received in pieces."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class ChatEvents:
    """Reads a chat stream in OpenAI's format: chunks, then ``[DONE]``. Only the first choice is used."""

    def __init__(self) -> None:
        self.done = False
        self.last = 0
        self._seq = 0
        self._calls: dict[int, _Called] = {}
        self._reason: str | None = None

    def feed(self, item: ServerEvent) -> list[RunEvent]:
        if item.data == "[DONE]":
            self.done = True
            return self._number([*self._tools(), Finished({"finish_reason": self._reason})])
        chunk = _object(item.data)
        if "error" in chunk:
            self.done = True
            return self._number([Failed(error_body(chunk))])
        events: list[Event] = []
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                events += self._choice(choice)
        if chunk.get("usage"):
            events.append(usage(chunk["usage"]))
        return self._number(events)

    def _choice(self, choice: Mapping[str, Any]) -> list[Event]:
        self._reason = choice.get("finish_reason") or self._reason
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            call_parts = self._calls.setdefault(int(call["index"]), _Called())
            function = call.get("function") or {}
            call_parts.id = call_parts.id or call.get("id") or ""
            call_parts.name = call_parts.name or function.get("name") or ""
            call_parts.arguments += function.get("arguments") or ""
        events: list[Event] = []
        passages = passages_of(delta.get("annotations") or ())
        if passages:
            events.append(Cited(passages))
        events += (Claimed(claim_from_json(claim)) for claim in delta.get("claims") or ())
        if delta.get("content"):
            events.append(Delta(delta["content"]))
        return events

    def _tools(self) -> list[Event]:
        return [ToolCalled(c.id, c.name, c.arguments) for _index, c in sorted(self._calls.items())]

    def _number(self, events: list[Event]) -> list[RunEvent]:
        run_events = [RunEvent(self._seq + n, event) for n, event in enumerate(events, 1)]
        self._seq += len(run_events)
        return run_events


def passages_of(annotations: Any) -> tuple[Passage, ...]:
    """Return the passages in OpenAI's ``file_citation`` annotations."""
    file_citations = [a["file_citation"] for a in annotations if a.get("type") == "file_citation"]
    return tuple(_passage(rank, item) for rank, item in enumerate(file_citations, 1))


def _passage(rank: int, item: Mapping[str, Any]) -> Passage:
    place = item.get("place")
    place_fields = dict(place) if isinstance(place, Mapping) else {}
    place_fields["heading"] = tuple(place_fields.get("heading") or ())
    return Passage(
        rank=int(item.get("index") or rank),
        score=float(item.get("score") or 0),
        text=str(item.get("quote") or ""),
        file_id=str(item.get("file_id") or ""),
        filename=str(item.get("filename") or ""),
        place=Place(
            **{name: place_fields[name] for name in Place.__dataclass_fields__ if name in place_fields}
        ),
    )


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise NotPortico("A stream event is not JSON. Is a Portico daemon running at this URL?") from error
    if not isinstance(value, dict):
        raise NotPortico("A stream event is not a JSON object. Is a Portico daemon running at this URL?")
    return value
