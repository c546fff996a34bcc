"""Concurrency limits for one kind of work: in total, and per key. Work above a limit waits for a limited time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from portico_server.core.errors import TooMany

MAX_WAITING_PER_KEY: Final = 16
"""Maximum number of waiting tasks per key."""

MAX_WAIT_S: Final = 60.0
"""Maximum seconds that a task waits."""


class Slots:
    """``total`` slots, of which one key can use ``per_key``; keys in ``unlimited`` can use all.

    Waiting tasks are served in order, except that tasks of other keys overtake those of a key at its limit.
    """

    def __init__(
        self,
        kind: str,
        total: int,
        per_key: int,
        *,
        max_wait_s: float = MAX_WAIT_S,
        unlimited: Container[str] = (),
    ) -> None:
        self._kind = kind
        self._total = total
        self._per_key = per_key
        self._max_wait_s = max_wait_s
        self._unlimited = unlimited
        self.used_count = 0
        """Number of slots in use."""
        self._used_counts: dict[str, int] = {}
        self._waiting_turns: deque[tuple[str, int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold a slot for ``key`` within the block. Raises `TooMany` if too many tasks of the key are waiting, or if
        this task waits too long.
        """
        await self.take(key)
        try:
            yield
        finally:
            self.give(key)

    def keep(self, key: str, running: asyncio.Future[Any]) -> None:
        """Hold an additional slot until work that no task awaits has ended."""
        self._count(key, 1)

        def on_end(future: asyncio.Future[Any]) -> None:
            if not future.cancelled():
                future.exception()  # marks the exception as retrieved, because no other code retrieves it
            self.give(key)

        running.add_done_callback(on_end)

    async def take(self, key: str, count: int = 1) -> None:
        """Take ``count`` slots until `give`. Raises `TooMany` as `hold` does."""
        if not self._waiting_turns and self.take_now(key, count):
            return
        if sum(1 for waiting_key, *_ in self._waiting_turns if waiting_key == key) >= MAX_WAITING_PER_KEY:
            raise self._too_many()
        turn = asyncio.get_running_loop().create_future()
        self._waiting_turns.append((key, count, turn))
        self._next()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give(key, count)
            else:
                self._waiting_turns.remove((key, count, turn))
                self._next()
            if isinstance(error, TimeoutError):
                raise self._too_many() from error
            raise

    def take_now(self, key: str, count: int = 1) -> bool:
        """Take ``count`` slots until `give` if they are free. Return whether they were."""
        is_free = self._has_share(key, count) and self.used_count + count <= self._total
        if is_free:
            self._count(key, count)
        return is_free

    def give(self, key: str, count: int = 1) -> None:
        """Give ``count`` slots back."""
        self._count(key, -count)
        self._next()

    def _count(self, key: str, by: int) -> None:
        self.used_count += by
        slot_count = self._used_counts.get(key, 0) + by
        if slot_count:
            self._used_counts[key] = slot_count
        else:
            self._used_counts.pop(key, None)

    def _has_share(self, key: str, count: int) -> bool:
        return key in self._unlimited or self._used_counts.get(key, 0) + count <= self._per_key

    def _next(self) -> None:
        """Admit the waiting tasks that can start now."""
        for key, count, turn in list(self._waiting_turns):
            if turn.done() or not self._has_share(key, count):
                continue
            if not self.take_now(key, count):
                return  # smaller tasks do not overtake this task, which could otherwise wait for ever
            self._waiting_turns.remove((key, count, turn))
            turn.set_result(None)

    def _too_many(self) -> TooMany:
        return TooMany(
            f"Too many tasks of the kind '{self._kind}' are waiting for this key. Try again when some of "
            "them have ended.",
            code="too_many_at_once",
            retry_after=5.0,
        )


K = TypeVar("K")

KEY: Final[ContextVar[str]] = ContextVar("key", default="")
"""The id of the key on whose behalf the current work runs, if known."""


class LastTurns(dict[K, int]):
    """Maps each key to the number of its last turn. Numbers only increase."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    def note(self, key: K) -> None:
        """Record a turn of a key."""
        self._number += 1
        self[key] = self._number

    def last(self, key: K) -> int:
        """Return the number of a key's last turn, or 0 if it had none."""
        return self.get(key, 0)

    def forget_others(self, keys: Container[K]) -> None:
        """Keep only these keys. Other keys start from 0 when they come back."""
        for key in [key for key in self if key not in keys]:
            del self[key]


class FairSlots:
    """``total`` slots for short tasks.

    A free slot goes to the key that holds the fewest slots and, among equals, to the key whose last turn was longest
    ago. So a key with many tasks delays another key by only one task. With ``spare``, this also applies to long tasks:
    if one key uses all slots, another key gets an additional slot.
    """

    def __init__(self, total: int, *, spare: bool = False) -> None:
        self._free = max(1, total)
        self._spare = spare
        self._used_counts: Counter[str] = Counter()
        self._turns: LastTurns[str] = LastTurns()
        self._waiting_turns: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold a slot within the block, for the key in `KEY`."""
        key = KEY.get()
        if self._is_free(key):
            self._grant(key)
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting_turns.append((key, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give(key)
                else:
                    self._waiting_turns.remove((key, turn))
                raise
        try:
            yield
        finally:
            self._give(key)

    def _give(self, key: str) -> None:
        self._used_counts[key] -= 1
        if not self._used_counts[key]:
            del self._used_counts[key]
        self._free += 1
        waiting_turns = [waiting_turn for waiting_turn in self._waiting_turns if not waiting_turn[1].done()]
        self._turns.forget_others({*self._used_counts, *(key for key, _turn in waiting_turns)})
        if waiting_turns := [
            waiting_turn for waiting_turn in waiting_turns if self._is_free(waiting_turn[0])
        ]:
            next_turn = min(
                waiting_turns,
                key=lambda waiting_turn: (
                    self._used_counts[waiting_turn[0]],
                    self._turns.last(waiting_turn[0]),
                ),
            )
            self._waiting_turns.remove(next_turn)
            self._grant(next_turn[0])
            next_turn[1].set_result(None)

    def _is_free(self, key: str) -> bool:
        one_has_all = self._free == 0 and len(self._used_counts) == 1 and key not in self._used_counts
        return self._free > 0 or (self._spare and one_has_all)

    def _grant(self, key: str) -> None:
        self._free -= 1
        self._used_counts[key] += 1
        self._turns.note(key)
