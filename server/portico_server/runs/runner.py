"""Starts, tracks and ends the runs in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from portico.wire import (
    ErrorBody,
    Event,
    Failed,
    Finished,
    Progressed,
    Usage,
    as_json,
)
from portico_server.core import trace, work_slots
from portico_server.core.context import ENDS_AT, Context
from portico_server.core.errors import Conflict, DeadlineExceeded, Forbidden, PorticoError, shutting_down
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import AppOutput, ChatReply, Ranked, Request, Result, Vectors
from portico_server.core.servable import Card, Relays, Servable
from portico_server.db.usage import UsageRow
from portico_server.runs.admitted_call import AdmittedCall
from portico_server.runs.attempt_usage import attempt_usage, token_count
from portico_server.runs.daemon_health import DaemonHealth
from portico_server.runs.ended_runs import EndedRuns
from portico_server.runs.model_calls import NO_USAGE, with_text
from portico_server.runs.questions import QuestionService
from portico_server.runs.quotas import Quotas, UsageMeter
from portico_server.runs.recording import Recording
from portico_server.runs.run import Run, RunContext, charge_call
from portico_server.runs.telemetry import Span, Telemetry
from portico_server.runs.usage import CallCounts, UsageLog

logger = logging.getLogger(__name__)

Work = Callable[[Context], Awaitable[Any]]


class Runner:
    """The single place where work starts. ``timeout`` is the maximum duration of a call, in seconds.

    Without ``questions``, runs cannot ask questions.
    """

    def __init__(
        self, registry: Registry, usage: UsageLog, *, timeout: float, questions: QuestionService | None = None
    ) -> None:
        self._registry = registry
        self._usage = usage
        self._questions = questions
        self._timeout = timeout
        self._active: dict[str, Run] = {}
        self._is_closing = False
        self._any_end = asyncio.Event()
        """Set whenever a run ends."""
        self._recent = EndedRuns()
        self._arrivals: dict[str, set[asyncio.Event]] = {}
        """Events to set when a run becomes active, by run id."""
        self.answered_at = 0.0
        """When the last call with a waiting caller ended, by `time.perf_counter`."""
        self.signals = DaemonHealth()
        """The daemon's measurements of its own health."""
        self.telemetry: Telemetry | None = None
        """Receives all calls and runs that have ended, or ``None`` without telemetry."""
        self.quotas = Quotas()
        """Usage of keys with limits."""
        self.app_quotas = Quotas(noun="app")
        """Usage of apps with limits, by all callers."""

    @property
    def tally(self) -> CallCounts:
        """Return the counts of all calls that have ended since the daemon started."""
        return self._usage.tally

    @property
    def active(self) -> int:
        """Return the number of active runs."""
        return len(self._active)

    @property
    def living(self) -> Iterable[Run]:
        """Return the active runs, oldest first."""
        return self._active.values()

    def get(self, run_id: str) -> Run | None:
        """Return an active or recently ended run."""
        return self._active.get(run_id) or self._recent.get(run_id)

    def list(self) -> list[Run]:
        """Return the active runs, then the recently ended ones, newest first."""
        return [*reversed(self._active.values()), *reversed(self._recent)]

    async def arrival(self, run_id: str, timeout: float, *, after: Run | None = None) -> Run | None:
        """Wait until the run is active in this daemon and return it, or ``None`` after ``timeout`` seconds.

        ``after`` is an attempt of the run that has already ended: wait for the next attempt.
        """
        run = self.get(run_id)
        if run is None or run is after:
            event, events = asyncio.Event(), self._arrivals.setdefault(run_id, set())
            events.add(event)
            try:
                async with asyncio.timeout(timeout):
                    await event.wait()
            except TimeoutError:
                pass
            finally:
                events.discard(event)
                if not events and self._arrivals.get(run_id) is events:
                    del self._arrivals[run_id]
            run = self.get(run_id)
        return None if run is after else run

    async def start(
        self,
        operation: str,
        name: str,
        request: Request,
        caller: Principal,
        found_servable: Servable | None = None,
        *,
        owner: str | None = None,
    ) -> Run:
        """Call the Servable ``name`` in a separate task. Its events are in ``run.log``. A caller that leaves must
        cancel it.

        ``found_servable``: the servable with that name, if known. ``owner``: a key other than the caller's that is
        charged, as within a call of that key, and whose revocation ends the run. Raise `TooMany` if the caller's key,
        or the called app, exceeds one of its limits.
        """

        async def work(context: Context) -> Result:
            if found_servable is None:
                servable = await self._registry.resolve(name, caller)
            else:
                servable = self._registry.admit(found_servable, caller)
            run.model = _model_name(servable.card)
            text_request = await with_text(self._registry, servable, request, caller)
            run.recording = Recording.of(servable, text_request)
            if owner is None:
                result = await servable.call(text_request, context)
            else:
                async with charge_call(context, servable, text_request) as spend:
                    result = await servable.call(text_request, context)
                    spend(result)
            if run.model:  # a client can give any name to the model that it provides
                answered_servable = self._registry.get(getattr(result, "model", ""), caller)
                run.model = _model_name(answered_servable.card if answered_servable else None) or run.model
            return result

        with await self.admitted(name, caller) as admission:
            run = await self.begin(operation, name, caller, work, owner=owner)
            admission.follow(run)
        return run

    async def admitted(self, name: str, caller: Principal) -> AdmittedCall:
        """Admit a call from outside to an app. Raise `TooMany` if the app exceeds one of its limits.

        A caller without access is refused elsewhere, and uses no part of the app's budget.
        """
        await self._registry.load(name)
        servable = self._registry.get(name, caller)
        may = servable is not None and servable.card.kind == "app" and caller.allows_any(servable.card.scopes)
        meter = self.app_quotas.of(servable.card.id) if servable is not None and may else None
        if meter is not None:
            await meter.enter()
        return AdmittedCall(meter)

    async def meter(self, caller: Principal) -> UsageMeter | None:
        """Count a call that starts, if its key has limits. Raise `TooMany`."""
        meter = self.quotas.of(caller.id)
        if meter is not None:
            await meter.enter()
        return meter

    async def call(
        self,
        operation: str,
        name: str,
        request: Request,
        caller: Principal,
        servable: Servable | None = None,
        *,
        owner: str | None = None,
    ) -> Result:
        """Call the Servable ``name`` and wait for its result. If the waiting task is cancelled, so is the call. See
        `start`.
        """
        result: Result = await self.wait(
            await self.start(operation, name, request, caller, servable, owner=owner)
        )
        return result

    async def wait(self, run: Run) -> Any:
        """Return the result of a run, or raise its error. Cancelling the waiter cancels the run, unless it is
        durable.
        """
        assert run.task is not None
        try:
            await asyncio.wait([run.task])
        finally:
            await run.leave()
        if run.task.cancelled():  # another task cancelled the run; the waiter itself was not cancelled
            raise (
                shutting_down()
                if self._is_closing
                else Conflict(f"The run {run.id} was cancelled.", code="cancelled")
            )
        return run.task.result()

    def spawn(
        self,
        kind: str,
        name: str,
        caller: Principal,
        work: Work,
        *,
        run_id: str | None = None,
        last_event: int = 0,
        timeout: float | None = -1,
        owner: str | None = None,
        usage: Usage | None = None,
    ) -> Run:
        """Run ``work`` in a task. ``timeout`` is in seconds; ``None`` means no limit, omitting it means the default.

        A resumed run has the ``run_id`` and the ``last_event`` of its journal. ``owner`` is the key for which the run
        works, if it is not the caller's; ``usage`` is the result of `used_before`.
        """
        run = Run(kind, name, caller, run_id, last_event)
        run.reported = usage or run.reported
        run.owner = owner or caller.id
        self._active[run.id] = run
        for event in self._arrivals.pop(run.id, ()):
            event.set()
        limit = self._timeout if timeout == -1 else timeout
        run.task = asyncio.create_task(self._execute(run, work, limit), name=f"{kind} {name} {run.id}")
        run.task.add_done_callback(_retrieve)
        return run

    async def used_before(self, run_id: str, owner: str, began: float) -> Usage:
        """Return the usage of the earlier attempts of a durable run that began at ``began``, from the usage rows."""
        return await self._usage.of_run(run_id, owner, began)

    async def begin(
        self,
        kind: str,
        name: str,
        caller: Principal,
        work: Work,
        *,
        timeout: float | None = -1,
        owner: str | None = None,
    ) -> Run:
        """Call `spawn` for a call from outside. Raise `TooMany` if the caller's key exceeds one of its limits.

        ``owner``: the key that is charged, if a call from outside has already been counted for that key.
        """
        meter = await self.meter(caller) if owner is None else None
        run = self.spawn(kind, name, caller, work, timeout=timeout, owner=owner)
        run.meter = meter
        return run

    async def _execute(self, run: Run, work: Work, limit: float | None) -> Any:
        work_slots.KEY.set(run.owner)
        trace.STEP.set("")
        deadline = None if limit is None else asyncio.get_running_loop().time() + limit

        def emit(event: Event) -> Awaitable[None]:
            if type(event) is Usage:
                run.usage += event  # an app that answers with a Reply reports this usage again at the end
            if run.first_byte_at is None and not isinstance(event, Progressed):
                run.first_byte_at = time.perf_counter()
            return run.log.emit(event)

        if self.telemetry is not None:
            run.spans = self.telemetry
            trace.CURRENT.set(trace.of_run(run.id, within=run.trace))
        try:
            async with asyncio.timeout_at(deadline) as until:
                run.clock.start(deadline, until)
                run.result = await work(RunContext(run, self._registry, emit, self._questions, self.quotas))
        except asyncio.CancelledError:
            run.status = "cancelled"
            run.error = run.revoked or (
                shutting_down().body()
                if self._is_closing
                else ErrorBody("The run was cancelled.", "server_error", "cancelled")
            )
            raise
        except TimeoutError as error:
            within = "the time available to a part of the run" if limit is None else f"{limit:g} s"
            late = DeadlineExceeded(f"'{run.name}' did not finish within {within} and was stopped.")
            run.status, run.error = "failed", late.body()
            raise late from error
        except PorticoError as error:
            run.status, run.error = "failed", error.body()
            raise
        except Exception as error:
            logger.exception("run %s (%s %s) failed", run.id, run.kind, run.name)
            portico_error = PorticoError(
                f"An internal error occurred in Portico; the log has the details under {run.id}."
            )
            run.status, run.error = "failed", portico_error.body()
            raise portico_error from error
        else:
            run.status = "completed"
            if isinstance(run.result, AppOutput | Ranked | ChatReply | Vectors):
                run.usage = run.result.usage
            return run.result
        finally:
            self._end(run)
            # A listener that lags far behind must not delay the end of a run.
            await asyncio.wait([asyncio.ensure_future(self._say_last(run))], timeout=5)

    async def _say_last(self, run: Run) -> None:
        try:
            # a durable run can be resumed, so its questions stay open
            if self._questions is not None and not run.durable:
                await self._questions.end_of_run(run)
        except PorticoError as error:
            logger.error("the questions of run %s remain open: %s", run.id, error.message)
        await run.log.emit(_ending(run))

    async def relay(
        self, servable: Relays, name: str, request: Relay, caller: Principal, *, kind: str = ""
    ) -> RelayResponse:
        """The hot path: relay an OpenAI request to a model and the model's bytes back, with a run and a usage row.

        ``kind`` is the run's kind if it differs from the operation. Raise `TooMany` if the caller's key exceeds one of
        its limits.
        """
        meter = await self.meter(caller)
        run = Run(kind or request.operation, name, caller)
        run.meter = meter
        run.model = _model_name(getattr(servable, "card", None))
        self._active[run.id] = run
        deadline = asyncio.get_running_loop().time() + self._timeout
        context = RunContext(run, self._registry, run.log.emit, self._questions, self.quotas)
        span = self._calling(run, servable, name, request)
        ends_at = ENDS_AT.set(deadline)
        try:
            async with asyncio.timeout_at(deadline) as until:
                run.clock.start(deadline, until)
                if span is None:
                    relay_response = await servable.relay(request, context)
                else:
                    with trace.at(span.trace):
                        relay_response = await servable.relay(request, context)
        except asyncio.CancelledError:
            await self._end_relay(run, "cancelled", span)
            raise
        except TimeoutError as error:
            late = DeadlineExceeded(f"'{name}' did not start to respond within {self._timeout:g} s.")
            run.error = late.body()
            await self._end_relay(run, "failed", span)
            raise late from error
        except PorticoError as error:
            run.error = error.body()
            await self._end_relay(run, "failed", span)
            raise
        except BaseException:
            await self._end_relay(run, "failed", span)
            raise
        finally:
            ENDS_AT.reset(ends_at)
        relay_response.run = run.id
        if relay_response.answered_by:
            run.model = relay_response.answered_by
            other = self._registry.get(run.model, caller)
            if span is not None and other is not None:
                span.answered_by(other.card)
        relay_response.chunks = self._account(run, relay_response, relay_response.chunks, span)
        return relay_response

    async def _account(
        self, run: Run, relay_response: RelayResponse, chunks: AsyncIterator[bytes], span: Span | None
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                if run.first_byte_at is None:
                    run.first_byte_at = time.perf_counter()
                yield chunk
        except GeneratorExit:
            run.status = "cancelled"
            raise
        except asyncio.CancelledError:
            run.status = "cancelled"
            raise
        except PorticoError as error:
            run.status, run.error = "failed", error.body()
            raise
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
            run.usage = relay_response.usage
            await self._end_relay(run, "completed" if run.status == "running" else None, span)

    def _calling(self, run: Run, servable: Relays, name: str, request: Relay) -> Span | None:
        """Return the span of a model call, or ``None`` without telemetry."""
        if self.telemetry is None:
            return None
        root = trace.of_run(run.id, within=run.trace)
        return self.telemetry.begin(name, getattr(servable, "card", None), request, root)

    async def _end_relay(self, run: Run, status: Any, span: Span | None) -> None:
        self._end(run, status)
        if span is not None:
            span.first = None if run.first_byte_at is None else run.first_byte_at - run.started
            span.end(run.usage, run.error)
        await run.log.emit(_ending(run))

    def _end(self, run: Run, status: Any = None) -> None:
        if status is not None:
            run.status = status
        run.finished_at = time.time()
        self._active.pop(run.id, None)
        self._any_end.set()
        self._recent.add(run)
        if self.telemetry is not None:
            self.telemetry.run(run)
        if run.meter is not None:
            run.meter.leave()
        usage = attempt_usage(run)
        meter = self.quotas.of(run.owner)
        if meter is not None:
            meter.spend(max(0, token_count(usage) - token_count(run.charge.usage)))
        now = time.perf_counter()
        if _is_call(run):
            self.answered_at = now
        first = run.first_byte_at
        row = UsageRow(
            run_id=run.id,
            key_id=run.owner,
            name=run.name,
            operation=run.kind,
            status=run.status,  # type: ignore[arg-type]  # it has ended
            error_code=run.error.code if run.error else None,
            created_at=run.created_at,
            milliseconds=(now - run.started - run.clock.waited) * 1e3,
            first_byte_milliseconds=None if first is None else (first - run.started) * 1e3,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cost=usage.cost,
            model=run.model,
        )
        self._usage.add(row)
        for share in run.shares.values():
            if share.usage is not NO_USAGE:
                took = share.usage
                self._usage.add(
                    row._replace(
                        key_id=share.key,
                        prompt_tokens=took.prompt_tokens,
                        completion_tokens=took.completion_tokens,
                        cached_tokens=took.cached_tokens,
                        cost=took.cost,
                    )
                )

    async def revoke(self, owner: str) -> None:
        """End the runs that have the rights of a revoked key."""
        error = Forbidden("The key of this run was revoked or lost scopes.", code="key_revoked").body()
        runs = [
            run
            for run in self._active.values()
            if run.caller.id == owner or (run.owner == owner and not run.durable)
        ]
        for run in runs:
            run.revoked = error
        await asyncio.gather(*(run.cancel() for run in runs))

    async def drain(self) -> None:
        """Wait until the calls for which a caller may wait have ended."""
        while any(_is_call(run) for run in self._active.values()):
            self._any_end.clear()
            await self._any_end.wait()

    async def close(self) -> None:
        """Cancel the active runs and wait for them."""
        self._is_closing = True
        for run in tuple(self._active.values()):
            await run.cancel()
        await self._usage.flush()


def _is_call(run: Run) -> bool:
    """Return whether a caller may wait for the run, and the run does not wait for an answer itself."""
    return not (run.behind or run.durable or run.status == "waiting")


def _model_name(card: Card | None) -> str:
    """Return the name of a model, or an empty string for any other servable."""
    return card.name if card is not None and card.kind == "model" else ""


def _ending(run: Run) -> Finished | Failed:
    """Return the last event of an ended run."""
    if run.error is None and run.status != "completed":
        run.error = ErrorBody(f"The run was {run.status}.", "server_error", run.status)
    return Failed(run.error) if run.error else Finished(plain_result(run.result))


def plain_result(result: Any) -> Any:
    """Return a result as JSON, for `Finished`."""
    if isinstance(result, Vectors):
        return {"dimensions": result.dimensions, "count": len(result.data)}
    if isinstance(result, AppOutput):
        return result.value
    return as_json(result)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark a task's exception as retrieved: the run already contains the error.

    The traceback is dropped, because an ended run can still be read, and the frames would keep all values of the run
    in memory.
    """
    try:
        task.result()
    except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits for the run
        _forget_frames(error)


def _forget_frames(error: BaseException) -> None:
    errors: list[BaseException | None] = [error]
    seen_ids: set[int] = set()
    while errors:
        found_error = errors.pop()
        if found_error is None or id(found_error) in seen_ids:
            continue
        seen_ids.add(id(found_error))
        found_error.__traceback__ = None
        errors += [found_error.__cause__, found_error.__context__, *getattr(found_error, "exceptions", ())]
