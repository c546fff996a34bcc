"""The file of a recorded run: JSON without secrets, in a format with a version, checked when it is read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from functools import cache, cached_property
from typing import Any, Final, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from portico.schemas.stores import StoreThemes
from portico.wire import ErrorBody, Event, event_from_json, event_to_json, field_names
from portico_server import __version__
from portico_server.core import errors, request
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.media import Draw, GeneratedImages, Speak, Speech, Transcribe, Transcription
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.request import Request
from portico_server.core.tables import ComputedValue, FindTables, TableList, TableQuery
from portico_server.core.themes import ChangedFiles, FindChangedFiles, FindThemes
from portico_server.runs.recording import (
    MAX_STEPS,
    RecordedApp,
    RecordedError,
    RecordedStep,
    StepKind,
    StoredData,
    StoredValue,
)
from portico_server.runs.redaction import Redaction, RedactionRules
from portico_server.runs.run import Run
from portico_server.runs.runner import plain_result

FORMAT_VERSION: Final = 1
"""Version of the format. Files of other versions are refused."""

MAX_EVENTS: Final = 100_000
"""Maximum number of events of a step."""

SECRET_WORDS: Final = ("apikey", "credential", "passwd", "password", "secret")
SECRET_ENDINGS: Final = ("authorization", "cookie", "token")
"""Words in names of fields, and endings of such names, whose texts are never written to a file."""

_RESULT_OF: Final[Mapping[type[Any], type[Any]]] = {
    request.Chat: request.ChatReply,
    request.Embed: request.Vectors,
    request.Rerank: request.Ranked,
    request.Moderate: request.Moderated,
    request.Search: request.SearchResult,
    FindTables: TableList,
    TableQuery: ComputedValue,
    FindThemes: StoreThemes,
    FindChangedFiles: ChangedFiles,
    request.ToolCall: request.ToolResult,
    request.AppInput: request.AppOutput,
    request.Tokenize: request.TokenizedText,
    request.Detokenize: request.Detokenized,
    Speak: Speech,
    Transcribe: Transcription,
    Draw: GeneratedImages,
    NewQuestion: GivenAnswer,
    StoredData: StoredValue,
}
"""The type of the result of each type of request."""

_KINDS: Final[Mapping[str, type[Any]]] = {kind.__name__: kind for kind in (*_RESULT_OF, *_RESULT_OF.values())}
"""The requests and results of calls, by the names that files use."""


class _FilePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Content(_FilePart):
    """A request or a result. ``type`` is the name of its class."""

    type: str
    value: dict[str, Any]

    @cached_property
    def instance(self) -> Any:
        """The request or result. Reading it raises `InvalidRequest` if a field is wrong."""
        kind = _KINDS.get(self.type)
        if kind is None:
            raise InvalidRequest(
                f"The recording contains a '{self.type[:80]}', which this version of Portico does not know.",
                param="recording",
            )
        try:
            return getattr(_shape(cast("Any", kind)).model_validate({"value": self.value}), "value")  # noqa: B009
        except ValidationError as error:
            raise _wrong(error) from error


class ErrorPart(_FilePart):
    """An error that a call raised."""

    kind: str
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None

    def to_error(self) -> PorticoError:
        """Return an error of the same class; of the base class if this version does not know the class."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, PorticoError)):
            kind = PorticoError
        return kind(self.message, code=self.code, param=self.param, retry_after=self.retry_after)


class StepPart(_FilePart):
    """A call, see `portico_server.runs.recording.RecordedStep`."""

    path: str
    name: str
    kind: StepKind
    request: Content
    app: RecordedApp | None = None
    started_at: float = 0.0
    milliseconds: float = 0.0
    events: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_EVENTS)
    result: Content | None = None
    error: ErrorPart | None = None
    steps: list[StepPart] = Field(default_factory=list, max_length=MAX_STEPS)

    def read_events(self) -> list[Event]:
        """Return the events that this version knows. Raise `InvalidRequest` if a field is wrong."""
        try:
            events = [event for item in self.events if (event := event_from_json(item)) is not None]
            for event in events:
                event_type = cast("Any", type(event))
                values = {name: getattr(event, name) for name in field_names(event_type)}
                _shape(event_type).model_validate({"value": values})
            return events
        except ValidationError as error:
            raise _wrong(error) from error
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise InvalidRequest(
                f"An event of the step '{self.path}' lacks a field: {error}.", param="recording"
            ) from error


class RunPart(_FilePart):
    """The recorded run."""

    id: str
    kind: str
    created_at: float
    milliseconds: float


