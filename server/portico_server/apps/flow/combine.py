"""The combinators: what flows into their steps, in which order these run, and what becomes of the outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from portico_server.apps.flow.expression import same
from portico_server.apps.flow.gather import each
from portico_server.apps.flow.host import Host
from portico_server.apps.flow.join import joined
from portico_server.apps.flow.jump import Jump
from portico_server.apps.flow.leaf import ask, asking
from portico_server.apps.flow.note import Note
from portico_server.apps.flow.scope import SKIPPED, Scope
from portico_server.apps.flow.spec import (
    Branch,
    Diverter,
    Graph,
    Loop,
    Parallel,
    Pipeline,
    Step,
    Subflow,
    Switch,
    Warp,
)
from portico_server.apps.flow.sweep import sweep, sweepable
from portico_server.apps.flow.world import deeper
from portico_server.core.errors import InvalidRequest
from portico_server.runs.journal import for_trace

Combinator = Callable[[Host, Any, Step, Scope, str, Note], Awaitable[Any]]


async def _pipeline(host: Host, op: Pipeline, step: Step, scope: Scope, path: str, note: Note) -> Any:
    inner = Scope(scope, scope.value)
    goal = ""
    for child in op.steps:
        if goal and child.name != goal:
            inner.names[child.name] = SKIPPED
            continue
        goal = ""
        try:
            value = await host.step(child, inner, f"{path}.{child.name}")
        except Jump as jump:
            goal, value = jump.step, jump.value
        inner.names[child.name] = value
        if value is not SKIPPED:
            inner.value = value
    if goal:
        raise Jump(goal, inner.value)
    return inner.value if op.output is None else await host.value(op.output, inner)


async def _parallel(host: Host, op: Parallel, step: Step, scope: Scope, path: str, note: Note) -> Any:
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        child = op.steps[number]
        return await do(child, Scope(scope, scope.value), f"{path}.{child.name}")

    outputs = await each(len(op.steps), op.concurrency, work)
    return joined(op.join, op.separator, [child.name for child in op.steps], outputs, path, host.budget)


async def _diverter(host: Host, op: Diverter, step: Step, scope: Scope, path: str, note: Note) -> Any:
    names = [child.name for child in op.steps]
    given = scope.value
    if isinstance(given, dict) and set(names) == set(given):
        given = [given[name] for name in names]
    if not isinstance(given, list) or len(given) != len(names):
        raise InvalidRequest(
            f"A diverter hands one item to each of its {len(names)} steps: what flows in must be a list of "
            f"{len(names)}, or an object with the keys {', '.join(names)}.",
            code="type_clash",
            param=path,
        )
    items = given
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        child = op.steps[number]
        return await do(child, Scope(scope, items[number]), f"{path}.{child.name}")

    outputs = await each(len(names), op.concurrency, work)
    return joined(op.join, op.separator, names, outputs, path, host.budget)


async def _warp(host: Host, op: Warp, step: Step, scope: Scope, path: str, note: Note) -> Any:
    items = await host.value(op.over, scope)
    if not isinstance(items, list):
        raise InvalidRequest(
            "A warp goes over a list; something else flows in. Give 'over' a reference to a list.",
            code="type_clash",
            param=path,
        )

    if sweepable(op.step) and len(items) > 1:
        return host.budget.require(await sweep(host, op, scope, path, items), path)
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        inner = Scope(scope, items[number])
        inner.item, inner.index = items[number], number
        value = await do(op.step, inner, f"{path}[{number}].{op.step.name}")
        return None if value is SKIPPED else value

    return host.budget.require(await each(len(items), op.concurrency, work), path)


async def _switch(host: Host, op: Switch, step: Step, scope: Scope, path: str, note: Note) -> Any:
    value = await host.value(op.on, scope)
    for case in op.cases:
        if case.when is not None:
            fits = await host.truth(case.when, scope)
        else:
            assert case.equals is not None
            fits = same(case.equals.of(scope), value)
        if fits:
            return await host.step(case.step, Scope(scope, scope.value), f"{path}.{case.step.name}")
    if op.default is not None:
        return await host.step(op.default, Scope(scope, scope.value), f"{path}.{op.default.name}")
    raise InvalidRequest(
        f"No case of the switch fits {for_trace(value)}; give it a 'default'.", code="no_case", param=path
    )


async def _branch(host: Host, op: Branch, step: Step, scope: Scope, path: str, note: Note) -> Any:
    chosen = op.then if await host.truth(op.condition, scope) else op.otherwise
    if chosen is None:
        return scope.value
    return await host.step(chosen, Scope(scope, scope.value), f"{path}.{chosen.name}")


async def _loop(host: Host, op: Loop, step: Step, scope: Scope, path: str, note: Note) -> Any:
    value = scope.value
    first = op.state.of(scope) if op.state is not None else {}
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
            f"The loop's condition did not hold after {op.limit} rounds.", code="loop_exhausted", param=path
        )
    return value


async def _graph(host: Host, op: Graph, step: Step, scope: Scope, path: str, note: Note) -> Any:
    inner = Scope(scope, scope.value)
    ended = {child.name: asyncio.Event() for child in op.steps}
    room = asyncio.Semaphore(op.concurrency or len(op.steps))

    async def work(number: int) -> None:
        child = op.steps[number]
        for name in op.after[child.name]:
            await ended[name].wait()
        async with room:
            inner.names[child.name] = await host.step(
                child, Scope(inner, scope.value), f"{path}.{child.name}"
            )
        ended[child.name].set()

    await each(len(op.steps), 0, work)
    return await host.value(op.output, inner)


async def _subflow(host: Host, op: Subflow, step: Step, scope: Scope, path: str, note: Note) -> Any:
    if op.step is not None:
        alone = Scope(None, scope.value, input=scope.value, budget=scope.budget)
        return await host.step(op.step, alone, f"{path}.{op.step.name}")
    app = await host.world.app(op.app, host.context.caller)
    if app.flow is None:
        reply = await ask(host, op.app, asking(scope.value), step, note)
        return note.keep(reply.content)  # it is one step to us, and is not asked again
    # A flow runs within ours: its steps stand in the same journal, and are found there.
    below = f"{path}.{app.flow.step.name}"
    context = deeper(host.context, op.app)
    return await host.inner(app.flow, scope.value, context, below, aloud=step.at in host.voices)


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
