"""Decides which training runs next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class TrainingQueue:
    """Decides which training runs next. Only one runs at a time.

    The jobs of a key train in the order in which their runs began, even if their files were read in another order.
    """

    def __init__(self) -> None:
        self._device = asyncio.Lock()
        self._keys: dict[str, str] = {}
        """Maps runs to the keys that own them, in the order in which the runs began."""
        self._has_room = asyncio.Event()

    @contextmanager
    def place(self, run: str, key: str) -> Iterator[None]:
        """Keep the run of a job that belongs to ``key`` in the queue until the ``with`` block ends."""
        self._keys[run] = key
        try:
            yield
        finally:
            self.leave(run)

    def leave(self, run: str) -> None:
        """Remove a run that has ended, or that does not train on this machine."""
        self._keys.pop(run, None)
        self._has_room.set()
        self._has_room = asyncio.Event()

    @asynccontextmanager
    async def turn(self, run: str) -> AsyncIterator[None]:
        """Wait until it is the run's turn; the run trains within the ``with`` block."""
        while next(other_run for other_run, key in self._keys.items() if key == self._keys[run]) != run:
            await self._has_room.wait()
        async with self._device:
            yield
