"""The shared vocabulary of daemon and SDK: events, passages and errors, as plain dataclasses (standard library only).

The daemon sends events as JSON objects with a ``type``; the SDK parses them into the same classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a passage in its source. Only fields that the format supports are set.

    ``page`` and ``line`` count from 1; a slide is a page. ``start`` and ``end`` (exclusive) are character offsets in
    the extracted text of the file. ``heading`` is the path of headings above the passage, outermost first. ``cell`` is
    the range in a spreadsheet's ``sheet`` (``A2:C9``), or the number of a notebook's cell. ``seconds`` count from the
    start of a recording. ``symbol`` names a definition in code (``Client.ask``), a value in JSON (``$.ports[2]``) or
    an element in XML (``/orders/order[2]``).

    Example::

        from portico import Client

        with Client() as client:
            place = client.search("docs", "Who can reach the daemon?").passages[0].place
            print(place.heading, place.line)
    """

    page: int | None = None
    line: int | None = None
    heading: tuple[str, ...] = ()
    row: int | None = None
    start: int = 0
    end: int = 0
    sheet: str | None = None
    cell: str | None = None
    seconds: float | None = None
    symbol: str | None = None

    def label(self) -> str:
        """Return the position in short form, such as ``page 3``, ``line 12 · Install › Linux`` or ``Fees A2:C9``."""
        parts: list[str] = []
        if self.page is not None:
            parts.append(f"page {self.page}")
        if self.sheet is not None:
            parts.append(f"{self.sheet} {self.cell or ''}".rstrip())
        elif self.cell is not None:
            parts.append(f"cell {self.cell}")
        elif self.row is not None:
            parts.append(f"row {self.row}")
        elif self.seconds is not None:
            parts.append(clock(self.seconds))
        elif self.line is not None and self.page is None:
            parts.append(f"line {self.line}")
        if self.symbol is not None:
            parts.append(self.symbol)
        if self.heading:
            parts.append(" › ".join(self.heading))
        return " · ".join(parts)


def clock(seconds: float) -> str:
    """Format a time in a recording as media players do: ``1:02:03`` or ``2:03``."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A ranked search result. ``score`` is in [0, 1], higher is better; ``rank`` counts from 1.

    ``quote``: the start and end offsets in ``text`` of the sentence that an answer quotes.

    Example::

        from portico import Client

        with Client() as client:
            passage = client.search("docs", "Who can reach the daemon?").passages[0]
            print(passage.score, passage.filename, passage.text)
    """

    rank: int
    score: float
    text: str
    file_id: str
    filename: str
    place: Place = Place()
    store: str = ""
    # ``int`` is listed, because pydantic warns when it writes an integer as a ``float``.
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    quote: tuple[int, int] | None = None


ClaimReason: TypeAlias = Literal["", "number", "name", "date", "negation", "no_evidence", "too_long"]
"""Why a claim has no evidence: the kind of fact that the nearest passage lacks or contradicts, or ``no_evidence`` if
no passage is near.

``too_long``: the claim was not checked, because the answer has too many sentences.
"""


Unsupported: TypeAlias = Literal["mark", "remove", "ask_again"]
"""What happens to sentences without evidence: they are marked or removed, or the model is asked again."""

UNSUPPORTED: Final[tuple[str, ...]] = get_args(Unsupported)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence for a claim: the characters from ``start`` to ``end`` in the text of the passage with this ``rank``."""

    rank: int
    file_id: str
    filename: str
    place: Place
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AnswerClaim:
    """A sentence of an answer, at the characters from ``start`` to ``end``, and the evidence for it.

    ``removed``: the sentence was removed from the answer; it would have begun at ``start``.
    """

    start: int
    end: int
    supported: bool
    reason: ClaimReason = ""
    evidence: tuple[Evidence, ...] = ()
    removed: bool = False


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error in OpenAI's format: ``{"error": {"message", "type", "param", "code"}}``."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. ``index`` is the number of the choice to which the piece belongs."""

    type: ClassVar[str] = "delta"
    text: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A model called a tool. ``arguments`` is the JSON text as the model wrote it."""

    type: ClassVar[str] = "tool_called"
    id: str
    name: str
    arguments: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """The result of a tool that an agent called. ``id`` is the same as in the `ToolCalled` event."""

    type: ClassVar[str] = "tool_returned"
    id: str
    name: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class HandedOff:
    """The conversation was handed over, or back, to the agent ``to``. The answer of this agent becomes the final
    answer.
    """

    type: ClassVar[str] = "handed_off"
    to: str


@dataclass(frozen=True, slots=True)
class Cited:
    """The passages on which an answer is based, numbered by their ``rank``. The event is sent before the answer's
    first word.

    ``nearest``: the nearest passages, if no passage answers the question.
    """

    type: ClassVar[str] = "cited"
    passages: tuple[Passage, ...]
    nearest: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A sentence of the answer was checked. The event is sent after the last piece of the sentence, before the next
    sentence.
    """

    type: ClassVar[str] = "claimed"
    claim: AnswerClaim


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of a run started. ``path`` identifies the step, such as ``search`` or ``parse/handbook.pdf``."""

    type: ClassVar[str] = "step_started"
    path: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended after ``milliseconds``. ``error`` is the error message if the step failed."""

    type: ClassVar[str] = "step_finished"
    path: str
    milliseconds: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """Progress of a run. ``stage`` is a word (download, load, index …); ``done`` and ``total`` are amounts in
    ``unit``.
    """

    type: ClassVar[str] = "status"
    stage: str
    message: str = ""
    done: float | None = None
    total: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The run waits for an external answer: an ``approval``, a client's ``function``, an ``input``, or a ``chat`` with
    a client's model.

    ``name`` is the name of the tool, function or step that asks. ``answer_schema`` is the JSON schema of the answer's
    value. ``expires_at`` is when the wait ends, in seconds since 1970. ``key`` stays the same when an interrupted run
    asks the same question again.
    """

    type: ClassVar[str] = "asked"
    id: str
    kind: str
    name: str
    message: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    answer_schema: Mapping[str, Any] | None = None
    expires_at: float | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The key or worker ``by`` answered the run's question. The run continues."""

    type: ClassVar[str] = "answered"
    id: str
    accepted: bool
    by: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token usage of a call. ``cost`` is in US dollars, ``None`` if no price is known."""

    type: ClassVar[str] = "usage"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of two usages. If only one of the costs is known, the sum has this cost."""
        known_costs = [usage.cost for usage in (self, other) if usage.cost is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            sum(known_costs) if known_costs else None,
        )


