"""Concurrent work: limited, ordered, and cancelled as a whole when one piece fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from portico_server.core.context import depth_of
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.flows.host import StepHost


async def run_each(
    budget: ValueBudget, count: int, limit: int, work: Callable[[int], Awaitable[Any]], *, depth: int = 0
) -> list[Any]:
    """Run ``await work(n)`` for n from 0 to ``count``, ``limit`` at a time (0: all), or fewer if the key already runs
    many steps.

    Return the results in the order of n. ``depth`` is the number of flows that called the flow of the work. The first
    error cancels the other pieces of work and is raised after they have ended. If there are several errors, the error
    of the lowest n is raised.
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
    """Cancel the unfinished tasks and wait for them. A task that runs inside many flows takes long to unwind, so one
    task is cancelled per iteration of the event loop, to let other work run.
    """
    pending_tasks = [task for task in tasks if not task.done()]
    untold = iter(pending_tasks)
    try:
        for task in untold:
            task.cancel()
            await asyncio.sleep(0)
    finally:
        for task in untold:
            task.cancel()
        await asyncio.gather(*pending_tasks, return_exceptions=True)


async def each_of(host: StepHost, count: int, limit: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """Run `run_each` within the budget of a running flow."""
    return await run_each(host.budget, count, limit, work, depth=depth_of(host.context))
