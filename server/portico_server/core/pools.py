"""Thread pools for blocking work. Each kind of work has its own pool, so that a slow or stuck one does not delay the
others.

The event loop's default pool only resolves the names of hosts that the operator chose; a test forbids any other use.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Final, ParamSpec, TypeVar

from portico_server.core.work_slots import KEY, Slots

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Up to ``size`` threads for one kind of work; ``per_key`` limits the threads of a single key."""

    def __init__(self, kind: str, size: int, per_key: int = 0) -> None:
        self._kind = kind
        self._size = size
        self._slots = Slots(kind, size, per_key) if per_key else None
        self._executor: ThreadPoolExecutor | None = None
        os.register_at_fork(after_in_child=self._forget)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of ``work``, which runs to its end even if the caller is cancelled."""
        return await self.begin(work, *args, **kwargs)

    def begin(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start ``work`` and return a future, for a caller that must wait for the end even if it is cancelled."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, f"portico-{self._kind}")
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def run_for(self, key: str, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work for a key, which may use only a part of the threads. Raises `TooMany` if too many calls wait
        already.
        """
        if self._slots is None:
            return await self.run(work, *args, **kwargs)
        async with self._slots.hold(key):
            running = self.begin(work, *args, **kwargs)
            try:
                return await asyncio.shield(running)
            finally:
                # The thread remains in use until the work has ended, even if the caller has left.
                if not running.done():
                    self._slots.keep(key, running)

    def _forget(self) -> None:
        self._executor = None  # a forked process has none of its parent's threads


FILES: Final = Pool("files", 8)
"""Small files and folders: milliseconds."""

UPLOADS: Final = Pool("uploads", 8)
"""Content of clients' files on its way to disk: one piece at a time."""

MAIL: Final = Pool("mail", 4)
"""Mailboxes: one command at a time, with a deadline for its answer."""

SEARCH: Final = Pool("search", 4)
"""Searching an index."""

INDEX: Final = Pool("index", 4)
"""Writing, building and opening indexes: seconds."""

MODELS: Final = Pool("models", 6)
"""Files of models and environments: reading, unpacking and checking, for minutes."""

TRAINING: Final = Pool("training", 4)
"""Files of fine-tuning."""

DOCUMENTS: Final = Pool("documents", 4, per_key=2)
"""Parsing of external documents: pages, listings, and API descriptions."""

DATASETS: Final = Pool("datasets", 4, per_key=1)
"""Checking files of batches, evaluations and training, line by line."""

GUARDS: Final = Pool("guards", 2, per_key=1)
"""Searches of detectors in long texts: up to a second."""

SOUNDS: Final = Pool("sounds", 2)
"""Processing of long audio in a Realtime session: up to a fifth of a second."""

VALUES: Final = Pool("values", 4)
"""Flow expressions on large values: up to a second. See `ValueBudget.compute`."""

NAMES: Final = Pool("names", 32, per_key=4)
"""Resolving the names of hosts that keys chose: if the name servers are silent, a lookup takes half a minute."""

LOADING: Final = Pool("loading", 4)
"""Package imports, and other one-time work."""


RESOLVE_TIMEOUT_S: Final = 10.0
"""Maximum seconds to resolve the name of a host."""


async def resolve(host: str, port: int, family: int = 0) -> list[tuple[int, int, tuple[Any, ...]]]:
    """Return the family, protocol and address of each address of a host, on behalf of `KEY`.

    Raises `OSError`, and `TooMany` if the key has too many lookups in progress.
    """
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            address_infos = await NAMES.run_for(
                KEY.get(), socket.getaddrinfo, host, port, family, socket.SOCK_STREAM
            )
    except TimeoutError as error:
        raise OSError(f"the name '{host}' was not resolved within {RESOLVE_TIMEOUT_S:g} s") from error
    return [(kind, protocol, address) for kind, _, protocol, _, address in address_infos]


async def release_memory() -> None:
    """Return free memory to the system after a long piece of work; at most tens of milliseconds, in a thread.

    glibc lets threads allocate from separate arenas, up to eight for each processor. Memory that is freed in an arena
    stays there, even in its middle, until it is trimmed. With other allocators, the call does nothing.
    """
    trim = _malloc_trim()
    if trim is not None:
        await FILES.run(trim, 0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function of this name."""
    if sys.platform != "linux":
        return None
    import ctypes

    trim: Callable[[int], int] | None = getattr(
        ctypes.CDLL(None), "malloc_trim", None
    )  # musl does not have it
    return trim
