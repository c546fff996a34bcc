"""Lets calls use the model one at a time, in order of arrival, and limits the number of waiting calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import CallerGone, Refusal

POLL_INTERVAL_S = 0.25
"""Seconds between checks that a waiting caller is still connected."""


class ModelQueue:
    """A queue of at most ``limit`` waiting callers for one model."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._condition = threading.Condition()
        self._line: deque[object] = deque()

    @property
    def busy(self) -> bool:
        """Return whether a new caller would have to wait."""
        return bool(self._line)

    @contextmanager
    def turn(self, has_left: Callable[[], bool]) -> Iterator[None]:
        """Wait for the model and reserve it inside the context.

        Raise `Refusal` (429) if the queue is full, and `CallerGone` once ``has_left()`` returns true.
        """
        ticket = object()
        with self._condition:
            if len(self._line) > self._limit:
                raise Refusal(
                    f"{self._limit} calls are already waiting for this model. Try again later.",
                    "queue_full",
                    status=429,
                )
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket:
                    self._condition.wait(POLL_INTERVAL_S)
                    if self._line[0] is not ticket and has_left():
                        raise CallerGone
            except BaseException:
                self._leave(ticket)
                raise
        try:
            yield
        finally:
            with self._condition:
                self._leave(ticket)

    def _leave(self, ticket: object) -> None:
        self._line.remove(ticket)
        self._condition.notify_all()
