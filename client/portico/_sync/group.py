# Generated from portico._async by scripts/sdk: change it there.
"""The base class of all call groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from portico._keywords import exact_methods
from portico._sse import EventReader
from portico._transport import Transport
from portico.errors import ConnectionLost, DeadlineExceeded

T = TypeVar("T")

MAX_ATTEMPTS = 5
"""Maximum number of consecutive connection attempts that deliver nothing new."""

MIN_POLL_INTERVAL_S, MAX_POLL_INTERVAL_S = 0.1, 2.0
"""The first interval between polls, which then grows, and the longest interval, in seconds."""


class Group:
    """Calls about one noun."""

    def __init_subclass__(cls) -> None:
        exact_methods(cls)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _follow(self, path: str, reader: EventReader[T]) -> Iterator[T]:
        """Iterate over the events of a stream until it ends. After a lost connection, continue after the last event
        received.
        """
        lost_count = 0
        while not reader.done:
            headers = {"last-event-id": str(reader.last)} if reader.last else {}
            try:
                for item in self._transport.stream("GET", path, reader, headers=headers):
                    lost_count = 0
                    yield item
            except ConnectionLost:
                lost_count += 1
                if lost_count == MAX_ATTEMPTS:
                    raise
                self._transport.sleep(0.1 * 2.0**lost_count)

    def _wait(
        self,
        look: Callable[[], Any],
        has_ended: Callable[[Any], bool],
        subject: str,
        timeout: float | None,
        progress: Callable[[Any], object] | None,
    ) -> Any:
        """Call ``look`` repeatedly and return its first result that ``has_ended`` accepts; lost connections are
        retried. ``progress`` is called with each result. Raises `DeadlineExceeded`, naming ``subject``, after
        ``timeout`` seconds; the work itself continues.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause, lost_count = MIN_POLL_INTERVAL_S, 0
        while True:
            try:
                state = look()
            except ConnectionLost:
                lost_count += 1
                if lost_count == MAX_ATTEMPTS:
                    raise
            else:
                lost_count = 0
                if progress is not None:
                    progress(state)
                if has_ended(state):
                    return state
            if end is not None and time.monotonic() + pause > end:
                raise DeadlineExceeded(f"{subject} has not finished within {timeout:g} s; it continues.")
            self._transport.sleep(pause)
            pause = min(MAX_POLL_INTERVAL_S, pause * 1.5)
