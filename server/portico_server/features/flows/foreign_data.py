"""The foreign data on which each step of a flow may depend; see `portico_server.core.origins`.

`trace_data` follows values through the tree of the steps: a step depends on the data in its fields and in the
conditions that decide whether it runs. The result follows from the specification, so a resumed run has the same. Loops
count as depending on all data that they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.origins import MAX_ORIGINS, Origins, origin_of_tool
from portico_server.core.principal import Principal
from portico_server.features.flows import spec
from portico_server.features.flows.expression import (
    Expression,
    ReferenceExpression,
    TemplateExpression,
    walk,
)
from portico_server.features.flows.host import FlowServices
from portico_server.features.flows.spec import FlowStep
from portico_server.features.flows.tree import every, expressions

Marks: TypeAlias = tuple[str, ...]
"""Names of origins, and of the three sources that a run replaces by origins: `CALL`, `INPUT` and `HISTORY`."""

CALL: Final = "\0call"
"""Stands for the data because of which the flow is called."""

INPUT: Final = "\0input"
"""Stands for the data in the flow's input."""

HISTORY: Final = "\0history"
"""Stands for the data in the conversation before the flow's input."""

EARLIER_ANSWER: Final = "an earlier answer"
"""The origin of answers that a client sends again."""

_SOURCES: Final = frozenset({CALL, INPUT, HISTORY})


@dataclass(frozen=True, slots=True)
class StepData:
    """The data on which a step depends. ``control`` is the part that decides whether it runs."""

    marks: Marks
    control: Marks


@dataclass(frozen=True, slots=True)
class _Visible:
    """The data in what a step can refer to, and in the conditions under which it runs."""

    value: Marks = (INPUT,)
    input: Marks = (INPUT,)
    history: Marks = (HISTORY,)
    item: Marks = ()
    state: Marks = ()
    control: Marks = (CALL,)
    names: Mapping[str, Marks] = field(default_factory=dict)

    def approve(self) -> _Visible:
        """Return the view after a person has approved what the flow has read so far."""
        return _Visible((), (), (), (), (), (), {})

    @property
    def marks(self) -> Marks:
        """The data in anything that a step can refer to."""
        return _join(self.value, self.input, self.history, self.item, self.state, *self.names.values())


@dataclass(frozen=True, slots=True)
class _Traced:
    """A step that was traced. ``output``: the data in its output; ``inside``: the data in the step, and so in its
    errors; ``approves``: a person approves each run of it; ``jumps``: an error in it can skip later steps.
    """

    output: Marks
    inside: Marks
    approves: bool = False
    jumps: bool = False


async def sources_of(root: FlowStep, world: FlowServices, caller: Principal) -> dict[str, Origins]:
    """Return the origins of the foreign data that each step itself reads, by the location of the step."""
    calls = _ReadingCalls(world, caller)
    return {step.at: await calls.origins(step, set()) for step in every(root)}


class _ReadingCalls:
    """Knows which of the tools and apps that a caller can call read foreign data."""

    def __init__(self, world: FlowServices, caller: Principal) -> None:
        self._world = world
        self._caller = caller
        self._readers: dict[str, bool] = {}

    async def origins(self, step: FlowStep, visited: set[str]) -> Origins:
        """Return the origins of the foreign data that a step reads. ``visited``: the apps that need no other visit."""
        match step.op:
            case spec.RetrieveStep(stores=stores):
                return tuple(f"store {store}" for store in stores)
            case spec.ToolStep(name=name):
                return () if await self._is_computed(name) else (origin_of_tool(name),)
            case spec.HttpStep():
                return (origin_of_tool("http_request"),)
            case spec.ClientStep(function=function):
                return (origin_of_tool(function),)
            case spec.AgentStep(name=name, agent=agent) if agent is not None:
                reads = bool(agent.keys() & {"tools", "stores", "agents", "memory"})
                return (f"agent {name}",) if reads else ()
            case spec.AgentStep(name=name):
                return (f"agent {name}",) if await self._reads(name, visited) else ()
            case (
                spec.LlmStep(model=name)
                | spec.IntentStep(model=name, embedding="")
                | spec.SubflowStep(app=name)
            ) if name:
                return (f"app {name}",) if await self._reads(name, visited) else ()
        return ()

    async def _is_computed(self, tool: str) -> bool:
        try:
            servable = await self._world.registry.resolve(f"tool/{tool}", self._caller)
        except PorticoError:
            return False
        return servable.card.labels.get("computed") is True

    async def _reads(self, name: str, visited: set[str]) -> bool:
        """Return whether the answers of a model or app can contain foreign data. A flow reads what its steps read."""
        if name in visited:
            return False  # the first visit finds what it reads
        if not visited and name in self._readers:
            return self._readers[name]
        is_first = not visited
        visited.add(name)
        reads = await self._reads_unvisited(name, visited)
        if is_first:
            self._readers[name] = reads
        return reads

    async def _reads_unvisited(self, name: str, visited: set[str]) -> bool:
        try:
            servable = await self._world.registry.resolve(name, self._caller)
            if servable.card.kind != "app":
                return False
            flow = (await self._world.app(name, self._caller)).flow
        except PorticoError:
            return True
        if flow is None:
            return True
        for step in every(flow.step):
            if await self.origins(step, visited):
                return True
        return False


