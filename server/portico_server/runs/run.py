"""One execution, and its context for a Servable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol, TypeVar

from portico.wire import ErrorBody, Event, Usage
from portico_server.core import trace
from portico_server.core.context import Context, Listener, innermost
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.event import EventLog
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay
from portico_server.core.request import Request, Result
from portico_server.core.servable import Card, Servable
from portico_server.runs.model_calls import NO_USAGE, ExpenseShare, ModelCalls, with_text
from portico_server.runs.quotas import Quotas, UsageMeter
from portico_server.runs.recording import (
    RecordedStep,
    Recording,
    StoredValue,
    listening,
    new_data_step,
    new_question_step,
    new_step,
    redacted_fields,
)
from portico_server.runs.redaction import Redaction

T = TypeVar("T")

Status = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]

MAX_DEPTH = 32
"""Maximum depth of nested calls: an app that calls itself ends with an error at this depth."""

BEHIND: ContextVar[bool] = ContextVar("behind", default=False)
"""True for background work that nobody waits for. Its calls have a lower priority than calls with a waiting caller."""


class Deadline:
    """A run's time limit, which is paused while the run waits for an answer.

    ``waited`` is the paused time in seconds. Concurrent waits of several steps count once.
    """

    __slots__ = ("_deadline", "_limit", "_since", "_waits", "waited")

    def __init__(self) -> None:
        self.waited = 0.0
        self._deadline: float | None = None
        self._limit: asyncio.Timeout | None = None
        self._since = 0.0
        self._waits = 0

    def start(self, deadline: float | None, limit: asyncio.Timeout | None = None) -> None:
        """Set the deadline. ``limit`` cancels the run at ``deadline``, a time on the event loop's clock."""
        self._deadline, self._limit = deadline, limit

    @property
    def deadline(self) -> float | None:
        """Return the current deadline, extended by the time waited so far."""
        if self._deadline is None or not self._waits:
            return self._deadline
        return self._deadline + asyncio.get_running_loop().time() - self._since

    def stop(self) -> None:
        """Pause until `go_on` has been called as often as this method."""
        self._waits += 1
        if self._waits > 1:
            return
        self._since = asyncio.get_running_loop().time()
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(None)

    def go_on(self) -> bool:
        """End one wait. Return whether other waits continue."""
        self._waits -= 1
        if self._waits:
            return True
        passed_s = asyncio.get_running_loop().time() - self._since
        self.waited += passed_s
        if self._deadline is not None:
            self._deadline += passed_s
            if self._limit is not None and not self._limit.expired():
                self._limit.reschedule(self._deadline)
        return False


LIMITS_WITHIN: ContextVar[tuple[Deadline, ...]] = ContextVar("limits_within", default=())
"""The time limits within the run that also pause while it waits, such as those of its flows."""


