"""The ordered event log of a run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from portico.wire import Event, Failed, Finished

MAX_KEPT_EVENTS = 2_000
"""Number of most recent events kept for listeners that connect late or reconnect."""

MAX_UNREAD_EVENTS = 256
"""Maximum number of events that a listener may have unread before `EventLog.emit` waits."""


ENDINGS = (Failed, Finished)
"""Events that end the log."""


class EventLog:
    """A log of numbered events. Listeners get all events in order; a slow listener slows the run and never loses an
    event.

    ``last`` is the number of the last event before this log began: 0, or more if the run was resumed.
    """

    def __init__(self, last: int = 0) -> None:
        self._recent_events: deque[tuple[int, Event]] = deque(maxlen=MAX_KEPT_EVENTS)
        self._last = last
        self._queues: set[asyncio.Queue[tuple[int, Event]]] = set()
        self._is_closed = False

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._last

    @property
    def kept(self) -> Iterator[Event]:
        """The most recent events, which a late listener receives first."""
        return (event for _number, event in self._recent_events)

    async def emit(self, event: Event) -> None:
        """Append an event. Events after `Finished` or `Failed` are ignored."""
        if self._is_closed:
            return
        self._last += 1
        self._is_closed = isinstance(event, ENDINGS)
        numbered_event = (self._last, event)
        self._recent_events.append(numbered_event)
        for queue in tuple(self._queues):
            await queue.put(numbered_event)

    async def batches(self, ahead: int = MAX_UNREAD_EVENTS) -> AsyncIterator[list[tuple[int, Event]]]:
        """Yield all events from the first one until the run ends; events that are available together form one batch.

        ``ahead`` is the number of unread events at which the run waits.
        """
        batch = list(self._recent_events)
        has_ended = self._is_closed
        with self._listening(ahead) as queue:
            if batch:
                yield batch
            while not has_ended:
                batch = [await queue.get()]
                while not queue.empty():
                    batch.append(queue.get_nowait())
                has_ended = isinstance(batch[-1][1], ENDINGS)
                yield batch

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, Event], None]:
        """Yield the events with a number above ``after``, in order, until the run ends.

        Events that are no longer in the log are skipped; the number of the first event shows the gap.
        """
        backlog = [item for item in self._recent_events if item[0] > after]
        has_ended = self._is_closed
        with self._listening(MAX_UNREAD_EVENTS) as queue:
            for item in backlog:
                yield item
            while not has_ended:
                item = await queue.get()
                has_ended = isinstance(item[1], ENDINGS)
                yield item

    async def since(self, after: int, wait_s: float) -> tuple[list[tuple[int, Event]], bool]:
        """Return the stored events with a number above ``after``, and whether the log has ended.

        If there are no such events yet, wait up to ``wait_s`` seconds for one.
        """
        if not self._is_closed and self._last <= after:
            with suppress(TimeoutError), self._listening(MAX_UNREAD_EVENTS) as queue:
                async with asyncio.timeout(wait_s):
                    await queue.get()
        return [item for item in self._recent_events if item[0] > after], self._is_closed

    @contextmanager
    def _listening(self, ahead: int) -> Iterator[asyncio.Queue[tuple[int, Event]]]:
        """Yield a queue that receives all future events; if the run has ended, the queue stays empty."""
        queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue(maxsize=ahead)
        if not self._is_closed:
            self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
            # A run that waits for space in this queue must not wait for a listener that has disconnected.
            while not queue.empty():
                queue.get_nowait()
