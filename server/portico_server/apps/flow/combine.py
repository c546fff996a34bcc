"""The combinators: what flows into their steps, in which order these run, and what becomes of the outputs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NoReturn

from portico_server.apps.flow import record
from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.expression import (
    CodeExpression,
    Expression,
    arguments,
    as_text,
    named_arguments,
    same,
)
from portico_server.apps.flow.host import JumpToStep, StepHost, deeper
from portico_server.apps.flow.leaf import ask, asking
from portico_server.apps.flow.record import StepNote, as_json, seen
from portico_server.apps.flow.scope import SKIPPED, Scope
from portico_server.apps.flow.spec import (
    BranchStep,
    CodeStep,
    DiverterStep,
    GraphStep,
    Join,
    LoopStep,
    ParallelStep,
    PipelineStep,
    Step,
    SubflowStep,
    SwitchStep,
    WarpStep,
)
from portico_server.core.context import depth_of
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import JsonSizes
from portico_server.runs.journal import for_trace

# Several pieces of work at once: bounded, in order, and all of them ended when one fails.


async def each(
    budget: ValueBudget, count: int, limit: int, work: Callable[[int], Awaitable[Any]], *, depth: int = 0
) -> list[Any]:
    """``await work(n)`` for n from 0 to ``count``, ``limit`` at once (0: all) or fewer where the key does much already;
    the results in the order of n. ``depth``: how many flows are around that of the work.

    The first error cancels the others and is raised when they have ended; of several, that of the lowest n.
    """
    results: list[Any] = [None] * count
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            results[number] = await work(number)

    with budget.workers(min(limit or count, count), depth) as workers:
        if workers == 1:
            await worker()
            return results
        tasks = [asyncio.create_task(worker()) for _ in range(workers)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            await _end(tasks)
    return results


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel what has not ended, and wait for it. What stands within many flows takes long to unwind: one is told each
    time that the event loop goes round, so that everything else has its turn.
    """
    left = [task for task in tasks if not task.done()]
    untold = iter(left)
    try:
        for task in untold:
            task.cancel()
            await asyncio.sleep(0)
    finally:
        for task in untold:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


# How the outputs of steps that ran at once become one value.


def joined(
    join: Join, separator: str, names: Sequence[str], outputs: Sequence[Any], path: str, budget: ValueBudget
) -> Any:
    """``outputs`` in one value; those of skipped steps are left out.

    ``list``: as they are. ``dict``: by the steps' names. ``sum``: added up (numbers), put together (lists, texts,
    objects). ``text``: with ``separator`` between them. ``zip``: the first items together, the second, and so on.
    Raises `InvalidRequest` if that is larger than ``budget``, before it is made.
    """
    kept = [(name, output) for name, output in zip(names, outputs, strict=True) if output is not SKIPPED]
    values = [output for _name, output in kept]
    budget.require(values, path)
    match join:
        case "list":
            return values
        case "dict":
            return dict(kept)
        case "text":
            return _text(separator, values, path, budget)
        case "sum":
            return _sum(values, path)
        case "zip":
            if not all(isinstance(value, list) for value in values):
                raise InvalidRequest(
                    "'join': 'zip' needs a list from every step.", code="type_clash", param=path
                )
            return [list(row) for row in zip(*values, strict=False)]


def _text(separator: str, values: Sequence[Any], path: str, budget: ValueBudget) -> str:
    texts: list[str] = []
    size = 0
    for value in values:
        texts.append(as_text(value))
        size += len(separator) + len(texts[-1])
        budget.require_size(size, path)
    return separator.join(texts)


def _sum(values: Sequence[Any], path: str) -> Any:
    if not values:
        return []
    first = values[0]
    for kind in (list, str, dict, int | float):
        if isinstance(first, kind):
            for value in values:
                if not isinstance(value, kind):
                    _cannot_add(value, first, path)
    # Each value is gone through once, however many there are.
    if isinstance(first, list):
        return list(chain.from_iterable(values))
    if isinstance(first, str):
        return "".join(values)
    if isinstance(first, dict):
        return dict(chain.from_iterable(value.items() for value in values))
    if isinstance(first, int | float):
        return sum(values[1:], first)
    return first if len(values) == 1 else _cannot_add(values[1], first, path)


