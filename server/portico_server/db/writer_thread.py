"""The single thread that writes to a database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

from portico_server.db.timings import Timings

T = TypeVar("T")


WriteJob: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any], float]


class WriterThread:
    """Runs jobs in a thread, one after another.

    An executor with one thread would do the same at twice the cost, which every durable step of a flow would pay.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.timings = Timings()
        self._jobs: SimpleQueue[WriteJob | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._at_work = False

    @property
    def busy(self) -> bool:
        """Return whether the thread has work."""
        return self._at_work or not self._jobs.empty()

    @property
    def waiting(self) -> int:
        """The number of jobs that have not started."""
        return self._jobs.qsize()

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue ``work`` and return its future. If the future is cancelled before the work starts, the work is
        skipped.
        """
        if self._is_closed:
            raise RuntimeError(f"{self._name} is closed.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, work, perf_counter()))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._at_work = True
            loop, future, work, since = job
            start_time = perf_counter()
            self.timings.waited.observe(start_time - since)
            resolve_future: Callable[..., None] = _set_result
            outcome: Any = None
            if not future.cancelled():
                try:
                    outcome = work()
                except BaseException as error:  # noqa: BLE001  # whoever waits gets it
                    resolve_future, outcome = _set_exception, error
            self.timings.took.observe(perf_counter() - start_time)
            self._at_work = False  # set before the waiting caller continues and checks `busy`
            _resolve(loop, resolve_future, future, outcome)
            del job, loop, future, work, outcome  # free them now, because the next job may arrive much later

    def close(self) -> None:
        """Finish the queued jobs, then stop the thread."""
        self._is_closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()


def _resolve(
    loop: asyncio.AbstractEventLoop, resolve: Callable[..., None], future: Any, outcome: Any
) -> None:
    try:
        loop.call_soon_threadsafe(resolve, future, outcome)
    except RuntimeError:  # the loop has ended, and so have its waiting tasks
        return


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
