"""Runs flows: immediately and in memory, or durably, so that a flow resumes from its journal after a crash."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from portico.wire import Usage
from portico_server.core import pools
from portico_server.core.binding import BOUND, binding
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.ids import new_id
from portico_server.core.interfaces import Evaluator
from portico_server.core.json_size import MIN_LARGE_PARTS_COUNT, has_parts
from portico_server.core.origins import INPUT_ORIGINS, ORIGINS, join_origins
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import AppInput, Filter, Message
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card
from portico_server.db import runs, steps
from portico_server.db.apps import AppRow
from portico_server.db.database import Database
from portico_server.db.runs import RunRow
from portico_server.db.steps import StepRow
from portico_server.features.flows import read
from portico_server.features.flows.app import FlowApp
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.flows.check import check
from portico_server.features.flows.execute import Execution
from portico_server.features.flows.feature import KIND
from portico_server.features.flows.foreign_data import origins_in, sources_of, trace_data
from portico_server.features.flows.host import FlowServices, InlineAgents, ServedFunctions
from portico_server.features.flows.journals import FlowJournals
from portico_server.features.flows.leaf import SAFE_METHODS
from portico_server.features.flows.spec import AgentStep, ClientStep, FlowSpec, HttpStep, ToolStep
from portico_server.features.flows.tree import certain, every, names
from portico_server.features.flows.undeployed import UndeployedFlow
from portico_server.runs.enclosing_step import AROUND, EnclosingStep, durable_step, enclosed
from portico_server.runs.journal import InnerJournal, Journal
from portico_server.runs.recording import RecordedApp, Recording
from portico_server.runs.redaction import NO_RULES, Redaction, RedactionRules
from portico_server.runs.run import Run, RunContext
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.turn_steps import place_of_flow

CALLED: Final = "called"
"""Key in a run's payload that stores the arguments with which a flow was called. It is set if the run stores the
flow's steps.
"""


class StartedFlow(dict[str, Any]):
    """The payload of a durable run, with the flow already parsed. In a payload from the database, the flow must be
    parsed first.
    """

    def __init__(self, read: FlowSpec, /, **fields: Any) -> None:
        super().__init__(fields)
        self.read = read


class Flows:
    """Begins, resumes and forks runs of flows, and finds their steps.

    The payload of a durable run contains the flow, its input and the history, so the run does not depend on the app
    from which it was started.
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

    async def read(self, spec: Any, caller: Principal) -> FlowSpec:
        """Parse a flow from JSON and check the whole flow. Raise `InvalidRequest` for the first error."""
        flow = await self._read(spec, caller.id)
        await check(flow, self._registry, caller, self.world)
        return flow

    async def _read(self, spec: Any, key: str) -> FlowSpec:
        """Parse a specification. A large specification takes tenths of a second, so it is parsed outside the event
        loop.
        """
        if has_parts(spec, MIN_LARGE_PARTS_COUNT):
            return await pools.DOCUMENTS.run_for(key, read.flow, spec)
        return read.flow(spec)

    async def _read_stored(self, payload: Mapping[str, Any], key: str) -> FlowSpec:
        """Return the flow of a durable run that is resumed."""
        return replace(await self._read(payload["flow"], key), owner=payload.get("owner", ""))

    async def check(self, name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """Check a flow; part of `portico_server.features.apps.deployed.AppKind`."""
        await self.read({**spec, "name": name}, caller)

    def unserved(self, flow: FlowSpec, caller: Principal) -> list[str]:
        """Return a sentence about each step that calls a client function which no worker currently serves for the
        caller.
        """
        found_names = []
        for step in every(flow.step):
            if isinstance(step.op, ClientStep) and not self.world.served.has(step.op.function, caller):
                advice = (
                    "a call is refused"
                    if flow.durability == "off"
                    else f"a run in the background waits for the function, {step.op.limit:g} s at most, and a "
                    "call is refused"
                )
                found_names.append(
                    f"The step '{step.name}' calls the function '{step.op.function}', which no worker "
                    f"currently serves: run portico serve FILE.py:{flow.name}, or client.serve(…). Until "
                    f"then {advice}."
                )
            elif (
                isinstance(step.op, AgentStep) and step.op.agent is not None and self.world.agents is not None
            ):
                found_names += self.world.agents.inline_unserved(step.op.agent, caller)
        return found_names

    async def warnings(self, flow: FlowSpec, caller: Principal) -> list[str]:
        """Return a sentence about each function that no worker serves, and each step whose calls ask a person."""
        return [*self.unserved(flow, caller), *await self._asking(flow, caller)]

    async def _asking(self, flow: FlowSpec, caller: Principal) -> list[str]:
        """Return a sentence about each step that acts on foreign data."""
        step_data = trace_data(flow.step, await sources_of(flow.step, self.world, caller))
        sentences = []
        for step in every(flow.step):
            match step.op:
                case ToolStep(name=name) | ClientStep(function=name):
                    pass
                case HttpStep(method=method) if method not in SAFE_METHODS:
                    name = "http_request"
                case _:
                    continue
            origins = origins_in(step_data[step.at].marks)
            servable = self._registry.get(f"tool/{name}", caller) if origins else None
            if servable is None or servable.card.labels.get("on_data") == "allow":
                continue
            if servable.card.labels.get("read_only") is True:
                continue  # only a call with an address that the flow has not read asks
            outcome = "is refused" if servable.card.labels.get("on_data") == "refuse" else "asks a person"
            rule = (
                "tool_approval: never"
                if servable.card.labels.get("source") == "built-in"
                else f"approval: never on '{name}'"
            )
            sentences.append(
                f"The step '{step.name}' acts on data of {'; '.join(origins)}, so each call {outcome}: put an approve "
                f"step before it, or set {rule}."
            )
        return sentences

    async def refuse_unserved(self, name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """Raise `Conflict` if a flow to deploy calls a client function that no worker currently serves."""
        flow = await self._read({**spec, "name": name}, caller.id)
        for step in every(flow.step):
            if isinstance(step.op, ClientStep) and not self.world.served.has(step.op.function, caller):
                raise Conflict(
                    f"'{name}' calls the function '{step.op.function}', which no client currently serves, so "
                    f"it cannot answer. Serve it first (portico serve FILE.py:{name}, or client.serve(…)), "
                    "or deploy with 'serve_later': true (--serve-later).",
                    code="not_served",
                    param=f"{step.at}.function",
                )

    def require_served(
        self, flow: FlowSpec, caller: Principal, answered_functions: frozenset[str] | None = frozenset()
    ) -> None:
        """Raise `Unavailable` if a run could reach a function that no worker currently serves. Called before any step
        runs.

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
        """Build a flow; part of `portico_server.features.apps.deployed.AppKind`."""
        flow = replace(read.flow({**spec, "name": name}), owner=row.owner)
        created_at = int(row.created_at)
        return FlowApp(flow, self, owner=row.owner, created_at=created_at, version=row.version, id=row.id)

    async def undeployed(self, spec: Any, caller: Principal) -> UndeployedFlow:
        """Return the flow of a recording for a replay. Raises `InvalidRequest` if the flow is invalid."""
        return UndeployedFlow(replace(await self.read(spec, caller), owner=caller.id), self)

    def execution(
        self,
        flow: FlowSpec,
        context: Context,
        *,
        counts_usage: bool = False,
        answered_functions: frozenset[str] | None = frozenset(),
    ) -> Execution:
        """Return the execution of a flow within a run, without a journal on disk. ``counts_usage``: whether the flow's
        usage is reported to the run.

        ``answered_functions``: see `Execution`.
        """
        journal = self.journals.in_memory(context.run)
        around = AROUND.get()
        # The nonce distinguishes calls that are never repeated: an evaluation calls one flow for many items
        # in a single run.
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
        # A step of another flow calls this flow. The other flow's journal is that of the run, and records the
        # calling step as a whole.
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
        card: Card | None = None,
    ) -> Run:
        """Begin a run of a checked flow. Raise `InvalidRequest` if the input does not match its schema.

        ``answered_functions``: see `Execution`. ``card`` is the card of a deployed flow.
        """
        run = await self._begin(flow, value, caller, history, answered_functions)
        if not history:
            app = RecordedApp(flow.name, spec=flow.source) if card is None else RecordedApp.of(card)
            run.recording = Recording(app, AppInput(value), flow.redact)
        return run

    async def _begin(
        self,
        flow: FlowSpec,
        value: Any,
        caller: Principal,
        history: Sequence[Message],
        answered_functions: frozenset[str] | None,
    ) -> Run:
        if flow.input_schema is not None:
            await self.world.fits(flow.input_schema, value, "The input")
        # The execution itself applies the flow's time limit, which pauses while the run waits for an answer.
        if flow.durability == "off":
            self.require_served(flow, caller, answered_functions)
            return await self._runner.begin(
                KIND,
                flow.name,
                caller,
                lambda context: self.execution(
                    flow, context, counts_usage=True, answered_functions=answered_functions
                ).run(value, history),
                timeout=None if flow.timeout is not None else -1,
            )
        payload = self._payload(flow, value, history, answered_functions)
        meter = await self._runner.meter(caller)
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
        """Record which objects the names in a flow currently refer to. A name that refers to no object yet is bound at
        its first use.
        """
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
        """Raise `InvalidRequest` if an input contains data that must not be recorded, because a run cannot be resumed
        without its input.
        """
        redaction = Redaction(self._rules)
        redaction.add(flow.redact)
        if redaction.active and redaction.of(input_value) is not input_value:
            raise InvalidRequest(
                f"The input of '{flow.name}' contains data that must not be recorded, and a durable run is "
                'resumed from its recorded input. Give the flow "durability": "off", or let a step fetch the '
                "secret.",
                code="redacted_input",
                param="input",
            )

    async def call(
        self, flow: FlowSpec, context: Context, value: Any, history: Sequence[Message] = ()
    ) -> tuple[Any, Execution]:
        """Return the output of a flow that is called by name, and its execution.

        If the flow is durable and the run was started for this flow, the run is stored as a row from now on. If a run
        that stores its steps calls a flow, the flow continues from its stored steps, in the version of the first call.
        """
        run = self._runner.get(context.run)
        if run is not None and not (run.durable or run.behind):
            self.require_served(flow, context.caller)
        if flow.durability != "off" and run is not None and run.keeps_steps:
            run.keeps_steps = False  # later calls in this run are not calls of its main flow
            return await self._within(flow, run, context, value, history)
        outermost = isinstance(context, RunContext) and context.depth == 0
        if flow.durability == "off" or not outermost or run is None or run.durable:
            around = durable_step(context.run)
            if around is not None and around.journal is not None:
                return await self._find_called(flow, around, around.journal, context, value, history)
            execution = self.execution(flow, context)
            return await execution.run(value, history), execution
        if flow.input_schema is not None:
            await self.world.fits(flow.input_schema, value, "The input")
        payload = self._payload(flow, value, history, frozenset())
        origins = join_origins(ORIGINS.get(), INPUT_ORIGINS.get())
        if origins:
            payload["origins"] = list(origins)
        with binding():
            await self._bind(flow, context.caller)
            row = await self._scheduler.adopt(run, KIND, flow.name, payload, full=flow.durability == "full")
        BOUND.set(self._scheduler.names(row))
        with self.journals.durable(flow.durability, run.id) as journal:
            execution = Execution(flow, context, journal, self.world, answered_functions=frozenset())
            output = await execution.run(value, history)
        run.output = (output,)
        return output, execution

    async def _find_called(
        self,
        flow: FlowSpec,
        around: EnclosingStep,
        outer: Journal,
        context: Context,
        value: Any,
        history: Sequence[Message],
    ) -> tuple[Any, Execution]:
        """Run a flow that is called within a step of a durable run, possibly by an agent. The flow's steps are stored
        below that step.
        """
        arguments = {"input": value, "history": list(history)}
        place = await place_of_flow(around, outer, flow.name, flow.source, arguments)
        journal = InnerJournal(outer, self._rules)
        path = f"{place}.{flow.step.name}"
        if outer.failure(around.path) is not None and outer.failure(path) is None:
            await outer.forget(place)  # the calling step could not use the flow's output
        execution = Execution(
            flow, context, journal, self.world, path=path, turn=around.turn, answered_functions=frozenset()
        )
        output = await execution.run(value, history)
        outer.replayed += journal.replayed
        return output, execution

    async def _within(
        self, flow: FlowSpec, run: Run, context: Context, value: Any, history: Sequence[Message]
    ) -> tuple[Any, Execution]:
        """Run a flow whose steps are stored as steps of the calling durable run."""
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
            flow = await self._read_stored(payload, context.caller.id)
            step_rows = await self._database.read(steps.finished_steps, run.id)
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
        """Return the payload from which a durable run can be resumed. Raise `InvalidRequest` if the input must not be
        recorded.
        """
        self._recordable(flow, [value, *history])
        functions = None if answered_functions is None else sorted(answered_functions)
        return StartedFlow(
            flow, flow=flow.source, owner=flow.owner, input=value, history=list(history), functions=functions
        )

    @asynccontextmanager
    async def turn(self, name: str, context: Context) -> AsyncIterator[Callable[[Usage], None]]:
        """Run the block as a turn of the agent ``name``, the only step of a durable run. Calls that an earlier attempt
        recorded are not repeated.

        The yielded function must be called with the usage of the turn.
        """
        finished_steps = await self._database.read(steps.finished_steps, context.run)
        budget = self.world.budget.fresh("" if context.caller.admin else context.caller.id)
        started_at, clock = time.time(), time.perf_counter()
        with self.journals.durable("normal", context.run, finished_steps) as journal:

            def record_end(usage: Usage) -> None:
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
                    yield record_end
                await journal.wait_until_written()
            finally:
                budget.release()
                await journal.wait_until_idle()

    async def work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Execute a durable run, from the beginning or from where it stopped."""
        flow = (
            payload.read
            if isinstance(payload, StartedFlow)
            else await self._read_stored(payload, context.caller.id)
        )
        finished_steps = await self._database.read(steps.finished_steps, context.run)
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
            with ScopedValue(ORIGINS, join_origins(ORIGINS.get(), payload.get("origins", ()))):
                return await execution.run(payload["input"], payload.get("history") or ())

    async def resume(self, run_id: str, caller: Principal, *, start: str = "") -> RunRow:
        """Resume a run that has ended: after its last finished step, or from the step ``start`` on.

        Raise `Conflict` if the run has not ended, or `NotFound` if the run or the step does not exist.
        """
        row = await self._ended_run(run_id, caller)
        payload: dict[str, Any] | None = None
        if start:
            await self._database.write(steps.forget, run_id, await self._from(run_id, start))
            # Repeated steps are new effects, so they need new keys.
            payload = {**row.payload, "turn": row.payload.get("turn", 0) + 1}
        if not await self._scheduler.again(row, caller, payload):
            raise Conflict(f"The run '{run_id}' has not ended.", code="run_not_ended", param="id")
        return row

    async def fork(
        self, run_id: str, caller: Principal, *, start: str = "", value: Any = None, new_input: bool = False
    ) -> Run:
        """Start a new run based on a run that has ended. With ``new_input``, it uses another input; otherwise it
        reuses all steps before ``start``.
        """
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
        run.reported = None  # the original run already reported the usage of the reused steps
        return run

    async def _ended_run(self, run_id: str, caller: Principal) -> RunRow:
        row = await self._database.read(runs.get, run_id)
        if row is None or row.kind != KIND or not caller.sees(row.owner):
            raise _unknown(run_id)
        if row.finished_at is None:
            raise Conflict(f"The run '{run_id}' has not ended.", code="run_not_ended", param="id")
        return row

    async def _from(self, run_id: str, start: str) -> list[str]:
        """Return the paths of the step ``start``, given by its path or its last part, and of all steps that ended
        after this step began.
        """
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
    """Return whether a step is inside another step."""
    return path.startswith(outer) and path[len(outer) : len(outer) + 1] in (".", "[", "#")


def _unknown(run_id: str) -> NotFound:
    return NotFound(
        f"No durable run of a flow has the id '{run_id}'. Flows are durable if they set \"durability\": "
        '"normal".',
        code="run_not_found",
        param="id",
    )