def _cannot_add(value: Any, first: Any, path: str) -> NoReturn:
    raise InvalidRequest(
        f"'join': 'sum' cannot add a {type(value).__name__} to a {type(first).__name__}.",
        code="type_clash",
        param=path,
    )


# A warp whose step is a function in the sandbox: many items in one call of it.
#
# What comes of it is the same as item by item: an output, a row in the journal and two events for each.


BATCH_ITEMS: Final = 250
"""Items in one call: so many that the way into the sandbox costs little, so few that a cancel is soon felt."""

BATCH_BYTES: Final = 8 * 2**20
"""Bytes of arguments, as JSON, in one call: items with more of them go one by one."""

MAX_CALLS: Final = 4
"""Calls at once."""


def sweepable(step: Step) -> bool:
    """Whether items can go through a step many at a time."""
    return (
        isinstance(step.op, CodeStep)
        and step.plain
        and step.stream is None
        and not isinstance(step.input, CodeExpression)
    )


async def _each(host: StepHost, count: int, limit: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """As `each`, within the budget of a flow that runs."""
    return await each(host.budget, count, limit, work, depth=depth_of(host.context))


async def sweep(host: StepHost, op: WarpStep, scope: Scope, path: str, items: Sequence[Any]) -> list[Any]:
    """The outputs of all items, in their order."""

    async def work(number: int) -> list[Any]:
        first = number * BATCH_ITEMS
        return await _batch(host, op, scope, path, first, items[first : first + BATCH_ITEMS])

    batches = await _each(host, -(-len(items) // BATCH_ITEMS), min(op.concurrency, MAX_CALLS), work)
    return [output for batch in batches for output in batch]


async def _batch(
    host: StepHost, op: WarpStep, scope: Scope, path: str, first: int, items: Sequence[Any]
) -> list[Any]:
    step = op.step
    assert isinstance(step.op, CodeStep)
    do = host.collected if op.collect else host.step
    places = [f"{path}[{number}].{step.name}" for number in range(first, first + len(items))]
    if not any(host.known(place) for place in places):
        outputs = await _together(host, step, step.op.code, scope, first, items, places)
        if outputs is not None:
            return outputs
    return [
        await do(step, _inner(scope, item, number), place)
        for number, (item, place) in enumerate(zip(items, places, strict=True), first)
    ]


def _inner(scope: Scope, item: Any, number: int) -> Scope:
    made = Scope(scope, item)
    made.item, made.index = item, number
    return made


async def _together(
    host: StepHost,
    step: Step,
    code: CodeExpression,
    scope: Scope,
    first: int,
    items: Sequence[Any],
    places: Sequence[str],
) -> list[Any] | None:
    """The outputs from one call; ``None`` if it failed: one by one, it shows which item it is that fails."""
    started_at, clock = time.time(), time.perf_counter()
    try:
        ready = await host.budget.compute(_calls, step, code, scope, first, items)
        if ready is None:
            return None
        values, calls = ready
        found = await host.world.evaluator.evaluate_all(code.source, calls)
        texts = [as_json(output, place) for place, output in zip(places, found, strict=True)]
        host.budget.take(sum(map(len, texts)), places[0])
    except InvalidRequest:
        return None
    spent = (time.perf_counter() - clock) * 1e3 / len(places)
    await host.swept(record.swept(host.journal, step, places, values, texts, started_at, spent))
    return [seen(output, text) for output, text in zip(found, texts, strict=True)]


def _calls(
    step: Step, code: CodeExpression, scope: Scope, first: int, items: Sequence[Any]
) -> tuple[list[Any], list[tuple[list[Any], dict[str, Any]]]] | None:
    """What flows into each item's step, and the arguments of its call; ``None`` if these are too large together."""
    one = _inner(scope, None, first)  # for all of them: a scope each is most of what a small function costs
    values: list[Any] = []
    calls: list[tuple[list[Any], dict[str, Any]]] = []
    size, sizes = 0, JsonSizes(BATCH_BYTES)
    for number, item in enumerate(items, first):
        one.value = one.item = item
        one.index = number
        if step.input is not None:
            one.value = step.input.of(one)
        values.append(one.value)
        kwargs = named_arguments(code.kwargs, one) if code.kwargs else {}
        args = arguments(code.args, one)
        size += sizes.of(args) + sizes.of(kwargs)
        if size > BATCH_BYTES:
            return None
        calls.append((args, kwargs))
    return values, calls


Combinator = Callable[[StepHost, Any, Step, Scope, str, StepNote], Awaitable[Any]]


async def _pipeline(
    host: StepHost, op: PipelineStep, step: Step, scope: Scope, path: str, note: StepNote
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
    host: StepHost, op: ParallelStep, step: Step, scope: Scope, path: str, note: StepNote
) -> Any:
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        child = op.steps[number]
        return await do(child, Scope(scope, scope.value), f"{path}.{child.name}")

    outputs = await _each(host, len(op.steps), op.concurrency, work)
    names = [child.name for child in op.steps]
    return await host.budget.compute(joined, op.join, op.separator, names, outputs, path, host.budget)


async def _diverter(
    host: StepHost, op: DiverterStep, step: Step, scope: Scope, path: str, note: StepNote
) -> Any:
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

    outputs = await _each(host, len(names), op.concurrency, work)
    return await host.budget.compute(joined, op.join, op.separator, names, outputs, path, host.budget)


async def _warp(host: StepHost, op: WarpStep, step: Step, scope: Scope, path: str, note: StepNote) -> Any:
    items = await host.value(op.over, scope)
    if not isinstance(items, list):
        raise InvalidRequest(
            "A warp goes over a list; something else flows in. Give 'over' a reference to a list.",
            code="type_clash",
            param=path,
        )

    if sweepable(op.step) and len(items) > 1:
        swept = await sweep(host, op, scope, path, items)
        return await host.budget.compute(host.budget.require, swept, path)
    do = host.collected if op.collect else host.step

    async def work(number: int) -> Any:
        inner = Scope(scope, items[number])
        inner.item, inner.index = items[number], number
        value = await do(op.step, inner, f"{path}[{number}].{op.step.name}")
        return None if value is SKIPPED else value

    outputs = await _each(host, len(items), op.concurrency, work)
    return await host.budget.compute(host.budget.require, outputs, path)


def _equals(expected: Expression, scope: Scope, value: Any) -> bool:
    return same(expected.of(scope), value)


async def _switch(host: StepHost, op: SwitchStep, step: Step, scope: Scope, path: str, note: StepNote) -> Any:
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
        f"No case of the switch fits {for_trace(value)}; give it a 'default'.", code="no_case", param=path
    )


async def _branch(host: StepHost, op: BranchStep, step: Step, scope: Scope, path: str, note: StepNote) -> Any:
    chosen = op.then if await host.truth(op.condition, scope) else op.otherwise
    if chosen is None:
        return scope.value
    return await host.step(chosen, Scope(scope, scope.value), f"{path}.{chosen.name}")


async def _loop(host: StepHost, op: LoopStep, step: Step, scope: Scope, path: str, note: StepNote) -> Any:
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
            f"The loop's condition did not hold after {op.limit} rounds.", code="loop_exhausted", param=path
        )
    return value


async def _graph(host: StepHost, op: GraphStep, step: Step, scope: Scope, path: str, note: StepNote) -> Any:
    inner = Scope(scope, scope.value)
    ended = {child.name: asyncio.Event() for child in op.steps}
    slots = asyncio.Semaphore(op.concurrency or len(op.steps))
    steps = {child.name: child for child in op.steps}

    async def work(number: int) -> None:
        child = steps[op.order[number]]  # none waits for a later one: few workers suffice
        for name in op.after[child.name]:
            await ended[name].wait()
        async with slots:
            inner.names[child.name] = await host.step(
                child, Scope(inner, scope.value), f"{path}.{child.name}"
            )
        ended[child.name].set()

    await _each(host, len(op.order), 0, work)
    return await host.value(op.output, inner)


async def _subflow(
    host: StepHost, op: SubflowStep, step: Step, scope: Scope, path: str, note: StepNote
) -> Any:
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
