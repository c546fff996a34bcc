"""Several pieces of work at once: bounded, in order, and all of them ended when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.host import StepHost
from portico_server.core.context import depth_of


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


async def each_of(host: StepHost, count: int, limit: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """As `each`, within the budget of a flow that runs."""
    return await each(host.budget, count, limit, work, depth=depth_of(host.context))
