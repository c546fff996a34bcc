"""Whose training is next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class TrainingQueue:
    """Who trains next: one at a time, and the jobs of a key in the order in which their runs began, whichever of them
    has read its files first.
    """

    def __init__(self) -> None:
        self._device = asyncio.Lock()
        self._keys: dict[str, str] = {}
        """By run, the one that began first at the front."""
        self._left = asyncio.Event()

    @contextmanager
    def place(self, run: str, key: str) -> Iterator[None]:
        """The run of a job of ``key`` is in the queue."""
        self._keys[run] = key
        try:
            yield
        finally:
            self.leave(run)

    def leave(self, run: str) -> None:
        """Nobody waits for it: it has ended, or trains nothing here."""
        self._keys.pop(run, None)
        self._left.set()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def turn(self, run: str) -> AsyncIterator[None]:
        """Within it, it trains."""
        while next(other_run for other_run, key in self._keys.items() if key == self._keys[run]) != run:
            await self._left.wait()
        async with self._device:
            yield
