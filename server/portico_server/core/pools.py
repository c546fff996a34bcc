"""Threads for blocking work. Each kind has its own pool, so a slow or stuck one does not hold up the others.

The event loop's default pool only resolves the names of hosts that the operator chose; a test forbids any other use.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, Final, ParamSpec, TypeVar

from portico_server.core.errors import TooMany

# How much work of one kind runs at once: in all, and for one key. The rest waits its turn, and not for ever.


MAX_WAITING_PER_KEY: Final = 16
"""Pieces of work of one key that may wait."""

MAX_WAIT_S: Final = 60.0
"""Seconds that one waits at most."""


class Slots:
    """``total`` at once, ``per_key`` of them for one key. Waiters are served in order, but a key at its limit
    lets others pass.
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


K = TypeVar("K")

KEY: Final[ContextVar[str]] = ContextVar("key", default="")
"""The id of the key for whose sake is worked here, as far as that is known."""


class LastTurns(dict[K, int]):
    """When it was whose turn for the last time, as a number that only grows."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    def note(self, key: K) -> None:
        """It is this one's turn now."""
        self._number += 1
        self[key] = self._number

    def last(self, key: K) -> int:
        """The number of its last turn, 0 if there was none."""
        return self.get(key, 0)

    def forget_others(self, keys: Container[K]) -> None:
        """Keep these alone: the others begin from 0 when they come again."""
        for key in [key for key in self if key not in keys]:
            del self[key]


class FairSlots:
    """``total`` at once, for pieces of work that each end before long. One that becomes free is for the key that holds
    fewest, and among equals for the one whose last turn is longest ago: keys that want many delay another by one piece
    each. With a ``spare`` one that holds for pieces that are long, too, of one key: where it holds all, another gets
    one more.
    """

    def __init__(self, total: int, *, spare: bool = False) -> None:
        self._free = max(1, total)
        self._spare = spare
        self._held: Counter[str] = Counter()
        self._turns: LastTurns[str] = LastTurns()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold one within, for `KEY`."""
        key = KEY.get()
        if self._is_free(key):
            self._grant(key)
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((key, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give(key)
                else:
                    self._waiting.remove((key, turn))
                raise
        try:
            yield
        finally:
            self._give(key)

    def _give(self, key: str) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._free += 1
        waiting = [each for each in self._waiting if not each[1].done()]
        self._turns.forget_others({*self._held, *(key for key, _turn in waiting)})
        if waiting := [each for each in waiting if self._is_free(each[0])]:
            chosen = min(waiting, key=lambda each: (self._held[each[0]], self._turns.last(each[0])))
            self._waiting.remove(chosen)
            self._grant(chosen[0])
            chosen[1].set_result(None)

    def _is_free(self, key: str) -> bool:
        one_has_all = self._free == 0 and len(self._held) == 1 and key not in self._held
        return self._free > 0 or (self._spare and one_has_all)

    def _grant(self, key: str) -> None:
        self._free -= 1
        self._held[key] += 1
        self._turns.note(key)


P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Up to ``size`` threads for one kind of work; with ``per_key`` so many of them at most for one key."""

    def __init__(self, kind: str, size: int, per_key: int = 0) -> None:
        self._kind = kind
        self._size = size
        self._slots = Slots(kind, size, per_key) if per_key else None
        self._executor: ThreadPoolExecutor | None = None
        os.register_at_fork(after_in_child=self._forget)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns. It runs to its end even if who waits for it is cancelled."""
        return await self.begin(work, *args, **kwargs)

    def begin(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """The same as a future, for who must wait for the end also when cancelled."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, f"portico-{self._kind}")
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def run_for(self, key: str, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`run` for a key that may hold only a part of the threads. Raises `Overloaded` if too many wait already."""
        if self._slots is None:
            return await self.run(work, *args, **kwargs)
        async with self._slots.taken(key):
            running = self.begin(work, *args, **kwargs)
            try:
                return await asyncio.shield(running)
            finally:
                # The thread is in use until the work has ended, whoever has left.
                if not running.done():
                    self._slots.keep(key, running)

    def _forget(self) -> None:
        self._executor = None  # a forked process has none of its parent's threads


FILES: Final = Pool("files", 8)
"""Small files and folders: milliseconds."""

UPLOADS: Final = Pool("uploads", 8)
"""Content of clients' files on its way to the disk: a piece at a time."""

MAIL: Final = Pool("mail", 4)
"""Mailboxes: a command to one, whose answer has a deadline."""

SEARCH: Final = Pool("search", 4)
"""Searching an index."""

INDEX: Final = Pool("index", 4)
"""Writing, building and opening indexes: seconds."""

MODELS: Final = Pool("models", 6)
"""Files of models and environments: reading, unpacking, checking, for minutes."""

TRAINING: Final = Pool("training", 4)
"""Files of fine-tuning."""

DOCUMENTS: Final = Pool("documents", 4, per_key=2)
"""Reading what comes from outside: pages, listings, documents of APIs."""

DATASETS: Final = Pool("datasets", 4, per_key=1)
"""Checking files of batches, evaluations and training, line by line."""

GUARDS: Final = Pool("guards", 2, per_key=1)
"""Searching long texts for what detectors look for: up to a second."""

SOUNDS: Final = Pool("sounds", 2)
"""Reading long pieces of what is said in a Realtime session: up to a fifth of a second."""

VALUES: Final = Pool("values", 4)
"""What expressions of flows make of large values: up to a second. See `ValueBudget.compute`."""

NAMES: Final = Pool("names", 32, per_key=4)
"""Resolving the names of hosts that keys chose: a name whose servers are silent takes half a minute."""

LOADING: Final = Pool("loading", 4)
"""Importing packages, and what else is done once."""


RESOLVE_TIMEOUT_S: Final = 10.0
"""Seconds in which the name of a host must be resolved."""


async def resolve(host: str, port: int, family: int = 0) -> list[tuple[int, int, tuple[Any, ...]]]:
    """Family, protocol and address of each address behind the name of a host, for `KEY`. Raises `OSError`, and
    `TooMany` for a key that has too many names resolved.
    """
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await NAMES.run_for(KEY.get(), socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
    except TimeoutError as error:
        raise OSError(f"the name '{host}' was not resolved within {RESOLVE_TIMEOUT_S:g} s") from error
    return [(kind, protocol, address) for kind, _, protocol, _, address in found]


async def release_memory() -> None:
    """Give free memory back to the system after a long piece of work; at most tens of milliseconds, in a thread.

    glibc lets threads allocate from arenas of their own, up to eight for each processor, and what is freed in one stays
    there until it is asked for, in the middle of it too. Nothing happens with other allocators.
    """
    trim = _malloc_trim()
    if trim is not None:
        await FILES.run(trim, 0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's function of this name."""
    if sys.platform != "linux":
        return None
    import ctypes

    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return trim
