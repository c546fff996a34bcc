"""A pipe that carries events from the task that makes them to the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from portico_server.core.event import MAX_UNREAD_EVENTS
from portico_server.features.responses.open_items import Event


class EventPipe:
    """A pipe with one writer and one reader. The writer waits while too many events are unread."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._has_events = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_closed = False

    async def put(self, events: Sequence[Event]) -> None:
        """Add events that must be delivered together."""
        while len(self._events) > MAX_UNREAD_EVENTS:
            self._has_room.clear()
            await self._has_room.wait()
        self._events += events
        self._has_events.set()

    def close(self, _task: object = None) -> None:
        """End the stream of events."""
        self._is_closed = True
        self._has_events.set()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Yield all events in order until the pipe is closed; events that are available together form one batch."""
        while True:
            await self._has_events.wait()
            self._has_events.clear()
            batch, self._events = self._events, []
            self._has_room.set()
            if batch:
                yield batch
            if self._is_closed and not self._events:
                return