def trace_data(root: FlowStep, sources: Mapping[str, Origins]) -> Mapping[str, StepData]:
    """Return the data on which the steps that call something depend, by location.

    ``sources``: the origins of the data that each step reads, by location.
    """
    tracer = _Tracer(sources)
    tracer.step(root, _Visible())
    return tracer.steps


class _Tracer:
    def __init__(self, sources: Mapping[str, Origins]) -> None:
        self._sources = sources
        self.steps: dict[str, StepData] = {}

    def step(self, step: FlowStep, view: _Visible) -> _Traced:
        """Trace a step and all steps inside it."""
        if step.when is not None:
            view = replace(view, control=_join(view.control, self._marks(step.when, view)))
        if step.input is not None:
            view = replace(view, value=self._marks(step.input, view))
        traced = self._op(step, view)
        inside = _join(traced.inside, view.control)
        output = traced.output if traced.approves else _join(traced.output, view.control)
        if step.when is not None:
            output = _join(output, view.control)
        jumps = traced.jumps
        if step.on_error is not None:
            error_view = replace(view, value=inside)
            replacement = step.on_error.value
            output = _join(output, inside if replacement is None else self._marks(replacement, error_view))
            output = _join(output, inside)  # the data can choose between the output and its replacement
            jumps = jumps or bool(step.on_error.goto)
        is_certain = step.when is None and step.on_error is None and step.cache is None
        return _Traced(output, _join(inside, output), traced.approves and is_certain, jumps)

    def _op(self, step: FlowStep, view: _Visible) -> _Traced:
        match step.op:
            case spec.PipelineStep() as op:
                return self._pipeline(op, view)
            case (
                spec.ParallelStep(steps=steps, collect=collect)
                | spec.DiverterStep(steps=steps, collect=collect)
            ):
                # The steps run at the same time: an approval comes after what was read before all of them.
                traced = _together([self.step(child, view) for child in steps])
                approves = traced.approves and not collect
                return replace(traced, output=traced.inside if collect else traced.output, approves=approves)
            case spec.WarpStep() as op:
                return self._warp(op, view)
            case spec.SwitchStep(on=on, cases=cases, default=default):
                conditions = [on, *(part for case in cases for part in (case.equals, case.when) if part)]
                branches = [*(case.step for case in cases), *([default] if default else [])]
                return self._choice(conditions, branches, view)
            case spec.BranchStep(condition=condition, then=then, otherwise=None):
                traced = self._choice([condition], [then], view)
                output = _join(traced.output, view.value, self._marks(condition, view))
                return replace(traced, output=output, approves=False)
            case spec.BranchStep(condition=condition, then=then, otherwise=FlowStep() as otherwise):
                return self._choice([condition], [then, otherwise], view)
            case spec.LoopStep() as op:
                return self._loop(op, view)
            case spec.GraphStep() as op:
                return self._graph(op, view)
            case spec.SubflowStep(step=FlowStep() as inner):
                inner_view = _Visible(view.value, view.value, (), (), (), view.control, {})
                return self.step(inner, inner_view)
        return self._leaf(step, view)

    def _leaf(self, step: FlowStep, view: _Visible) -> _Traced:
        around = {id(part) for part in (step.input, step.when, step.on_error and step.on_error.value)}
        marks = [self._marks(part, view) for part in expressions(step) if id(part) not in around]
        match step.op:
            case spec.LlmStep(user=None, messages=None) | spec.SubflowStep() | spec.EmitStep():
                marks.append(view.value)
        if getattr(step.op, "history", None) is not None:
            marks.append(view.history)
        depends = _join(view.control, *marks)
        self.steps[step.at] = StepData(depends, view.control)
        if isinstance(step.op, spec.ApproveStep):
            return _Traced((), _join(depends, view.value), approves=True)
        output = _join(depends, self._sources.get(step.at, ()))
        return _Traced(output, output)

    def _pipeline(self, op: spec.PipelineStep, view: _Visible) -> _Traced:
        names = dict(view.names)
        inside: Marks = ()
        approves = jumps = False
        for child in op.steps:
            traced = self.step(child, view)
            jumps = jumps or traced.jumps
            inside = _join(inside, traced.inside)
            if traced.approves and not jumps:
                view, names, approves = view.approve(), {}, True
            names[child.name] = traced.output
            is_replaced = child.when is None and not jumps
            new_value = traced.output if is_replaced else _join(view.value, traced.output)
            control = _join(view.control, traced.inside) if traced.jumps else view.control
            view = replace(view, value=new_value, control=control, names=names)
        output = view.value if op.output is None else self._marks(op.output, view)
        return _Traced(output, inside, approves and not jumps, jumps)

    def _warp(self, op: spec.WarpStep, view: _Visible) -> _Traced:
        over = self._marks(op.over, view)
        control = _join(view.control, over)
        traced = self.step(op.step, replace(view, value=over, item=over, control=control))
        output = traced.output if traced.approves else _join(traced.output, over)
        output = _join(output, traced.inside) if op.collect else output
        return _Traced(output, _join(traced.inside, over), jumps=traced.jumps)

    def _choice(
        self, conditions: Iterable[Expression], branches: Iterable[FlowStep], view: _Visible
    ) -> _Traced:
        chosen_by = _join(*(self._marks(condition, view) for condition in conditions))
        view = replace(view, control=_join(view.control, chosen_by))
        branch_traces = [self.step(branch, view) for branch in branches]
        traced = _together(branch_traces)
        return replace(
            traced,
            inside=_join(traced.inside, chosen_by),
            approves=all(branch.approves for branch in branch_traces),
        )

    def _loop(self, op: spec.LoopStep, view: _Visible) -> _Traced:
        first_state = () if op.state is None else self._marks(op.state, view)
        reads = _join(*(self._sources.get(inner.at, ()) for inner in every(op.step)))
        around = _join(view.marks, first_state, reads)
        control = view.control if op.until is None else _join(view.control, around)
        traced = self.step(op.step, replace(view, value=around, state=around, control=control))
        output = _join(traced.output, around) if op.step.when is not None else traced.output
        return replace(traced, output=output, inside=_join(traced.inside, around))

    def _graph(self, op: spec.GraphStep, view: _Visible) -> _Traced:
        names = dict(view.names)
        steps = {child.name: child for child in op.steps}
        traces = []
        for name in op.order:
            traced = self.step(steps[name], replace(view, names=names))
            names[name] = traced.output
            traces.append(traced)
        output = self._marks(op.output, replace(view, names=names))
        return replace(_together(traces), output=output)

    def _marks(self, expression: Expression, view: _Visible) -> Marks:
        """Return the data in the value of an expression."""
        return _join(*self._references(expression, view))

    def _references(self, expression: Expression, view: _Visible) -> Iterator[Marks]:
        for part in walk(expression):
            match part:
                case ReferenceExpression(root="steps", step=name):
                    yield view.names.get(name, ())
                case ReferenceExpression(root="index"):
                    yield view.item
                case ReferenceExpression(root=root):
                    yield getattr(view, root)
                case TemplateExpression(variables=None):
                    yield view.value


def _together(traces: list[_Traced]) -> _Traced:
    """Return the trace of steps of which some run, at the same time or not."""
    return _Traced(
        _join(*(traced.output for traced in traces)),
        _join(*(traced.inside for traced in traces)),
        any(traced.approves for traced in traces),
        any(traced.jumps for traced in traces),
    )


def origins_in(marks: Marks) -> Origins:
    """Return the origins that a flow itself reads."""
    return tuple(mark for mark in marks if mark not in _SOURCES)


def _join(*groups: Iterable[str]) -> Marks:
    """Return each mark once: all sources, and as many origins as are named."""
    marks = dict.fromkeys(mark for group in groups for mark in group)
    origins = [mark for mark in marks if mark not in _SOURCES][:MAX_ORIGINS]
    return (*(mark for mark in marks if mark in _SOURCES), *origins)


def has_answers(input_value: Any, history: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a conversation, or the conversation in an input, contains earlier answers."""
    messages = input_value.get("messages") if isinstance(input_value, dict) else None
    earlier = [*history, *(messages if isinstance(messages, list) else ())]
    return any(
        isinstance(message, dict) and message.get("role") in ("assistant", "tool") for message in earlier
    )