class Run:
    """The state of one execution, while it runs and for a short time after its end."""

    __slots__ = (
        "behind",
        "caller",
        "charge",
        "client_model_features",
        "clock",
        "created_at",
        "durable",
        "error",
        "finished_at",
        "first_byte_at",
        "id",
        "keeps_steps",
        "kind",
        "log",
        "meter",
        "model",
        "name",
        "output",
        "owner",
        "recorded",
        "recording",
        "redaction",
        "replayed",
        "reported",
        "result",
        "revoked",
        "shares",
        "spans",
        "started",
        "status",
        "task",
        "trace",
        "usage",
    )

    def __init__(
        self, kind: str, name: str, caller: Principal, run_id: str | None = None, last_event: int = 0
    ) -> None:
        self.durable = run_id is not None
        """True if a row in the database represents the run."""
        self.keeps_steps = False
        """True if a durable flow that the run calls directly records its steps as the run's own. When the run resumes,
        it calls the flow with the same values again.
        """
        self.recorded: asyncio.Event | None = None
        """Set once the end of a durable run is stored in its row."""
        self.recording: Recording | None = None
        """The calls of the run, if it is a call of an app."""
        self.redaction: Redaction | None = None
        """The redaction of the run's events and result before they are recorded, or ``None`` without redaction
        rules.
        """
        self.owner = caller.id
        """The id of the key that the run works for and that receives its questions."""
        self.client_model_features: frozenset[str] = frozenset()
        """Features of the model that the client provides: ``chat`` if it provides a model, ``tools`` if that model can
        call tools.
        """
        self.behind = BEHIND.get()
        """True if the run is part of work that nobody waits for."""
        self.clock = Deadline()
        self.id = run_id or new_id("run_")
        self.kind = kind
        self.name = name
        self.model = ""
        """The name of the model that answers, if the run is a model call."""
        self.caller = caller
        self.status: Status = "running"
        self.created_at = time.time()
        self.started = time.perf_counter()
        self.first_byte_at: float | None = None
        self.finished_at: float | None = None
        self.log = EventLog(last_event)
        self.result: Any = None
        self.output: tuple[Any] | None = None
        """The result that is stored in the run's row, in a one-element tuple, if it differs from ``result``."""
        self.error: ErrorBody | None = None
        self.revoked: ErrorBody | None = None
        """Why the run was stopped, if its owner has lost the right to run it."""
        self.trace = trace.CURRENT.get()
        """The span in which the run began: a span of Portico or of the client."""
        self.spans: SpanRecorder | None = None
        """Records the calls that the run makes; ``None`` if they are not recorded."""
        self.usage = NO_USAGE
        self.replayed = NO_USAGE
        """The part of ``usage`` that belongs to calls that an earlier attempt recorded."""
        self.reported: Usage | None = NO_USAGE
        """Usage in the rows of earlier attempts; ``None`` if these rows contain all replayed usage."""
        self.charge = ModelCalls()
        """The usage that the run's model calls have charged to its key."""
        self.shares: dict[str, ExpenseShare] = {}
        """Usage that is charged to other keys, by the key that pays (`at_expense_of`)."""
        self.meter: UsageMeter | None = None
        """The meter on which the run counts as a call of its key, or ``None`` for a key without limits."""
        self.task: asyncio.Task[Any] | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @contextmanager
    def pause_deadline(self) -> Iterator[None]:
        """Mark the run as waiting for an answer from outside. Its status changes, and its deadline is paused."""
        limits = LIMITS_WITHIN.get()
        for limit in (self.clock, *limits):
            limit.stop()
        self.status = "waiting"
        try:
            yield
        finally:
            for limit in limits:
                limit.go_on()
            if not self.clock.go_on() and self.status == "waiting":
                self.status = "running"

    async def leave(self) -> None:
        """Record that the caller no longer listens. Unless the run is durable, stop it."""
        if not self.durable:
            await self.cancel()

    async def cancel(self) -> None:
        """Stop the work and wait until it has stopped."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])


class CallRecord(Protocol):
    """A call in progress. ``result`` is set once the call has a result."""

    result: Any


class SpanRecorder(Protocol):
    """A recorder of calls; see `portico_server.runs.telemetry`."""

    def calling(self, name: str, card: Card, request: Request) -> AbstractContextManager[CallRecord]: ...


class QuestionAsker(Protocol):
    """An interface that asks a run's questions; see `portico_server.runs.questions`."""

    async def ask(self, run: Run, question: NewQuestion) -> GivenAnswer: ...


