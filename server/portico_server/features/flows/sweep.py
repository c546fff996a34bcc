"""A warp whose step is a function in the sandbox: one call of the sandbox processes many items.

The results are the same as if each item were processed separately: each item has an output, a row in the journal and
two events.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import JsonSizes
from portico_server.features.flows import record
from portico_server.features.flows.concurrent import each_of
from portico_server.features.flows.expression import CodeExpression, arguments, named_arguments
from portico_server.features.flows.host import StepHost
from portico_server.features.flows.note import as_json, as_seen
from portico_server.features.flows.scope import Scope
from portico_server.features.flows.spec import CodeStep, FlowStep, WarpStep

BATCH_ITEMS: Final = 250
"""Number of items per call: enough to make the sandbox overhead small, and few enough to react quickly to
cancellation.
"""

BATCH_BYTES: Final = 8 * 2**20
"""Maximum size of the arguments of one call, in bytes of JSON. If the items are larger, they are processed one by
one.
"""

MAX_CALLS: Final = 4
"""Maximum number of concurrent calls."""


def can_sweep(step: FlowStep) -> bool:
    """Return whether the sandbox can process many items of the step in one call."""
    return (
        isinstance(step.op, CodeStep)
        and step.plain
        and step.stream is None
        and not isinstance(step.input, CodeExpression)
    )


async def sweep(host: StepHost, op: WarpStep, scope: Scope, path: str, items: Sequence[Any]) -> list[Any]:
    """Return the outputs of all items in order."""

    async def work(number: int) -> list[Any]:
        first = number * BATCH_ITEMS
        return await _batch(host, op, scope, path, first, items[first : first + BATCH_ITEMS])

    batches = await each_of(host, -(-len(items) // BATCH_ITEMS), min(op.concurrency, MAX_CALLS), work)
    return [output for batch in batches for output in batch]


async def _batch(
    host: StepHost, op: WarpStep, scope: Scope, path: str, first: int, items: Sequence[Any]
) -> list[Any]:
    step = op.step
    assert isinstance(step.op, CodeStep)
    do = host.collected if op.collect else host.step
    places = [f"{path}[{number}].{step.name}" for number in range(first, first + len(items))]
    if not any(host.find_step(place) for place in places):
        outputs = await _together(host, step, step.op.code, scope, first, items, places)
        if outputs is not None:
            return outputs
    return [
        await do(step, item_scope(scope, item, number), place)
        for number, (item, place) in enumerate(zip(items, places, strict=True), first)
    ]


def item_scope(scope: Scope, item: Any, number: int) -> Scope:
    """Return the scope in which the step runs for one item."""
    new_scope = Scope(scope, item)
    new_scope.item, new_scope.index = item, number
    return new_scope


async def _together(
    host: StepHost,
    step: FlowStep,
    code: CodeExpression,
    scope: Scope,
    first: int,
    items: Sequence[Any],
    places: Sequence[str],
) -> list[Any] | None:
    """Return the outputs of one call for many items. If the call fails, return ``None``: running the items one by one
    then shows which item fails.
    """
    started_at, clock = time.time(), time.perf_counter()
    try:
        ready = await host.budget.compute(_calls, step, code, scope, first, items)
        if ready is None:
            return None
        values, calls = ready
        outputs = await host.world.evaluator.evaluate_all(code.source, calls)
        texts = [as_json(output, place) for place, output in zip(places, outputs, strict=True)]
        host.budget.take(sum(map(len, texts)), places[0])
    except InvalidRequest:
        return None
    elapsed_ms = (time.perf_counter() - clock) * 1e3 / len(places)
    await host.record_ends(
        record.swept_rows(host.journal, step, places, values, texts, started_at, elapsed_ms)
    )
    return [as_seen(output, text) for output, text in zip(outputs, texts, strict=True)]


def _calls(
    step: FlowStep, code: CodeExpression, scope: Scope, first: int, items: Sequence[Any]
) -> tuple[list[Any], list[tuple[list[Any], dict[str, Any]]]] | None:
    """Return, for each item, the input of its step and the arguments of its call. Return ``None`` if all arguments
    together are too large.
    """
    inner_scope = item_scope(
        scope, None, first
    )  # one scope for all items: for a small function, creating a scope per item would cost more than the call
    values: list[Any] = []
    calls: list[tuple[list[Any], dict[str, Any]]] = []
    size, sizes = 0, JsonSizes(BATCH_BYTES)
    for number, item in enumerate(items, first):
        inner_scope.value = inner_scope.item = item
        inner_scope.index = number
        if step.input is not None:
            inner_scope.value = step.input.of(inner_scope)
        values.append(inner_scope.value)
        kwargs = named_arguments(code.kwargs, inner_scope) if code.kwargs else {}
        args = arguments(code.args, inner_scope)
        size += sizes.of(args) + sizes.of(kwargs)
        if size > BATCH_BYTES:
            return None
        calls.append((args, kwargs))
    return values, calls
