"""Thread pools for blocking work. Each kind of work has its own pool, so that slow or stuck work of one kind does not
delay the others.

The event loop's default pool only resolves host names that the operator chose; a test forbids any other use.
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
        """Run ``work`` and return its result. The work runs to its end even if the caller is cancelled."""
        return await self.begin(work, *args, **kwargs)

    def begin(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start ``work`` and return a future, for a caller that must wait for the end even if it is cancelled."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, f"portico-{self._kind}")
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def run_for(self, key: str, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on behalf of a key, which may use only some of the threads. Raises `TooMany` if too many calls are
        waiting.
        """
        if self._slots is None:
            return await self.run(work, *args, **kwargs)
        async with self._slots.hold(key):
            running = self.begin(work, *args, **kwargs)
            try:
                return await asyncio.shield(running)
            finally:
                # The thread remains in use until the work has ended, even if the caller was cancelled.
                if not running.done():
                    self._slots.keep(key, running)

    def _forget(self) -> None:
        self._executor = None  # a forked process has no threads of its parent


FILES: Final = Pool("files", 8)
"""Reading and writing small files and folders: milliseconds."""

UPLOADS: Final = Pool("uploads", 8)
"""Writing the content of clients' files to disk, one piece at a time."""

MAIL: Final = Pool("mail", 4)
"""Mailbox commands, each with a deadline for the answer."""

SEARCH: Final = Pool("search", 4)
"""Searching an index."""

INDEX: Final = Pool("index", 4)
"""Writing, building and opening indexes: seconds."""

MODELS: Final = Pool("models", 6)
"""Reading, unpacking and checking the files of models and environments: minutes."""

TRAINING: Final = Pool("training", 4)
"""Files of fine-tuning."""

DOCUMENTS: Final = Pool("documents", 4, per_key=2)
"""Parsing external documents: pages, listings, and API descriptions."""

DATASETS: Final = Pool("datasets", 4, per_key=1)
"""Checking the files of batches, evaluations and training, line by line."""

GUARDS: Final = Pool("guards", 2, per_key=1)
"""Searching long texts with a guard's detectors: up to a second."""

SOUNDS: Final = Pool("sounds", 2)
"""Processing long audio in a Realtime session: up to a fifth of a second."""

VALUES: Final = Pool("values", 4)
"""Evaluating flow expressions on large values: up to a second. See `ValueBudget.compute`."""

NAMES: Final = Pool("names", 32, per_key=4)
"""Resolving host names that keys chose: if the name servers do not respond, a lookup takes half a minute."""

LOADING: Final = Pool("loading", 4)
"""Importing packages, and other work that is done only once."""


RESOLVE_TIMEOUT_S: Final = 10.0
"""Maximum seconds to resolve a host name."""


async def resolve(host: str, port: int, family: int = 0) -> list[tuple[int, int, tuple[Any, ...]]]:
    """Return the family, protocol and address of each address of a host. The lookup is charged to the key in `KEY`.

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
    """Return free memory to the system after a long task; this takes at most tens of milliseconds, in a thread.

    glibc lets threads allocate from separate arenas, up to eight for each processor. Memory that is freed in the
    middle of an arena is not returned until the arena is trimmed. With other allocators, the call does nothing.
    """
    trim = _malloc_trim()
    if trim is not None:
        await FILES.run(trim, 0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's ``malloc_trim`` function, or ``None`` if it does not exist."""
    if sys.platform != "linux":
        return None
    import ctypes

    trim: Callable[[int], int] | None = getattr(
        ctypes.CDLL(None), "malloc_trim", None
    )  # musl does not have this function
    return trim
