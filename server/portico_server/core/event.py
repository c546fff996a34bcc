"""The ordered event log of one run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from portico.wire import Event, Failed, Finished

KEPT = 2_000
"""Events kept for a listener that comes late or comes back."""

AHEAD = 256
"""Events a run may be ahead of its slowest live listener before `EventLog.emit` waits."""


class EventLog:
    """Numbered events. Listeners get all of them in order; a slow one slows the run, never loses an event.

    ``last`` is the number of the last event before this log began: 0, or more when a run was taken up again.
    """

    def __init__(self, last: int = 0) -> None:
        self._kept: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self._last = last
        self._queues: set[asyncio.Queue[tuple[int, Event]]] = set()
        self._closed = False

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._last

    async def emit(self, event: Event) -> None:
        """Append. After `Finished` or `Failed` nothing more is taken."""
        if self._closed:
            return
        self._last += 1
        self._closed = isinstance(event, Finished | Failed)
        numbered = (self._last, event)
        self._kept.append(numbered)
        for queue in tuple(self._queues):
            await queue.put(numbered)

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """Events with a number above ``after``, in order, until the run ends.

        Those that fell out of the log are skipped: the first number that arrives tells.
        """
        queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue(maxsize=AHEAD)
        backlog = [item for item in self._kept if item[0] > after]
        ended = self._closed
        if not ended:
            self._queues.add(queue)
        try:
            for item in backlog:
                yield item
            while not ended:
                item = await queue.get()
                ended = isinstance(item[1], Finished | Failed)
                yield item
        finally:
            self._queues.discard(queue)
            # A run that waits for room in this queue must not wait for a listener that has left.
            while not queue.empty():
                queue.get_nowait()
