"""The combinators: which inputs their steps get, in which order the steps run, and what becomes of their outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.features.flows.concurrent import each_of
from portico_server.features.flows.expression import Expression, are_equal
from portico_server.features.flows.host import StepHost, deeper
from portico_server.features.flows.join import join_outputs
from portico_server.features.flows.jump import JumpToStep
from portico_server.features.flows.leaf import ask, asking, call_app
from portico_server.features.flows.note import StepNote
from portico_server.features.flows.scope import SKIPPED, Scope
from portico_server.features.flows.spec import (
    BranchStep,
    DiverterStep,
    FlowStep,
    GraphStep,
    LoopStep,
    ParallelStep,
    PipelineStep,
    SubflowStep,
    SwitchStep,
    WarpStep,
)
from portico_server.features.flows.sweep import can_sweep, sweep
from portico_server.runs.journal import for_trace

Combinator = Callable[[StepHost, Any, FlowStep, Scope, str, StepNote], Awaitable[Any]]


async def _pipeline(
    host: StepHost, op: PipelineStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    inner = Scope(scope, scope.value)
    goal = ""
    for child in op.steps:
        if goal and child.name != goal:
            inner.names[child.name] = SKIPPED
            continue
        goal = ""
        try:
            value = await host.step(child, inner, f"{path}.{child.name}")
        except JumpToStep as jump:
            goal, value = jump.step, jump.value
        inner.names[child.name] = value
        if value is not SKIPPED:
            inner.value = value
    if goal:
        raise JumpToStep(goal, inner.value)
    return inner.value if op.output is None else await host.value(op.output, inner)


async def _parallel(
    host: StepHost, op: ParallelStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        child = op.steps[number]
        return await do(child, Scope(scope, scope.value), f"{path}.{child.name}")

    outputs = await each_of(host, len(op.steps), op.concurrency, work)
    names = [child.name for child in op.steps]
    return await host.budget.compute(join_outputs, op.join, op.separator, names, outputs, path, host.budget)


async def _diverter(
    host: StepHost, op: DiverterStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    names = [child.name for child in op.steps]
    items_value = scope.value
    if isinstance(items_value, dict) and set(names) == set(items_value):
        items_value = [items_value[name] for name in names]
    if not isinstance(items_value, list) or len(items_value) != len(names):
        raise InvalidRequest(
            f"A diverter passes one item to each of its {len(names)} steps: its input must be a list of "
            f"{len(names)}, or an object with the keys {', '.join(names)}.",
            code="type_clash",
            param=path,
        )
    items = items_value
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        child = op.steps[number]
        return await do(child, Scope(scope, items[number]), f"{path}.{child.name}")

    outputs = await each_of(host, len(names), op.concurrency, work)
    return await host.budget.compute(join_outputs, op.join, op.separator, names, outputs, path, host.budget)


async def _warp(host: StepHost, op: WarpStep, step: FlowStep, scope: Scope, path: str, note: StepNote) -> Any:
    items = await host.value(op.over, scope)
    if not isinstance(items, list):
        raise InvalidRequest(
            "A warp iterates over a list, but its input is not a list. Set 'over' to a reference to a list.",
            code="type_clash",
            param=path,
        )

    if can_sweep(op.step) and len(items) > 1:
        results = await sweep(host, op, scope, path, items)
        return await host.budget.compute(host.budget.require, results, path)
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        inner = Scope(scope, items[number])
        inner.item, inner.index = items[number], number
        value = await do(op.step, inner, f"{path}[{number}].{op.step.name}")
        return None if value is SKIPPED else value

    outputs = await each_of(host, len(items), op.concurrency, work)
    return await host.budget.compute(host.budget.require, outputs, path)


def _equals(expression: Expression, scope: Scope, value: Any) -> bool:
    return are_equal(expression.of(scope), value)


async def _switch(
    host: StepHost, op: SwitchStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    value = await host.value(op.on, scope)
    for case in op.cases:
        if case.when is not None:
            fits = await host.truth(case.when, scope)
        else:
            assert case.equals is not None
            fits = await host.budget.compute(_equals, case.equals, scope, value)
        if fits:
            return await host.step(case.step, Scope(scope, scope.value), f"{path}.{case.step.name}")
    if op.default is not None:
        return await host.step(op.default, Scope(scope, scope.value), f"{path}.{op.default.name}")
    raise InvalidRequest(
        f"No case of the switch matches {for_trace(value)}; add a 'default'.", code="no_case", param=path
    )


async def _branch(
    host: StepHost, op: BranchStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    flow_step = op.then if await host.truth(op.condition, scope) else op.otherwise
    if flow_step is None:
        return scope.value
    return await host.step(flow_step, Scope(scope, scope.value), f"{path}.{flow_step.name}")


async def _loop(host: StepHost, op: LoopStep, step: FlowStep, scope: Scope, path: str, note: StepNote) -> Any:
    value = scope.value
    first = await host.value(op.state, scope) if op.state is not None else {}
    state = dict(first) if isinstance(first, dict) else {"value": first}
    for number in range(op.limit):
        inner = Scope(scope, value)
        inner.index, inner.state = number, state
        output = await host.step(op.step, inner, f"{path}[{number}].{op.step.name}")
        if output is not SKIPPED:
            value = output
        after = Scope(scope, value)
        after.index, after.state = number, state
        after.names[op.step.name] = value
        if op.until is not None and await host.truth(op.until, after):
            return value
    if op.until is not None and op.exhausted == "fail":
        raise InvalidRequest(
            f"The loop's condition was not met after {op.limit} rounds.", code="loop_exhausted", param=path
        )
    return value


async def _graph(
    host: StepHost, op: GraphStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    inner = Scope(scope, scope.value)
    events = {child.name: asyncio.Event() for child in op.steps}
    slots = asyncio.Semaphore(op.concurrency or len(op.steps))
    steps = {child.name: child for child in op.steps}

    async def work(number: int) -> None:
        # no step waits for a step that is later in this order, so even few workers suffice
        child = steps[op.order[number]]
        for name in op.after[child.name]:
            await events[name].wait()
        async with slots:
            inner.names[child.name] = await host.step(
                child, Scope(inner, scope.value), f"{path}.{child.name}"
            )
        events[child.name].set()

    await each_of(host, len(op.order), 0, work)
    return await host.value(op.output, inner)


async def _subflow(
    host: StepHost, op: SubflowStep, step: FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    if op.step is not None:
        alone = Scope(None, scope.value, input=scope.value, budget=scope.budget)
        return await host.step(op.step, alone, f"{path}.{op.step.name}")
    app = await host.world.app(op.app, host.context.caller)
    if app.flow is None:
        reply = await ask(host, op.app, asking(scope.value), step, note)
        # the app counts as a single step of this flow; its recorded answer is reused on repetition
        return note.keep(reply.content)
    # The other flow runs as part of this flow: its steps are stored in the same journal.
    below = f"{path}.{app.flow.step.name}"
    context = deeper(host.context, op.app)
    async with call_app(host, step):
        return await host.inner(app.flow, scope.value, context, below, is_streamed=step.at in host.voices)


COMBINATORS: Mapping[str, Combinator] = {
    "pipeline": _pipeline,
    "parallel": _parallel,
    "diverter": _diverter,
    "warp": _warp,
    "switch": _switch,
    "branch": _branch,
    "loop": _loop,
    "graph": _graph,
    "subflow": _subflow,
}