class RecordedRun(_FilePart):
    """A recorded run as a file. ``redacted`` are the names of fields that the run's flows do not record."""

    format: Literal[1] = FORMAT_VERSION
    portico: str = __version__
    run: RunPart
    app: RecordedApp
    request: Content
    steps: list[StepPart] = Field(max_length=MAX_STEPS)
    result: Any = None
    error: ErrorPart | None = None
    redacted: list[str] = Field(default_factory=list, max_length=1_000)

    @classmethod
    def parse(cls, document: Any) -> RecordedRun:
        """Parse a file. Raise `InvalidRequest` that names the first wrong field."""
        if isinstance(document, Mapping) and document.get("format", FORMAT_VERSION) != FORMAT_VERSION:
            raise InvalidRequest(
                f"The recording has the format {str(document['format'])[:20]}, but this version of Portico "
                f"reads the format {FORMAT_VERSION}. Record the run again.",
                param="recording",
            )
        try:
            file = cls.model_validate(document)
        except ValidationError as error:
            raise _wrong(error) from error
        require_kind(file.request, get_args(Request))
        for step in file.all_steps():
            made_request = require_kind(step.request, tuple(_RESULT_OF))
            if step.result is not None:
                require_kind(step.result, _RESULT_OF[type(made_request)])
            if step.app is not None and step.app.spec is not None:
                raise InvalidRequest(
                    f"The step '{step.path[:80]}' of the recording has the specification of an app. Only the "
                    "recorded app itself can have one. Write the recording with portico runs save.",
                    param="recording",
                )
        return file

    def all_steps(self) -> Iterator[StepPart]:
        """Yield the steps, and the steps of the apps that they called."""
        queue = list(self.steps)
        while queue:
            step = queue.pop()
            queue += step.steps
            yield step


def require_kind(content: Content, kinds: Any) -> Any:
    """Return the request or result. Raise `InvalidRequest` if it is none of ``kinds``."""
    if not isinstance(content.instance, kinds):
        raise InvalidRequest(
            f"The recording has a '{content.type[:80]}' where it cannot be. Write it with portico runs save.",
            param="recording",
        )
    return content.instance


def to_document(run: Run, secrets: SecretRules) -> dict[str, Any]:
    """Return an ended run as the JSON of a file, without secrets."""
    recording = run.recording
    assert recording is not None
    finished_at = run.finished_at or run.created_at
    file = RecordedRun(
        run=RunPart(
            id=run.id,
            kind=run.kind,
            created_at=run.created_at,
            milliseconds=(finished_at - run.created_at) * 1e3,
        ),
        app=recording.app,
        request=content(recording.request),
        steps=[_step(step) for step in recording.steps],
        result=plain_result(run.result),
        error=None if run.error is None else _error(RecordedError(PorticoError.__name__, run.error)),
        redacted=sorted(recording.redacted),
    )
    document: dict[str, Any] = secrets.remove(file.model_dump(mode="json"), recording.redacted)
    return document


def content(value: Any) -> Content:
    """Return a request or a result as JSON."""
    shape = _shape(cast("Any", type(value))).model_construct(value=value)
    return Content(type=type(value).__name__, value=shape.model_dump(mode="json", warnings=False)["value"])


@dataclass(frozen=True, slots=True)
class SecretRules:
    """What a file must not contain: matches of the operator's ``rules``, and the texts that ``find`` returns for a
    text. Texts of fields with `SECRET_WORDS` or `SECRET_ENDINGS` in their names are secrets too.
    """

    rules: RedactionRules
    find: Callable[[str], Iterable[str]]

    def remove(self, document: Any, names: Set[str]) -> Any:
        """Return JSON without secrets, and without the values of fields in ``names``."""
        redaction = Redaction(self.rules)
        redaction.add(names)
        for secret in self._secrets(document):
            redaction.remember(secret)
        return redaction.of(document)

    def _secrets(self, document: Any) -> Iterator[str]:
        queue: list[tuple[str, Any]] = [("", document)]
        while queue:
            name, value = queue.pop()
            if isinstance(value, dict):
                queue += value.items()
            elif isinstance(value, list):
                queue += (("", item) for item in value)
            elif isinstance(value, str):
                yield from (value,) if _is_secret(name) else self.find(value)


def _is_secret(name: str) -> bool:
    word = name.lower().replace("-", "").replace("_", "")
    return word.endswith(SECRET_ENDINGS) or any(part in word for part in SECRET_WORDS)


def _step(step: RecordedStep) -> StepPart:
    outcome = step.outcome
    return StepPart(
        path=step.path,
        name=step.name,
        kind=step.kind,
        request=content(step.request),
        app=step.app,
        started_at=step.started_at,
        milliseconds=(step.ended_at - step.started_at) * 1e3,
        events=[event_to_json(event) for event in step.events],
        result=None if outcome is None or isinstance(outcome, RecordedError) else content(outcome),
        error=_error(outcome) if isinstance(outcome, RecordedError) else None,
        steps=[_step(inner) for inner in step.steps],
    )


def _error(error: RecordedError) -> ErrorPart:
    body: ErrorBody = error.body
    return ErrorPart(
        kind=error.kind,
        message=body.message,
        code=body.code,
        param=body.param,
        retry_after=error.retry_after,
    )


@cache
def _shape(kind: Hashable) -> type[BaseModel]:
    """Return a model whose field ``value`` has the type ``kind``. Bytes are base64 in JSON."""
    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    return create_model("Shape", __config__=config, value=(cast("Any", kind), ...))


def _wrong(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return InvalidRequest(
        f"The recording is not valid at '{place[:200]}': {first['msg']}. Write it with portico runs save.",
        param="recording",
    )
