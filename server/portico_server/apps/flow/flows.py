"""Runs flows: at once and in memory, or durably, from their journal after a crash."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from portico.wire import Usage
from portico_server.apps.flow import read
from portico_server.apps.flow.app import FlowApp
from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.check import check
from portico_server.apps.flow.execute import Execution
from portico_server.apps.flow.host import FlowServices, InlineAgents, ServedFunctions
from portico_server.apps.flow.journals import FlowJournals
from portico_server.apps.flow.spec import AgentStep, ClientStep, FlowSpec
from portico_server.apps.flow.tree import certain, every, names
from portico_server.core import pools
from portico_server.core.binding import BOUND, binding
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.ids import new_id
from portico_server.core.interfaces import Evaluator
from portico_server.core.json_size import MIN_LARGE_PARTS_COUNT, has_parts
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Filter, Message
from portico_server.db import runs, steps
from portico_server.db.apps import AppRow
from portico_server.db.database import Database
from portico_server.db.runs import RunRow
from portico_server.db.steps import StepRow
from portico_server.runs.enclosing_step import AROUND, EnclosingStep, durable_step, enclosed
from portico_server.runs.journal import InnerJournal, Journal
from portico_server.runs.redaction import NO_RULES, Redaction, RedactionRules
from portico_server.runs.run import Run, RunContext
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.turn_steps import place_of_flow

KIND: Final = "flow"

CALLED: Final = "called"
"""Under which name the payload of a run that keeps the steps of a flow holds what the flow was called with."""

MAX_RUNNING_FLOWS: Final = 10_000
"""Flows that run at once; those that wait for somebody do not count."""


class StartedFlow(dict[str, Any]):
    """What a durable run is taken up with, and the flow as it was read; what comes from the database has to be read."""

    def __init__(self, read: FlowSpec, /, **fields: Any) -> None:
        super().__init__(fields)
        self.read = read


class Flows:
    """Begins, resumes and forks runs of flows, and knows their steps.

    The payload of a durable run holds the flow, its input and the history: what it needs, whatever becomes of the app
    that it was begun by.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        evaluator: Evaluator,
        filters: Callable[[Any, str], Filter],
        rules: RedactionRules = NO_RULES,
        budget: ValueBudget | None = None,
        agents: InlineAgents | None = None,
        address: str = "",
    ) -> None:
        self.address = address
        self._database = database
        self._registry = registry
        self._runner = runner
        self._scheduler = scheduler
        self._rules = rules
        self.world = FlowServices(
            registry,
            evaluator,
            filters,
            ServedFunctions(registry),
            database,
            budget or ValueBudget(),
            agents,
        )
        self.journals = FlowJournals(database, runner, scheduler, rules)
        scheduler.handle(KIND, self._work, concurrency=MAX_RUNNING_FLOWS, is_shared=True, is_owned=True)

    async def read(self, spec: Any, caller: Principal) -> FlowSpec:
        """A flow from its JSON, checked as a whole. Raises `InvalidRequest` that names what is wrong first."""
        flow = await self._read(spec, caller.id)
        await check(flow, self._registry, caller, self.world)
        return flow

    async def _read(self, spec: Any, key: str) -> FlowSpec:
        """The flow that a specification says; a large one takes tenths of a second, but not on the event loop."""
        if has_parts(spec, MIN_LARGE_PARTS_COUNT):
            return await pools.DOCUMENTS.run_for(key, read.flow, spec)
        return read.flow(spec)

    async def _kept(self, payload: Mapping[str, Any], key: str) -> FlowSpec:
        """The flow of a durable run that is taken up."""
        return replace(await self._read(payload["flow"], key), owner=payload.get("owner", ""))

    async def check(self, name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """`portico_server.apps.deployed.Check` of flows."""
        await self.read({**spec, "name": name}, caller)

    def unserved(self, flow: FlowSpec, caller: Principal) -> list[str]:
        """The functions of clients that the flow needs and nobody serves the caller just now, by the steps that call
        them.
        """
        found_names = []
        for step in every(flow.step):
            if isinstance(step.op, ClientStep) and not self.world.served.has(step.op.function, caller):
                advice = (
                    "a call is refused"
                    if flow.durability == "off"
                    else f"a run in the background waits for it, {step.op.limit:g} s at most, and a call is refused"
                )
                found_names.append(
                    f"The step '{step.name}' calls the function '{step.op.function}', which nobody serves just now: "
                    f"portico serve FILE.py:{flow.name} does, or client.serve(…). Until then {advice}."
                )
            elif (
                isinstance(step.op, AgentStep) and step.op.agent is not None and self.world.agents is not None
            ):
                found_names += self.world.agents.inline_unserved(step.op.agent, caller)
        return found_names

    async def refuse_unserved(self, name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """Raise `Conflict` if a flow that is to be deployed has a function of a client that nobody serves just now."""
        flow = await self._read({**spec, "name": name}, caller.id)
        for step in every(flow.step):
            if isinstance(step.op, ClientStep) and not self.world.served.has(step.op.function, caller):
                raise Conflict(
                    f"'{name}' calls the function '{step.op.function}', which no client serves now, so that it cannot "
                    f"answer. Serve it first (portico serve FILE.py:{name}, or client.serve(…)), or deploy with "
                    "'serve_later': true (--serve-later).",
                    code="not_served",
                    param=f"{step.at}.function",
                )

    def require_served(
        self, flow: FlowSpec, caller: Principal, answered_functions: frozenset[str] | None = frozenset()
    ) -> None:
        """Raise `Unavailable` if a run would reach a function that nobody serves just now, before anything is done.

        ``answered_functions``: see `Execution`.
        """
        for step in certain(flow.step):
            op = step.op
            if (
                isinstance(op, ClientStep)
                and answered_functions is not None
                and op.function not in answered_functions
            ):
                self.world.served.require(op.function, caller, app=flow.name)

    def build(self, name: str, spec: Mapping[str, Any], row: AppRow) -> FlowApp:
        """`portico_server.apps.deployed.Build` of flows."""
        flow = replace(read.flow({**spec, "name": name}), owner=row.owner)
        created_at = int(row.created_at)
        return FlowApp(flow, self, owner=row.owner, created_at=created_at, version=row.version, id=row.id)

    def execution(
        self,
        flow: FlowSpec,
        context: Context,
        *,
        counts_usage: bool = False,
        answered_functions: frozenset[str] | None = frozenset(),
    ) -> Execution:
        """The execution of a flow within a run that keeps no journal on disk. ``counts_usage``: its usage is the run's.

        ``answered_functions``: see `Execution`.
        """
        journal = self.journals.in_memory(context.run)
        around = AROUND.get()
        # Of a call that is begun again by nobody: an evaluation calls one flow for many items in one run.
        above = around.journal if around is not None else None
        journal.nonce = new_id("call_") if above is None else above.nonce
        if around is None:
            self.journals.remember(context.run, journal)
            return Execution(
                flow,
                context,
                journal,
                self.world,
                counts_usage=counts_usage,
                answered_functions=answered_functions,
            )
        # It is called by a step of a flow: that one's journal is the run's, and it has the step as a whole.
        path, turn = around.place(flow.step.name), around.turn
        return Execution(
            flow, context, journal, self.world, path=path, turn=turn, answered_functions=answered_functions
        )

    async def begin(
        self,
        flow: FlowSpec,
        value: Any,
        caller: Principal,
        history: Sequence[Message] = (),
        *,
        answered_functions: frozenset[str] | None = frozenset(),
    ) -> Run:
        """Begin a run of a flow that was checked. Raises `InvalidRequest` if the input is not as its schema says.

        ``answered_functions``: see `Execution`.
        """
        if flow.input_schema is not None:
            await self.world.fits(flow.input_schema, value, "The input")
        # The execution itself knows the flow's limit, which stands still while somebody is asked.
        if flow.durability == "off":
            self.require_served(flow, caller, answered_functions)
            return self._runner.begin(
                KIND,
                flow.name,
                caller,
                lambda context: self.execution(
                    flow, context, counts_usage=True, answered_functions=answered_functions
                ).run(value, history),
                timeout=None if flow.timeout is not None else -1,
            )
        payload = self._payload(flow, value, history, answered_functions)
        meter = self._runner.meter(caller)
        try:
            with binding():
                await self._bind(flow, caller)
                run = await self._scheduler.begin(
                    KIND, flow.name, payload, caller, full=flow.durability == "full"
                )
        except BaseException:
            if meter is not None:
                meter.leave()
            raise
        run.meter = meter
        return run

    async def _bind(self, flow: FlowSpec, caller: Principal) -> None:
        """Note what the names of a flow mean now. One that means nothing yet is bound when it is first used."""
        inline = [step.op.agent for step in every(flow.step) if isinstance(step.op, AgentStep)]
        called_names = [
            name
            for agent in inline
            if agent is not None and self.world.agents is not None
            for name in self.world.agents.inline_names(agent)
        ]
        for key in dict.fromkeys((*names(flow.step), *called_names)):
            with suppress(PorticoError):
                await self._registry.resolve(key, caller)

    def _recordable(self, flow: FlowSpec, input_value: Any) -> None:
        """Raise `InvalidRequest` if an input must not be recorded, without which no run can be taken up again."""
        redaction = Redaction(self._rules)
        redaction.add(flow.redact)
        if redaction.active and redaction.of(input_value) is not input_value:
            raise InvalidRequest(
                f"The input of '{flow.name}' holds something that must not be recorded, and a durable run is taken up "
                'from its recorded input. Give the flow "durability": "off", or let a step fetch what is secret.',
                code="redacted_input",
                param="input",
            )

    async def call(
        self, flow: FlowSpec, context: Context, value: Any, history: Sequence[Message] = ()
    ) -> tuple[Any, Execution]:
        """What a flow that is called by its name gives, and how it was done.

        If it is durable, and what the run was begun for, a row stands for the run from here on. One that a run calls
        which keeps its steps continues from these, as it was when it was called first.
        """
        run = self._runner.get(context.run)
        if run is not None and not (run.durable or run.behind):
            self.require_served(flow, context.caller)
        if flow.durability != "off" and run is not None and run.keeps_steps:
            run.keeps_steps = False  # what is called after it is not this flow
            return await self._within(flow, run, context, value, history)
        outermost = isinstance(context, RunContext) and context.depth == 0
        if flow.durability == "off" or not outermost or run is None or run.durable:
            around = durable_step(context.run)
            if around is not None and around.journal is not None:
                return await self._called(flow, around, around.journal, context, value, history)
            execution = self.execution(flow, context)
            return await execution.run(value, history), execution
        if flow.input_schema is not None:
            await self.world.fits(flow.input_schema, value, "The input")
        payload = self._payload(flow, value, history, frozenset())
        with binding():
            await self._bind(flow, context.caller)
            row = await self._scheduler.adopt(run, KIND, flow.name, payload, full=flow.durability == "full")
        BOUND.set(self._scheduler.names(row))
        with self.journals.durable(flow.durability, run.id) as journal:
            execution = Execution(flow, context, journal, self.world, answered_functions=frozenset())
            output = await execution.run(value, history)
        run.output = (output,)
        return output, execution

    async def _called(
        self,
        flow: FlowSpec,
        around: EnclosingStep,
        outer: Journal,
        context: Context,
        value: Any,
        history: Sequence[Message],
    ) -> tuple[Any, Execution]:
        """A flow that is called within a step of a durable run, by an agent perhaps: its steps stand below that."""
        arguments = {"input": value, "history": list(history)}
        place = await place_of_flow(around, outer, flow.name, flow.source, arguments)
        journal = InnerJournal(outer, self._rules)
        path = f"{place}.{flow.step.name}"
        if outer.failure(around.path) is not None and outer.failure(path) is None:
            await outer.forget(place)  # the step could not use what it gave
        execution = Execution(
            flow, context, journal, self.world, path=path, turn=around.turn, answered_functions=frozenset()
        )
        output = await execution.run(value, history)
        outer.replayed += journal.replayed
        return output, execution

    async def _within(
        self, flow: FlowSpec, run: Run, context: Context, value: Any, history: Sequence[Message]
    ) -> tuple[Any, Execution]:
        """A flow whose steps are those of the durable run that calls it."""
        row = await self._database.read(runs.get, run.id)
        payload = row.payload.get(CALLED) if row is not None else None
        if payload is None:
            if flow.input_schema is not None:
                await self.world.fits(flow.input_schema, value, "The input")
            payload = self._payload(flow, value, history, frozenset())
            await self._bind(flow, context.caller)
            await self._database.write(runs.extend_payload, run.id, {CALLED: payload})
            step_rows: Sequence[StepRow] = ()
        else:
            flow = await self._kept(payload, context.caller.id)
            step_rows = await self._database.read(steps.finished, run.id)
        with self.journals.durable(flow.durability, run.id, step_rows) as journal:
            execution = Execution(flow, context, journal, self.world, answered_functions=frozenset())
            return await execution.run(payload["input"], payload["history"]), execution

    def _payload(
        self,
        flow: FlowSpec,
        value: Any,
        history: Sequence[Message],
        answered_functions: frozenset[str] | None,
    ) -> StartedFlow:
        """What a durable run is taken up with. Raises `InvalidRequest` if the rules forbid to record it."""
        self._recordable(flow, [value, *history])
        functions = None if answered_functions is None else sorted(answered_functions)
        return StartedFlow(
            flow, flow=flow.source, owner=flow.owner, input=value, history=list(history), functions=functions
        )

    @asynccontextmanager
    async def turn(self, name: str, context: Context) -> AsyncIterator[Callable[[Usage], None]]:
        """Within it the turn of the agent ``name`` is the only step of a durable run: calls that an attempt before this
        one has recorded are not made again. What it gives is told what the turn has used.
        """
        finished_steps = await self._database.read(steps.finished, context.run)
        budget = self.world.budget.fresh("" if context.caller.admin else context.caller.id)
        started_at, clock = time.time(), time.perf_counter()
        with self.journals.durable("normal", context.run, finished_steps) as journal:

            def ended(usage: Usage) -> None:
                row = StepRow(
                    name,
                    journal.next(),
                    "agent",
                    "completed",
                    started_at=started_at,
                    milliseconds=(time.perf_counter() - clock) * 1e3,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cached_tokens=usage.cached_tokens,
                    cost=usage.cost,
                )
                journal.add(row, is_announced=False)

            try:
                with enclosed(EnclosingStep(name, journal=journal, take=budget.take)):
                    yield ended
                await journal.settled()
            finally:
                budget.release()
                await journal.drained()

    async def _work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """A durable run, from the beginning or from where it stopped."""
        flow = (
            payload.read if isinstance(payload, StartedFlow) else await self._kept(payload, context.caller.id)
        )
        finished_steps = await self._database.read(steps.finished, context.run)
        functions = payload.get("functions")
        with self.journals.durable(flow.durability, context.run, finished_steps) as journal:
            execution = Execution(
                flow,
                context,
                journal,
                self.world,
                turn=payload.get("turn", 0),
                counts_usage=True,
                answered_functions=None if functions is None else frozenset(functions),
            )
            return await execution.run(payload["input"], payload.get("history") or ())

    async def resume(self, run_id: str, caller: Principal, *, start: str = "") -> RunRow:
        """Go on with a run that has ended: behind its last finished step, or from the step ``start`` on.

        Raises `Conflict` if it has not ended, `NotFound` if there is no such run or step.
        """
        row = await self._ended(run_id, caller)
        payload: dict[str, Any] | None = None
        if start:
            await self._database.write(steps.forget, run_id, await self._from(run_id, start))
            # What they do now is wanted once more: it goes out under another key.
            payload = {**row.payload, "turn": row.payload.get("turn", 0) + 1}
        if not await self._scheduler.again(row, caller, payload):
            raise Conflict(f"The run '{run_id}' has not ended.", code="run_not_ended", param="id")
        return row

    async def fork(
        self, run_id: str, caller: Principal, *, start: str = "", value: Any = None, new_input: bool = False
    ) -> Run:
        """A new run like this one: with another input if ``again``, else with all steps before ``start`` done."""
        row = await self._database.read(runs.get, run_id)
        if row is None or row.kind != KIND or not caller.sees(row.owner):
            raise _unknown(run_id)
        payload = {**row.payload, "turn": 0, **({"input": value} if new_input else {})}
        flow = await self._read(payload["flow"], caller.id)
        if new_input and flow.input_schema is not None:
            await self.world.fits(flow.input_schema, value, "The input")
        if new_input:
            self._recordable(flow, value)
        kept_paths: list[str] = []
        if start:
            redone = set(await self._from(run_id, start))
            kept_paths = [step.path for step in await self.journals.steps(run_id) if step.path not in redone]
        write = partial(steps.fork, source=run_id, paths=kept_paths)
        with binding(row.bound):
            run = await self._scheduler.begin(KIND, row.name, payload, caller, write=write)
        run.reported = None  # by the run that it is a copy of
        return run

    async def _ended(self, run_id: str, caller: Principal) -> RunRow:
        row = await self._database.read(runs.get, run_id)
        if row is None or row.kind != KIND or not caller.sees(row.owner):
            raise _unknown(run_id)
        if row.finished_at is None:
            raise Conflict(f"The run '{run_id}' has not ended.", code="run_not_ended", param="id")
        return row

    async def _from(self, run_id: str, start: str) -> list[str]:
        """The paths of a step, by path or by its end, and of all that ended after it began."""
        rows = await self._database.read(steps.of_run, run_id)
        matching_rows = [row for row in rows if row.path == start or row.path.endswith(f".{start}")]
        if not matching_rows:
            step_paths = [row.path for row in rows]
            raise NotFound(
                f"The run '{run_id}' has no step '{start}'.{nearest(start, step_paths)}",
                code="step_not_found",
                param="from",
            )
        first = min(row.seq for row in matching_rows)
        return [
            row.path
            for row in rows
            if row.seq >= first
            or any(
                _within(row.path, row_found.path) or _within(row_found.path, row.path)
                for row_found in matching_rows
            )
        ]


def _within(path: str, outer: str) -> bool:
    """Whether a step lies below another one."""
    return path.startswith(outer) and path[len(outer) : len(outer) + 1] in (".", "[", "#")


def _unknown(run_id: str) -> NotFound:
    return NotFound(
        f'There is no durable run of a flow \'{run_id}\'. Flows are durable if they say so: "durability": "normal".',
        code="run_not_found",
        param="id",
    )