class RunContext:
    """`portico_server.core.context.Context` for a run or one of its children."""

    __slots__ = (
        "_asks",
        "_caller",
        "_depth",
        "_listener",
        "_quotas",
        "_registry",
        "_run",
        "_share",
        "_steps",
    )

    def __init__(
        self,
        run: Run,
        registry: Registry,
        listener: Listener,
        asks: QuestionAsker | None,
        quotas: Quotas,
        depth: int = 0,
        caller: Principal | None = None,
        share: ExpenseShare | None = None,
        steps: list[RecordedStep] | None = None,
    ) -> None:
        self._run = run
        self._steps = steps
        self._caller = caller or run.caller
        self._share = share
        self._registry = registry
        self._listener = listener
        self._asks = asks
        self._quotas = quotas
        self._depth = depth

    @property
    def run(self) -> str:
        return self._run.id

    @property
    def depth(self) -> int:
        """Return the number of calls between the run and this context; 0 for the call that started the run."""
        return self._depth

    @property
    def caller(self) -> Principal:
        return self._caller

    def on_behalf_of(self, caller: Principal) -> RunContext:
        """Return a context of the same run with another caller's rights, for calls made at that caller's request."""
        return self._varied(caller, self._share)

    def at_expense_of(self, key: str) -> RunContext:
        """Return a context of the same run that is charged to another key. That key's limits apply, and its usage is
        recorded.
        """
        if key == self._run.owner:
            return self if self._share is None else self._varied(self._caller, None)
        return self._varied(self._caller, self._run.shares.setdefault(key, ExpenseShare(key)))

    def _varied(self, caller: Principal, share: ExpenseShare | None) -> RunContext:
        return RunContext(
            self._run,
            self._registry,
            self._listener,
            self._asks,
            self._quotas,
            self._depth,
            caller,
            share,
            self._steps,
        )

    @property
    def deadline(self) -> float | None:
        return self._run.clock.deadline

    def emit(self, event: Event) -> Awaitable[None]:
        if self._share is not None and type(event) is Usage:
            self._share.usage += event
            return _nobody(event)
        return self._listener(event)  # not a separate coroutine: a flow emits two events for every step

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        if self._depth >= MAX_DEPTH:
            raise InvalidRequest(
                f"'{name}' was called {MAX_DEPTH} levels deep, probably because an app calls itself.",
                code="too_deep",
            )
        servable = await self._registry.resolve(name, self.caller)
        recording, steps = self._run.recording, self._recorded_steps
        if recording is None or steps is None:
            return await self._call(name, servable, request, listener or _nobody)
        step = new_step(name, servable.card, request)
        if step.kind == "app":
            recording.redacted.update(redacted_fields(servable))
        with recording.step(steps, step):
            listener = _nobody if listener is None else listening(step, listener)
            result = await self._call(
                name, servable, request, listener, step.steps if step.kind == "app" else None
            )
            step.outcome = result
            return result

    @property
    def _recorded_steps(self) -> list[RecordedStep] | None:
        """Return the list to which this context's calls are added; ``None`` if they are not recorded."""
        if self._depth:
            return self._steps
        return None if self._run.recording is None else self._run.recording.steps

    async def _call(
        self,
        name: str,
        servable: Servable,
        request: Request,
        listener: Listener,
        steps: list[RecordedStep] | None = None,
    ) -> Result:
        request = await with_text(self._registry, servable, request, self.caller)
        child = RunContext(
            self._run,
            self._registry,
            listener,
            self._asks,
            self._quotas,
            self._depth + 1,
            self._caller,
            self._share,
            steps,
        )
        spans = self._run.spans
        if spans is None:
            return await self._charge(servable, request, child)
        with spans.calling(name, servable.card, request) as span:
            result = span.result = await self._charge(servable, request, child)
            return result

    @property
    def is_metered(self) -> bool:
        """Return whether the run is charged to a key with limits."""
        return self._meter is not None

    @property
    def _meter(self) -> UsageMeter | None:
        return self._quotas.of(self._run.owner if self._share is None else self._share.key)

    async def _charge(self, servable: Servable, request: Request, child: RunContext) -> Result:
        """Call the servable, and charge its cost to the run's key."""
        if not self.is_metered:
            return await servable.call(request, child)
        async with self.charging(servable, request) as spend:
            result = await servable.call(request, child)
            spend(result)
            return result

    @asynccontextmanager
    async def charging(
        self, servable: Servable, request: Request | Relay
    ) -> AsyncIterator[Callable[[Any], None]]:
        """See `charge_call`."""
        run, meter = self._run, self._meter
        charge = run.charge if self._share is None else self._share.charge
        # Background work waits until a limit allows its call; a waiting caller gets the error immediately.
        patient, is_counted = run.durable or run.behind, run.meter is not None and self._share is None
        async with charge.call(meter, servable, request, patient=patient, is_counted=is_counted):
            yield lambda result: charge.spend(meter, servable, result)

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        if self._asks is None:
            raise Unavailable(
                f"'{question.name}' asks a question, but nobody can answer questions in this call.",
                code="nobody_to_ask",
            )
        if question.kind == "chat":
            _check_capabilities(question, self._run.client_model_features)
        recording, steps = self._run.recording, self._recorded_steps
        if recording is None or steps is None:
            return await self._asks.ask(self._run, question)
        with recording.step(steps, new_question_step(question)) as step:
            step.outcome = answer = await self._asks.ask(self._run, question)
            return answer

    async def outside(
        self,
        name: str,
        request: Mapping[str, Any],
        work: Callable[[], Awaitable[T]],
        dump: Callable[[T], Any],
        load: Callable[[Any], T],
    ) -> T:
        recording, steps = self._run.recording, self._recorded_steps
        if recording is None or steps is None:
            return await work()
        with recording.step(steps, new_data_step(name, request)) as step:
            value = await work()
            step.outcome = StoredValue(dump(value))
            return value


@asynccontextmanager
async def charge_call(
    context: Context, servable: Servable, request: Request | Relay
) -> AsyncIterator[Callable[[Any], None]]:
    """Admit and charge a call of a servable that is made without `Context.call`, as `Context.call` would.

    The context yields a function that receives the result and charges its usage. Raise `TooMany`.
    """
    found_context = innermost(context)
    if isinstance(found_context, RunContext) and found_context.is_metered:
        async with found_context.charging(servable, request) as spend:
            yield spend
    else:
        yield lambda _result: None


def at_expense_of(context: Context, key: str) -> Context:
    """Return a context of the run that is charged to another key, see `RunContext.at_expense_of`."""
    found_context = innermost(context)
    return found_context.at_expense_of(key) if isinstance(found_context, RunContext) else context


def _check_capabilities(question: NewQuestion, client_model_features: frozenset[str]) -> None:
    """Raise `InvalidRequest` if the client provides no model, or a model without the required features."""
    if "chat" not in client_model_features:
        raise InvalidRequest(
            f"The calling client must provide the model '{question.name}', but this client provides none. "
            "Call over MCP with a client that declares 'sampling', or name another model.",
            code="no_model_lent",
            param="model",
        )
    if (question.arguments.get("options") or {}).get("tools") and "tools" not in client_model_features:
        raise InvalidRequest(
            "The model that this client provides cannot call tools (the client does not declare "
            "'sampling.tools'). Use the model where no tools are needed, or name another model.",
            code="no_tools_lent",
            param="tools",
        )


async def _nobody(_event: Event) -> None:
    """Ignore events that nobody requested."""
