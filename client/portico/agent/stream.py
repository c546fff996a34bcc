"""The events of a turn while it continues."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import copy_context

from portico.agent.message import Message
from portico.agent.stage import TELL, Heard
from portico.errors import Cancelled
from portico.wire import Finished


class _Turn:
    """A turn in a thread of its own, and what it tells."""

    def __init__(self, call: Callable[[], Message]) -> None:
        self._call = call
        self._stopped = threading.Event()
        self.queue: queue.SimpleQueue[Heard | BaseException | None] = queue.SimpleQueue()

    def run(self) -> None:
        TELL.set(self._tell)
        try:
            reply = self._call()
            self.queue.put(Heard("", Finished(reply)))
            self.queue.put(None)
        except BaseException as error:  # noqa: BLE001  # raised again where the events are read
            self.queue.put(error)

    def _tell(self, item: Heard) -> None:
        if self._stopped.is_set():
            raise Cancelled("Nobody listens to this turn any more.")
        if not isinstance(item.event, Finished):
            self.queue.put(item)

    def stop(self) -> None:
        """The next event ends the turn."""
        self._stopped.set()


def heard(call: Callable[[], Message]) -> Generator[Heard, None, None]:
    """All events of a call, the answer last."""
    turn = _Turn(call)
    thread = threading.Thread(target=copy_context().run, args=(turn.run,), name="portico-turn", daemon=True)
    thread.start()
    try:
        while (item := turn.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        turn.stop()
        thread.join()


async def listened(call: Callable[[], Awaitable[Message]]) -> AsyncGenerator[Heard, None]:
    """The same for asyncio."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Heard | None] = asyncio.Queue()

    def put(item: Heard) -> None:
        # A forward that is not asynchronous tells from a thread.
        if not isinstance(item.event, Finished):
            loop.call_soon_threadsafe(events.put_nowait, item)

    async def run() -> Message:
        TELL.set(put)
        try:
            return await call()
        finally:
            loop.call_soon_threadsafe(events.put_nowait, None)

    task = asyncio.create_task(run())
    try:
        while (item := await events.get()) is not None:
            yield item
        yield Heard("", Finished(await task))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
