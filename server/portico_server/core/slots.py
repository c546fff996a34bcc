"""How much work of one kind runs at once: in all, and for one key. The rest waits its turn, and not for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from portico_server.core.errors import TooMany

MAX_WAITING_PER_KEY: Final = 16
"""Pieces of work of one key that may wait."""

MAX_WAIT_S: Final = 60.0
"""Seconds that one waits at most."""


class Slots:
    """``total`` at once, ``per_key`` of them for one key. Whoever waits comes in the order of coming, save that a key
    which has all that it may have lets others pass.
    """

    def __init__(self, kind: str, total: int, per_key: int) -> None:
        self._kind = kind
        self._total = total
        self._per_key = per_key
        self._used = 0
        self._held: dict[str, int] = {}
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, key: str) -> AsyncIterator[None]:
        """Hold a slot for ``key`` within. Raises `TooMany` if too much of the key waits, or for too long."""
        await self._take(key)
        try:
            yield
        finally:
            self._give(key)

    def keep(self, key: str, running: asyncio.Future[Any]) -> None:
        """Hold a further slot until something that nobody waits for any more has ended."""
        self._count(key, 1)

        def ended(future: asyncio.Future[Any]) -> None:
            if not future.cancelled():
                future.exception()  # nobody else asks for it
            self._give(key)

        running.add_done_callback(ended)

    async def _take(self, key: str) -> None:
        if not self._waiting and self._is_free(key):
            self._count(key, 1)
            return
        if sum(1 for other, _turn in self._waiting if other == key) >= MAX_WAITING_PER_KEY:
            raise self._too_many()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((key, turn))
        self._next()
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give(key)
            else:
                self._waiting.remove((key, turn))
            if isinstance(error, TimeoutError):
                raise self._too_many() from error
            raise

    def _give(self, key: str) -> None:
        self._count(key, -1)
        self._next()

    def _count(self, key: str, by: int) -> None:
        self._used += by
        held = self._held.get(key, 0) + by
        if held:
            self._held[key] = held
        else:
            self._held.pop(key, None)

    def _is_free(self, key: str) -> bool:
        return self._used < self._total and self._held.get(key, 0) < self._per_key

    def _next(self) -> None:
        """Let in whoever may come in now."""
        for key, turn in list(self._waiting):
            if self._used >= self._total:
                return
            if turn.done() or not self._is_free(key):
                continue
            self._waiting.remove((key, turn))
            self._count(key, 1)
            turn.set_result(None)

    def _too_many(self) -> TooMany:
        return TooMany(
            f"Too much work of the kind '{self._kind}' is waiting for this key. Try again when some of it has ended.",
            code="too_many_at_once",
            retry_after=5.0,
        )
