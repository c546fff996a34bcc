"""Replays a recorded run: the app runs again, and each call returns what it returned in the recording.

No model, store or tool is called, except those that the caller exchanges. A recording is a file that anybody can write:
it answers calls, but the registry decides which names are apps. Ids that Portico generates differ between two runs, so
comparisons replace them by their order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Final, TypeAlias, TypeVar

import orjson

from portico.schemas.runs import Replay, ReplayStep
from portico.wire import Event, Usage
from portico_server.core import trace
from portico_server.core.context import Context, ContextWithin, Listener
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound, PorticoError
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, Request, Result, StoreRequest
from portico_server.core.servable import Servable
from portico_server.runs.journal import is_withheld
from portico_server.runs.recording import RecordedError, StoredData, StoredValue, redacted_fields
from portico_server.runs.recording_file import (
    Content,
    RecordedRun,
    SecretRules,
    StepPart,
    content,
    require_kind,
)
from portico_server.runs.run import MAX_DEPTH
from portico_server.runs.runner import Runner, plain_result

_Value = TypeVar("_Value")

KIND: Final = "replay"
"""The kind of the run that replays another run."""

_GENERATED: Final = re.compile(rb"\b[a-z]{2,12}[-_](?:[0-9a-f]{32}|[0-9a-f]{24})\b")
"""Matches ids that Portico generates."""

_CREATED: Final = re.compile(rb'"created_at":\d{9,12}(?:\.\d+)?(?=[,}])')
"""Matches the times of messages."""

_OF_THE_RUN: Final = frozenset({("ToolCall", "key"), ("NewQuestion", "key"), ("NewQuestion", "limit")})
"""Fields of requests that derive from the run or from the time."""

_OF_THE_MODEL: Final = ("model", "usage")
"""Fields of answers that always differ between two models."""


@dataclass(frozen=True, slots=True)
class LiveTargets:
    """What a replay calls instead of using the recording: ``model`` answers all chat requests, and ``store`` all
    requests to stores.
    """

    model: str = ""
    store: str = ""

    def target(self, request: Request) -> str:
        """Return the name to call for a request; empty if the recording answers."""
        if self.model and isinstance(request, Chat):
            return self.model
        if self.store and isinstance(request, StoreRequest):
            return f"store/{self.store}"
        return ""


@dataclass(slots=True)
class MadeStep:
    """A call of the replay, and the recorded call that it corresponds to."""

    path: str
    name: str
    kind: str
    request: Request | NewQuestion | StoredData
    recorded: StepPart | None
    is_live: bool = False
    result: Any = None
    error: RecordedError | None = None


@dataclass(slots=True)
class Replayer:
    """The state of one replay. ``apps`` are the apps to run, by name and version."""

    registry: Registry
    live_targets: LiveTargets
    apps: Mapping[tuple[str, int], Servable]
    steps: list[MadeStep] = field(default_factory=list)
    unused: list[tuple[str, list[RecordedCall]]] = field(default_factory=list)
    """For each app call, the path of the call and the recorded steps that no call of the replay has used."""
    redacted: set[str] = field(default_factory=set)

    def begin(self, step: MadeStep) -> MadeStep:
        """Add a call. Raise `Forbidden` if it shows the specification of an app that the caller must not read."""
        if is_withheld():
            raise Forbidden(
                f"The replay would show what an app does at the step '{step.path}', which only the owner of the "
                "app may read."
            )
        self.steps.append(step)
        return step


RecordedCall: TypeAlias = tuple[StepPart, bytes]
"""A recorded call, and its request as `comparable` text."""


class ReplayContext(ContextWithin):
    """The context of an app whose calls the recorded ``steps`` answer. ``prefix`` is the path of the app's call."""

    __slots__ = ("_depth", "_listener", "_prefix", "_replayer", "_steps")

    def __init__(
        self,
        outer: Context,
        replayer: Replayer,
        steps: Iterable[StepPart],
        prefix: str = "",
        listener: Listener | None = None,
        depth: int = 0,
    ) -> None:
        super().__init__(outer)
        self._replayer = replayer
        self._steps: list[RecordedCall] = [(step, comparable(lasting(step.request))) for step in steps]
        self._prefix = prefix
        self._listener = listener
        self._depth = depth
        replayer.unused.append((prefix, self._steps))

    async def emit(self, event: Event) -> None:
        if self._depth == 0:
            if type(event) is not Usage:  # the recorded usage, which the replay does not use again
                await self._outer.emit(event)
        elif self._listener is not None:
            await self._listener(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        if self._depth >= MAX_DEPTH:
            raise InvalidRequest(
                f"'{name}' was called {MAX_DEPTH} levels deep; it probably calls itself.", code="too_deep"
            )
        step = await self._begin(name, request)
        try:
            step.result = result = await self._result(step, request, listener)
        except PorticoError as error:
            step.error = RecordedError.of(error)
            raise
        return result

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        path = trace.STEP.get() or question.name
        recorded = self._take(path, question.name, question)
        step = self._replayer.begin(
            MadeStep(self._prefix + path, question.name, "question", question, recorded)
        )
        if recorded is None:
            raise _not_recorded(step)
        answer: GivenAnswer = await _serve(recorded, GivenAnswer, None)
        step.result = answer
        return answer

    async def outside(
        self,
        name: str,
        request: Mapping[str, Any],
        work: Callable[[], Awaitable[_Value]],
        dump: Callable[[_Value], Any],
        load: Callable[[Any], _Value],
    ) -> _Value:
        data, path = StoredData(name, request), trace.STEP.get() or name
        recorded = self._take(path, name, data)
        step = self._replayer.begin(MadeStep(self._prefix + path, name, "data", data, recorded))
        if recorded is None:
            raise _not_recorded(step)
        step.result = stored_value = await _serve(recorded, StoredValue, None)
        try:
            return load(stored_value.value)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise InvalidRequest(
                f"The recorded value of the step '{step.path}' is not valid: {error!r:.200}. Write the recording "
                "with portico runs save.",
                param="recording",
            ) from error

    async def _begin(self, name: str, request: Request) -> MadeStep:
        path = trace.STEP.get() or name
        recorded = self._take(path, name, request)
        if recorded is not None:
            kind: str = recorded.kind
        else:
            kind = (await self._replayer.registry.resolve(name, self.caller)).card.kind
        return self._replayer.begin(MadeStep(self._prefix + path, name, kind, request, recorded))

    def _take(self, path: str, name: str, request: Request | NewQuestion | StoredData) -> StepPart | None:
        """Return the recorded call that a call corresponds to, and mark it as used: preferably the same call of the
        same step, otherwise another call of the step, otherwise the same call of another step.
        """
        kind, text = type(request).__name__, comparable(lasting(content(request)))

        def difference(number: int) -> tuple[bool, bool]:
            step, recorded_text = self._steps[number]
            return step.name != name, recorded_text != text

        alike = [number for number, (step, _text) in enumerate(self._steps) if step.request.type == kind]
        candidates = [number for number in alike if self._steps[number][0].path == path]
        candidates = candidates or [number for number in alike if difference(number) == (False, False)]
        return self._steps.pop(min(candidates, key=difference))[0] if candidates else None

    async def _result(self, step: MadeStep, request: Request, listener: Listener | None) -> Result:
        if step.kind == "app":
            servable = await self._replayer.registry.resolve(step.name, self.caller)
            if servable.card.kind != "app":
                step.kind = servable.card.kind
                raise NotFound(
                    f"The recording calls '{step.name}' as an app, but it is a {step.kind}, which a replay does not "
                    "call.",
                    code="app_not_found",
                )
            return await self._run_app(step, servable, request, listener)
        target = self._replayer.live_targets.target(request)
        if target:
            step.is_live = True
            live_result = await self._outer.call(target, request, listener=listener)
            usage = getattr(live_result, "usage", None)
            if isinstance(usage, Usage):
                await self._outer.emit(usage)
            return live_result
        if step.recorded is None:
            raise _not_recorded(step)
        result: Result = await _serve(step.recorded, Result, listener)
        return result

    async def _run_app(
        self, step: MadeStep, servable: Servable, request: Request, listener: Listener | None
    ) -> Result:
        recorded = step.recorded
        if recorded is not None and recorded.app is not None:
            servable = self._replayer.apps.get((recorded.app.name, recorded.app.version), servable)
        self._replayer.redacted.update(redacted_fields(servable))
        inner = ReplayContext(
            self._outer,
            self._replayer,
            () if recorded is None else recorded.steps,
            f"{step.path}/",
            listener,
            self._depth + 1,
        )
        return await servable.call(request, inner)


async def _serve(recorded: StepPart, kind: Any, listener: Listener | None) -> Any:
    """Return the recorded result of a call, a ``kind``, after its events, or raise its error."""
    if listener is not None:
        for event in recorded.read_events():
            await listener(event)
    if recorded.error is not None:
        raise recorded.error.to_error()
    if recorded.result is None:
        await asyncio.get_running_loop().create_future()  # the caller stopped the call, and does so again
    assert recorded.result is not None
    return require_kind(recorded.result, kind)


def _not_recorded(step: MadeStep) -> NotFound:
    return NotFound(
        f"The step '{step.path}' calls '{step.name}', but the recorded run did not, so there is no recorded "
        "answer. To continue, exchange the model or the store.",
        code="not_recorded",
    )


async def replay(
    runner: Runner, context: Context, recorded: RecordedRun, app: Servable, replayer: Replayer
) -> tuple[Any, RecordedError | None]:
    """Run the app again, and return its result or its error. The calls are in ``replayer``."""
    run = runner.get(context.run)
    assert run is not None
    run.behind = True  # nobody has to serve functions of clients: the recording answers for them
    replayer.redacted.update(recorded.redacted, redacted_fields(app))
    inner = ReplayContext(context, replayer, recorded.steps)
    try:
        return plain_result(await app.call(recorded.request.instance, inner)), None
    except PorticoError as error:
        return None, RecordedError.of(error)


def compare(
    recorded: RecordedRun,
    replayer: Replayer,
    result: Any,
    error: RecordedError | None,
    secrets: SecretRules,
) -> Replay:
    """Return the differences between a recorded run and its replay."""
    calls = [
        {
            "request": lasting(content(step.request)),
            "result": None if step.result is None else _outcome(content(step.result), step.is_live),
            "error": None if step.error is None else step.error.body.message,
        }
        for step in replayer.steps
    ]
    document = {"steps": calls, "result": result, "error": None if error is None else error.body.message}
    document = secrets.remove(document, replayer.redacted)
    steps = [_compared(step, new) for step, new in zip(replayer.steps, document["steps"], strict=True)]
    for prefix, unused in replayer.unused:
        steps += [
            ReplayStep(prefix + part.path, part.name, part.kind, "missing", _recorded(part), None)
            for part, _text in unused
        ]
    recorded_outcome = {"result": recorded.result, "error": recorded.error and recorded.error.message}
    replayed_outcome = {"result": document["result"], "error": document["error"]}
    first = next((number for number, step in enumerate(steps) if step.status != "same"), None)
    return Replay(
        run=recorded.run.id,
        app=recorded.app.name,
        is_equal=first is None and comparable(recorded_outcome) == comparable(replayed_outcome),
        first=first,
        steps=tuple(steps),
        recorded=recorded_outcome,
        replayed=replayed_outcome,
    )


def _compared(step: MadeStep, new: Mapping[str, Any]) -> ReplayStep:
    if step.recorded is None:
        return ReplayStep(step.path, step.name, step.kind, "new", None, new)
    old = _recorded(step.recorded, is_live=step.is_live)
    is_same = step.name == step.recorded.name and comparable(old) == comparable(new)
    if is_same:
        return ReplayStep(step.path, step.name, step.kind, "same", None, None)
    return ReplayStep(step.path, step.name, step.kind, "changed", old, new)


def _recorded(part: StepPart, *, is_live: bool = False) -> dict[str, Any]:
    return {
        "request": lasting(part.request),
        "result": None if part.result is None else _outcome(part.result, is_live),
        "error": None if part.error is None else part.error.message,
    }


def _outcome(result: Content, is_live: bool) -> Mapping[str, Any]:
    if not is_live:
        return result.value
    return {name: value for name, value in result.value.items() if name not in _OF_THE_MODEL}


def comparable(value: Any) -> bytes:
    """Return JSON as text in which the order of generated ids replaces the ids, without the times of messages."""
    order: dict[bytes, bytes] = {}

    def number(match: re.Match[bytes]) -> bytes:
        return order.setdefault(match[0], b"id-%d" % len(order))

    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return _CREATED.sub(b'"created_at":0', _GENERATED.sub(number, text))


def lasting(request: Content) -> dict[str, Any]:
    """Return a request without the fields that derive from its run."""
    value = {name: item for name, item in request.value.items() if (request.type, name) not in _OF_THE_RUN}
    headers = (value.get("arguments") or {}).get("headers")
    if isinstance(headers, dict):
        headers = {name: item for name, item in headers.items() if name != "Idempotency-Key"}
        value["arguments"] = {**value["arguments"], "headers": headers}
    return value
