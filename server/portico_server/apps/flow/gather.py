"""Several pieces of work at once: bounded, in order, and all of them ended when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def each(count: int, limit: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """``await work(n)`` for n from 0 to ``count``, ``limit`` at once (0: all); the results in the order of n.

    The first error cancels the others and is raised when they have ended; of several, that of the lowest n.
    """
    results: list[Any] = [None] * count
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            results[number] = await work(number)

    workers = min(limit or count, count)
    if workers <= 1:
        await worker()
        return results
    tasks = [asyncio.create_task(worker()) for _ in range(workers)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return results
