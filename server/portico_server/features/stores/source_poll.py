"""Polls sources that do not report changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class SourcePoll:
    """Calls ``due`` every ``seconds`` with the id of each followed store. If ``seconds`` is 0, ``due`` is never
    called.
    """

    def __init__(self, due: Callable[[str], Awaitable[None]], seconds: float) -> None:
        self._due = due
        self._seconds = seconds
        self._next: dict[str, float] = {}
        self._has_others = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def follow(self, store_id: str) -> None:
        """Start polling a store's source."""
        if self._seconds and store_id not in self._next:
            self._next[store_id] = asyncio.get_running_loop().time() + self._seconds
            self._has_others.set()
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="poll sources")

    def leave(self, store_id: str) -> None:
        """Stop polling a store's source."""
        self._next.pop(store_id, None)

    async def close(self) -> None:
        """Stop polling all sources."""
        self._next.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._has_others.clear()
            try:
                async with asyncio.timeout_at(min(self._next.values(), default=None)):
                    await self._has_others.wait()
            except TimeoutError:
                now = clock()
                for store_id in [store_id for store_id, at in self._next.items() if at <= now]:
                    self._next[store_id] = now + self._seconds
                    await self._due(store_id)