@dataclass(frozen=True, slots=True)
class GuardHit:
    """A guard found ``count`` items of one ``kind``; the event never contains the items. ``place``: ``input``,
    ``output``, ``tool_arguments`` or ``tool_results``. ``action``: what the guard did with the items. The kind
    ``error`` means that the guard could not check the text.
    """

    type: ClassVar[str] = "guarded"
    guard: str
    kind: str
    place: str
    action: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Failed:
    """The run failed. This is the last event."""

    type: ClassVar[str] = "failed"
    error: ErrorBody


@dataclass(frozen=True, slots=True)
class Finished:
    """The run succeeded. ``result`` is a JSON value. This is the last event."""

    type: ClassVar[str] = "finished"
    result: Any = None


Event: TypeAlias = (
    Delta
    | ToolCalled
    | ToolReturned
    | HandedOff
    | Cited
    | Claimed
    | StepStarted
    | StepFinished
    | Progressed
    | Asked
    | Answered
    | Usage
    | GuardHit
    | Failed
    | Finished
)

_BY_TYPE: Mapping[str, type[Any]] = {
    cls.type: cls
    for cls in (
        *(Delta, ToolCalled, ToolReturned, HandedOff, Cited, Claimed, StepStarted, StepFinished, Progressed),
        *(Asked, Answered, Usage, GuardHit, Failed, Finished),
    )
}

_FIELDS: Mapping[type[Any], tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls)) for cls in _BY_TYPE.values()
}
_PLAIN = frozenset({str, int, float, bool, type(None)})


def event_to_json(event: Event) -> dict[str, Any]:
    """Return the event as a JSON object with its ``type``."""
    document: dict[str, Any] = {"type": event.type}
    for name in _FIELDS[type(event)]:
        value = getattr(event, name)
        document[name] = value if type(value) in _PLAIN else as_json(value)
    return document


@cache
def field_names(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of a dataclass's fields. The result is cached, because computing it for each object would take
    longer than reading the values.
    """
    return tuple(field.name for field in fields(kind))


def as_json(value: Any) -> Any:
    """Convert dataclasses, and lists of dataclasses, to JSON objects. JSON values in them are not copied, because they
    may be large.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if is_dataclass(kind):
        return {name: as_json(getattr(value, name)) for name in field_names(kind)}
    if isinstance(value, list | tuple) and value and is_dataclass(value[0]):
        return [as_json(item) for item in value]
    if isinstance(value, Mapping):
        return {
            name: as_json(item) if is_dataclass(item) or isinstance(item, list | tuple) else item
            for name, item in value.items()
        }
    return value


def event_from_json(value: Mapping[str, Any]) -> Event | None:
    """Parse an event. Return ``None`` for a type that this version does not know; readers should skip such events."""
    cls = _BY_TYPE.get(str(value.get("type")))
    if cls is None:
        return None
    known_fields = {f.name for f in fields(cls)}
    data = {name: item for name, item in value.items() if name in known_fields}
    if cls is Failed:
        data["error"] = ErrorBody(**data["error"])
    elif cls is Cited:
        for name in ("passages", "nearest"):
            data[name] = tuple(passage_from_json(item) for item in data.get(name, ()))
    elif cls is Claimed:
        data["claim"] = claim_from_json(data["claim"])
    event: Event = cls(**data)
    return event


def passage_from_json(value: Mapping[str, Any]) -> Passage:
    """Parse a passage, ignoring fields that this version does not know."""
    known_fields = {f.name for f in fields(Passage)}
    data = {name: item for name, item in value.items() if name in known_fields}
    data["place"] = place_from_json(data.get("place") or {})
    if data.get("quote") is not None:
        start, end = data["quote"]
        data["quote"] = (start, end)
    return Passage(**data)


def claim_from_json(value: Mapping[str, Any]) -> AnswerClaim:
    """Parse a claim, ignoring fields that this version does not know."""
    data = {field.name: value[field.name] for field in fields(AnswerClaim) if field.name in value}
    names = {field.name for field in fields(Evidence)}
    evidence = (
        {name: item for name, item in entry.items() if name in names} for entry in data.get("evidence", ())
    )
    data["evidence"] = tuple(
        Evidence(**{**entry, "place": place_from_json(entry.get("place") or {})}) for entry in evidence
    )
    return AnswerClaim(**data)


def place_from_json(value: Mapping[str, Any]) -> Place:
    """Parse a place, ignoring fields that this version does not know."""
    place_fields = {f.name: value[f.name] for f in fields(Place) if f.name in value}
    return Place(**{**place_fields, "heading": tuple(place_fields.get("heading") or ())})
