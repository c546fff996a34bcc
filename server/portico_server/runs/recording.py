"""The recording of a run in memory: every call that the run made, with its request, its events and its result.

Runs of apps are recorded while they run, so that any recent run can be written to a file (`recording_file`) and
replayed (`replay`). A recording refers to the values that the run uses anyway, and copies none of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from portico.wire import Delta, ErrorBody, Event
from portico_server.core import trace
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.runs.journal import is_withheld
from portico_server.runs.weight import weigh

if TYPE_CHECKING:
    from portico_server.core.context import Listener
    from portico_server.core.question import GivenAnswer, NewQuestion
    from portico_server.core.request import Request, Result
    from portico_server.core.servable import Card, Servable

MAX_STEPS: Final = 1_000
"""Maximum number of calls in a recording. A run with more calls is not recorded."""

MAX_BYTES: Final = 8 * 2**20
"""Approximate maximum bytes of a recording. A larger run is not recorded."""

StepKind: TypeAlias = Literal["model", "store", "tool", "app", "question", "data"]


@dataclass(frozen=True, slots=True)
class StoredData:
    """What a run reads or changes outside its calls, see `portico_server.core.context.Context.outside`."""

    name: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredValue:
    """The result of `StoredData`, as JSON."""

    value: Any


@dataclass(frozen=True, slots=True)
class RecordedApp:
    """The app that a run called. ``version`` is 0 for an app without versions; ``spec`` is the specification of an
    undeployed flow.
    """

    name: str
    version: int = 0
    spec: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, card: Card) -> RecordedApp:
        return cls(card.name, int(card.labels.get("version") or 0))


@dataclass(frozen=True, slots=True)
class RecordedError:
    """An error that a call raised. ``kind`` is its class in `portico_server.core.errors`."""

    kind: str
    body: ErrorBody
    retry_after: float | None = None

    @classmethod
    def of(cls, error: PorticoError) -> RecordedError:
        kinds = (base.__name__ for base in type(error).__mro__ if base.__module__ == PorticoError.__module__)
        return cls(next(kinds), error.body(), error.retry_after)


@dataclass(slots=True)
class RecordedStep:
    """A call of a run. ``path`` is the step of the flow that made the call, or the called name outside flows.

    Without an ``outcome``, the caller stopped the call. ``steps`` are the calls that a called app made.
    """

    path: str
    name: str
    kind: StepKind
    request: Request | NewQuestion | StoredData
    app: RecordedApp | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    events: list[Event] = field(default_factory=list)
    outcome: Result | GivenAnswer | StoredValue | RecordedError | None = None
    steps: list[RecordedStep] = field(default_factory=list)


class _OpenStep:
    """A step that is being recorded: a context manager, faster than a generator, because each call opens one."""

    __slots__ = ("_recording", "_step", "_steps")

    def __init__(self, recording: Recording, steps: list[RecordedStep], step: RecordedStep) -> None:
        self._recording = recording
        self._steps = steps
        self._step = step

    def __enter__(self) -> RecordedStep:
        self._recording.begin(self._steps, self._step)
        return self._step

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, PorticoError):
            self._step.outcome = RecordedError.of(error)
        self._recording.end(self._step)


class Recording:
    """The calls of one run, in the order in which they began.

    ``redacted`` are the names of fields that the recorded flows do not record. ``is_complete`` turns false if the
    run exceeds a limit; the recording is then empty. ``is_withheld`` turns true if a step belongs to an app whose
    specification the caller must not read.
    """

    __slots__ = ("app", "bytes", "count", "is_complete", "is_withheld", "redacted", "request", "steps")

    def __init__(self, app: RecordedApp, request: Request, redacted: Sequence[str] = ()) -> None:
        self.app = app
        self.request = request
        self.steps: list[RecordedStep] = []
        self.redacted = set(redacted)
        self.bytes = weigh(request, MAX_BYTES)
        self.count = 0
        self.is_complete = True
        self.is_withheld = False

    @classmethod
    def of(cls, servable: Servable, request: Request) -> Recording | None:
        """Return the recording of a call of an app, or ``None`` for other servables."""
        if servable.card.kind != "app":
            return None
        return cls(RecordedApp.of(servable.card), request, redacted_fields(servable))

    def step(self, steps: list[RecordedStep], step: RecordedStep) -> _OpenStep:
        """Record a call among ``steps``, which are the recording's own or those of a called app. The caller sets the
        result.
        """
        return _OpenStep(self, steps, step)

    def begin(self, steps: list[RecordedStep], step: RecordedStep) -> None:
        step.started_at = time.time()
        self.count += 1
        self.is_withheld = self.is_withheld or is_withheld()
        if self.count > MAX_STEPS:
            self._discard()
        if self.is_complete:
            steps.append(step)

    def end(self, step: RecordedStep) -> None:
        step.ended_at = time.time()
        if not self.is_complete:
            return
        if len(step.events) > 1:
            step.events = merge_deltas(step.events)
        # The calls of a called app already count its events and its result.
        self.bytes += weigh(
            step.request if step.kind == "app" else (step.request, step.events, step.outcome), MAX_BYTES
        )
        if self.bytes > MAX_BYTES:
            self._discard()

    def _discard(self) -> None:
        self.is_complete = False
        self.steps.clear()
        self.bytes = 0


def new_step(name: str, card: Card, request: Request) -> RecordedStep:
    """Return the step for a call that begins now."""
    app = RecordedApp.of(card) if card.kind == "app" else None
    return RecordedStep(trace.STEP.get() or name, name, card.kind, request, app)


def new_question_step(question: NewQuestion) -> RecordedStep:
    """Return the step for a question that is asked now."""
    return RecordedStep(trace.STEP.get() or question.name, question.name, "question", question)


def new_data_step(name: str, request: Mapping[str, Any]) -> RecordedStep:
    """Return the step for data that is read or changed now."""
    return RecordedStep(trace.STEP.get() or name, name, "data", StoredData(name, request))


def redacted_fields(servable: Servable) -> Sequence[str]:
    """Return the names of the fields that a flow does not record."""
    flow = getattr(getattr(servable, "inner", servable), "flow", None)  # a guarded flow is inside its guard
    return () if flow is None else tuple(flow.redact)


def listening(step: RecordedStep, listener: Listener) -> Listener:
    """Return a listener that records each event before it passes the event on."""

    async def note(event: Event) -> None:
        step.events.append(event)
        await listener(event)

    return note


def merge_deltas(events: Sequence[Event]) -> list[Event]:
    """Return the events with consecutive pieces of a text joined."""
    joined_events: list[Event] = []
    texts: list[str] = []
    for event in events:
        last = joined_events[-1] if joined_events else None
        if isinstance(event, Delta) and isinstance(last, Delta) and last.index == event.index:
            texts.append(event.text)
            continue
        _end_delta(joined_events, texts)
        joined_events.append(event)
    _end_delta(joined_events, texts)
    return joined_events


def _end_delta(events: list[Event], texts: list[str]) -> None:
    """Append the collected texts to the last event, a piece of text."""
    if texts and isinstance(events[-1], Delta):
        events[-1] = Delta(events[-1].text + "".join(texts), events[-1].index)
    texts.clear()
