"""The executor of all flows, durable or not.

A step's path consists of the names that lead to the step, with the iteration in brackets and, from the second attempt
on, the attempt after ``#``: ``story.chapters[3].draft``. Steps whose path is in the journal are not repeated.
Combinators are executed again and find their steps in the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson

from portico.wire import AnswerClaim, Passage, StepFinished, StepStarted, Usage
from portico_server.core import trace
from portico_server.core.addresses import SEEN_ADDRESSES
from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded, InvalidRequest, PorticoError
from portico_server.core.interfaces import require_code
from portico_server.core.origins import INPUT_ORIGINS, ORIGINS, Origins, join_origins
from portico_server.core.scoped_value import ScopedValue
from portico_server.db.steps import StepRow, step_usage
from portico_server.features.flows import record
from portico_server.features.flows.addresses import FlowAddresses
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.flows.combine import COMBINATORS
from portico_server.features.flows.expression import CodeExpression, Expression, arguments, named_arguments
from portico_server.features.flows.foreign_data import (
    CALL,
    EARLIER_ANSWER,
    HISTORY,
    INPUT,
    Marks,
    StepData,
    has_answers,
    sources_of,
    trace_data,
)
from portico_server.features.flows.host import FlowServices
from portico_server.features.flows.jump import JumpToStep
from portico_server.features.flows.leaf import LEAVES
from portico_server.features.flows.note import NO_USAGE, StepNote
from portico_server.features.flows.scope import SKIPPED, Scope
from portico_server.features.flows.spec import EFFECTS, FlowSpec, FlowStep, HttpStep, RetrieveStep, ToolStep
from portico_server.features.flows.step_errors import as_value, at_step, retryable
from portico_server.runs.enclosing_step import EnclosingStep, enclosed
from portico_server.runs.journal import Journal, effect_key, specified
from portico_server.runs.run import LIMITS_WITHIN, Deadline

_MAKES_VALUES: Final = frozenset({"pipeline", "graph", "parallel", "diverter"})
"""Combinators whose output may differ from the outputs of their steps."""

MAX_RETRY_S: Final = 300.0
"""Maximum wait between two attempts, in seconds."""


class Execution:
    """One run of one flow. ``usage`` and ``citations`` cover all steps that have run so far.

    ``replays``: whether outputs in the journal are reused. ``turn`` counts how often the run was asked to repeat steps
    that had ended: a repeated step is a new effect, with a new key. ``answered_functions``: the client functions that
    the client listening to the run executes; ``None`` for all functions that no worker serves. Workers execute all
    other functions.
    """

    def __init__(
        self,
        flow: FlowSpec,
        context: Context,
        journal: Journal,
        world: FlowServices,
        *,
        voices: frozenset[str] | None = None,
        replays: bool = True,
        path: str = "",
        turn: int = 0,
        counts_usage: bool = False,
        answered_functions: frozenset[str] | None = None,
        budget: ValueBudget | None = None,
    ) -> None:
        self.flow = flow
        self._path = path or flow.step.name
        self.context = context
        self.journal = journal
        self.world = world
        self.voices = flow.voices if voices is None else voices
        self.turn = turn
        self.usage = Usage()
        self.citations: tuple[Passage, ...] = ()
        self.claims: tuple[AnswerClaim, ...] = ()
        self.spoken = False
        """True once a step has streamed text of the flow's answer to the listener."""
        self._replays = replays and journal.resumed
        self._counts_usage = counts_usage
        self.answered = answered_functions
        self._clock = Deadline()
        self._step_data: Mapping[str, StepData] | None = None
        self._earlier_answers: Origins = ()
        self.addresses = FlowAddresses(flow, SEEN_ADDRESSES.get())
        self.budget = budget or world.budget.fresh("" if context.caller.admin else context.caller.id)
        journal.redaction.add(flow.redact)

    async def run(self, value: Any, history: Sequence[Mapping[str, Any]] = ()) -> Any:
        """Return the output of the flow for an input. If a step fails, raise `PorticoError` that names the step."""
        try:
            await self.budget.take_value(value, "The input")
            return await self.within(value, self._path, history)
        finally:
            self.budget.release()
            await self.journal.wait_until_idle()

    async def within(self, value: Any, path: str, history: Sequence[Mapping[str, Any]] = ()) -> Any:
        """Return the output of a flow that runs as part of another flow, with its steps under ``path``."""
        caller, owner = self.context.caller, self.flow.owner
        with specified(caller.id if owner == "" else owner, caller):
            return await self._within(value, path, history)

    async def _within(self, value: Any, path: str, history: Sequence[Mapping[str, Any]]) -> Any:
        flow = self.flow
        if flow.code:
            require_code(self.context.caller, flow.code)
        if flow.input_schema is not None:
            await self.world.fits(flow.input_schema, value, "The input")
        if self.journal.redaction.active:
            self.journal.redaction.of(
                [value, *history]
            )  # so that the redaction recognises these values from now on
        await self.budget.compute(self.budget.require, value, "The input")
        self._earlier_answers = (EARLIER_ANSWER,) if has_answers(value, history) else ()
        if not (self._earlier_answers or ORIGINS.get() or INPUT_ORIGINS.get()):
            self.addresses.read(value)
        scope = Scope(None, value, input=value, history=list(history), budget=self.budget)
        try:
            if flow.timeout is None:
                result = await self.step(flow.step, scope, path)
            else:
                result = await self._limited(flow.timeout, scope, path)
        except JumpToStep as jump:  # cannot happen: the check ensures that the target step exists
            raise InvalidRequest(
                f"The step '{jump.step}' to continue with does not exist.", code="unknown_step"
            ) from jump
        await self.journal.wait_until_written()
        result = None if result is SKIPPED else result
        if flow.output_schema is not None:
            await self.world.fits(flow.output_schema, result, "The output")
        return result

    async def _limited(self, seconds: float, scope: Scope, path: str) -> Any:
        """Run the whole flow within its own time limit. The limit pauses while the run waits for an answer."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline) as until:
                self._clock.start(deadline, until)
                with ScopedValue(LIMITS_WITHIN, (*LIMITS_WITHIN.get(), self._clock)):
                    return await self.step(self.flow.step, scope, path)
        except TimeoutError as error:
            if not until.expired():
                raise
            raise DeadlineExceeded(
                f"The flow '{self.flow.name}' did not finish within {seconds:g} s and was stopped."
            ) from error

    async def step(self, step: FlowStep, scope: Scope, path: str) -> Any:
        """Run a step, or reuse its output from the journal. Return its output, or `SKIPPED`."""
        journal = self.journal
        if self._replays:
            finished_step = journal.find(path)
            if finished_step is not None:
                return self._again(step, scope, finished_step)
        if step.when is not None and not await self.truth(step.when, scope):
            await journal.record(record.skipped_row(journal, step, path))
            return SKIPPED
        if step.input is not None:
            scope = Scope(scope, await self.value(step.input, scope))
        await (
            self.budget.give_way()
        )  # before the step, not after it: inner steps begin before any of them ends
        effect = step.kind in EFFECTS
        if effect and journal.durable:
            # everything before an effect must be stored, so that a repetition makes an identical
            # request
            await journal.wait_until_written()
        await self.context.emit(StepStarted(path))
        note = StepNote(path)
        started_at, clock = time.time(), time.perf_counter()
        try:
            value = await (self._once if step.plain else self._guarded)(step, scope, path, note)
        except PorticoError as error:
            note.milliseconds = (time.perf_counter() - clock) * 1e3
            value = await self._record_failure(step, scope, note, started_at, at_step(error, path))
        else:
            note.milliseconds = (time.perf_counter() - clock) * 1e3
            await self.record_end(step, scope, note, started_at, settle=effect)
        self._read_addresses(step, value)
        if step.save and value is not SKIPPED:
            scope.state[step.save] = value
        return value

    def _read_addresses(self, step: FlowStep, value: Any) -> None:
        """Note the addresses in the output of a step that reads."""
        match step.op:
            case RetrieveStep() | HttpStep():
                self.addresses.read(value)
            case ToolStep(name=name):
                servable = self.world.registry.get(f"tool/{name}", self.context.caller)
                if servable is not None and not servable.card.is_composed:
                    self.addresses.read(value)

    def _again(self, step: FlowStep, scope: Scope, step_row: StepRow) -> Any:
        """Return the result that a step had in an earlier attempt of this run."""
        self._replay(step_row)
        if step_row.status == "skipped":
            return SKIPPED
        value = orjson.loads(step_row.output or b"null")
        if step_row.status == "failed" and step.on_error is not None and step.on_error.goto:
            raise JumpToStep(step.on_error.goto, value)
        self._read_addresses(step, value)
        if step.save:
            scope.state[step.save] = value
        return value

    async def collected(self, step: FlowStep, scope: Scope, path: str) -> Any:
        """Run a step as `step` does, but turn an error into the output ``{"error": {...}}``."""
        if self._replays:
            failed_step = self.journal.failure(path)
            if failed_step is not None:
                self._replay(failed_step)
                return {"error": orjson.loads(failed_step.error or b"{}")}
        try:
            return await self.step(step, scope, path)
        except PorticoError as error:
            return {"error": as_value(error)}

    def _replay(self, step_row: StepRow) -> None:
        """Add the usage of a step in an earlier attempt to the usage of this run."""
        usage = step_usage(step_row)
        self.usage += usage
        if self.journal.is_inner:
            self.journal.replayed += usage

    def find_step(self, path: str) -> StepRow | None:
        """Return the recorded step at ``path``, or ``None`` if no earlier attempt of this run finished it."""
        return self.journal.find(path) if self._replays else None

    async def inner(
        self, flow: FlowSpec, value: Any, context: Context, path: str, *, is_streamed: bool
    ) -> Any:
        """Return the output of another flow that runs as part of this flow, with its steps under ``path``."""
        part = Execution(
            flow,
            context,
            self.journal,
            self.world,
            voices=flow.voices if is_streamed else frozenset(),
            replays=self._replays,
            turn=self.turn,
            # the other flow is deployed: the client listening to the run does not know its functions
            answered_functions=frozenset(),
            budget=self.budget,
        )
        try:
            return await part.within(value, path)
        finally:
            self.spoken = self.spoken or part.spoken
            self.citations = part.citations or self.citations
            self.claims = part.claims or self.claims
            await self.spend(part.usage)

    async def _once(self, step: FlowStep, scope: Scope, path: str, note: StepNote) -> Any:
        leaf = LEAVES.get(step.kind)
        if leaf is not None:
            with trace.at_step(self.context.run, note.path):
                if step.kind in EFFECTS:
                    with enclosed(EnclosingStep(note.path, self.turn, path, self.journal, self.budget.take)):
                        value = note.keep(await leaf(self, step.op, step, scope, path, note))
                else:
                    value = note.keep(await leaf(self, step.op, step, scope, path, note))
            self.budget.take(len(note.text or b""), path)
            return value
        value = await COMBINATORS[step.kind](self, step.op, step, scope, path, note)
        if (
            note.text is None
            and value is not SKIPPED
            and (step.input is not None or step.kind in _MAKES_VALUES)
        ):
            await self.budget.take_value(value, path)
        return value

    async def _guarded(self, step: FlowStep, scope: Scope, path: str, note: StepNote) -> Any:
        """Run a step with its cache, its time limit and its retries."""
        key = ""
        if step.cache is not None:
            key = await self.world.cache_key(step, scope, self.context.caller)
            cached_text = await self.world.cached(key, self.context)
            if cached_text is not None:
                note.hit = True
                return note.keep(orjson.loads(cached_text))
        value = await self._attempts(step, scope, path, note)
        if value is SKIPPED:
            return value
        if step.output_schema is not None:
            await self.world.fits(step.output_schema, value, f"The output of the step {path}")
        if step.cache is not None:
            redaction = self.journal.redaction
            is_secret = redaction.active and redaction.of(value) is not value
            if not is_secret:
                await self.world.keep(key, orjson.dumps(value).decode(), step.cache, self.context)
        return value

    async def _attempts(self, step: FlowStep, scope: Scope, path: str, note: StepNote) -> Any:
        retry = step.retry
        delay = retry.delay if retry else 0.0
        if retry is not None and self._replays:
            note.attempt = self.journal.attempt(path)
        first = note.attempt
        while True:
            failure: PorticoError
            try:
                async with asyncio.timeout(step.timeout) as until:
                    inner = path if note.attempt == 1 else f"{path}#{note.attempt}"
                    return await self._once(step, scope, inner, note)
            except TimeoutError as error:
                if not until.expired():
                    raise
                failure = DeadlineExceeded(f"The step did not finish within {step.timeout:g} s.")
                failure.__cause__ = error
            except PorticoError as error:
                failure = error
            if (
                retry is None
                or note.attempt - first >= retry.times
                or note.spoke
                or not retryable(failure, retry.on)
            ):
                raise failure
            note.attempt += 1
            await asyncio.sleep(min(failure.retry_after or delay, MAX_RETRY_S))
            delay = min(delay * retry.factor, MAX_RETRY_S)

    async def record_end(
        self, step: FlowStep, scope: Scope, note: StepNote, started_at: float, *, settle: bool = False
    ) -> None:
        """Record and announce that a step has finished successfully."""
        if note.usage is not NO_USAGE:
            await self.spend(note.usage)
        journal = self.journal
        journal.add(record.completed(journal, step, scope, note, started_at), settle=settle)
        if settle or journal.ahead:
            await journal.wait_until_written()
        await self.context.emit(StepFinished(note.path, note.milliseconds))

    async def record_ends(self, rows: Sequence[StepRow]) -> None:
        """Record and announce many items of a step that began together, as `record_end` does for a single step."""
        journal, emit = self.journal, self.context.emit
        for row in rows:
            journal.add(row)
            await emit(StepStarted(row.path))
            await emit(StepFinished(row.path, row.milliseconds))
        if journal.ahead:
            await journal.wait_until_written()

    async def _record_failure(
        self, step: FlowStep, scope: Scope, note: StepNote, started_at: float, error: PorticoError
    ) -> Any:
        """Record that a step has failed. Return the output that replaces its own, or raise the error again."""
        await self.budget.give_way()
        instead: Any = None
        text: str | None = None
        portico_error = error
        if step.on_error is not None:
            try:
                instead = note.keep(await self._instead(step, scope, error))
                text = (note.text or b"null").decode()
            except PorticoError as worse:
                portico_error = at_step(worse, note.path)
        await self.spend(note.usage)
        row = record.failed_row(self.journal, step, scope, note, started_at, as_value(portico_error), text)
        await self.journal.record(row, settle=text is not None)
        await self.context.emit(StepFinished(note.path, note.milliseconds, portico_error.message))
        if text is None:
            raise portico_error from error
        assert step.on_error is not None
        if step.on_error.goto:
            raise JumpToStep(step.on_error.goto, instead)
        return instead

    async def _instead(self, step: FlowStep, scope: Scope, error: PorticoError) -> Any:
        """Return the output that the step's ``on_error`` defines for an error, or raise the error."""
        assert step.on_error is not None
        error_scope = {"error": as_value(error)}
        if step.on_error.value is None:
            return error_scope
        return await self.value(step.on_error.value, Scope(scope, error_scope))

    async def origins(self, step: FlowStep) -> tuple[Origins, Origins]:
        """Return the origins of the foreign data on which a step may depend, and of the part that decides whether it
        runs.
        """
        if self._step_data is None:
            sources = await sources_of(self.flow.step, self.world, self.context.caller)
            self._step_data = trace_data(self.flow.step, sources)
        step_data = self._step_data[step.at]
        return self._as_origins(step_data.marks), self._as_origins(step_data.control)

    def _as_origins(self, marks: Marks) -> Origins:
        in_run = {
            CALL: ORIGINS.get(),
            INPUT: (*INPUT_ORIGINS.get(), *self._earlier_answers),
            HISTORY: self._earlier_answers,
        }
        return join_origins(*(in_run.get(mark, (mark,)) for mark in marks))

    async def spend(self, usage: Usage) -> None:
        """Count the usage of a call, and report it to the run."""
        if usage.prompt_tokens or usage.completion_tokens:
            self.usage += usage
            if self._counts_usage:
                await self.context.emit(usage)

    @contextmanager
    def pause_limit(self) -> Iterator[None]:
        """Pause the flow's own time limit within the block."""
        self._clock.stop()
        try:
            yield
        finally:
            self._clock.go_on()

    def key(self, path: str) -> str:
        """Return the key of an effect of the step at ``path``. If the step is repeated, the effect has the same key."""
        return effect_key(self.context.run, self.turn, path, self.journal.nonce)

    async def value(self, expression: Expression, scope: Scope) -> Any:
        """Return the value of an expression, which may be code."""
        if isinstance(expression, CodeExpression):
            return await self.call(expression, scope)
        return await self.budget.compute(expression.of, scope)

    async def truth(self, expression: Expression, scope: Scope) -> bool:
        """Return whether a condition is true."""
        return bool(await self.value(expression, scope))

    async def call(self, code: CodeExpression, scope: Scope) -> Any:
        """Call a function in the sandbox."""
        args = await self.budget.compute(arguments, code.args, scope)
        kwargs = await self.budget.compute(named_arguments, code.kwargs, scope)
        return await self.world.evaluator.evaluate(code.source, args, kwargs)
