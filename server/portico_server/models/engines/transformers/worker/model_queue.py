"""Lets one call at a time use the model, in the order in which they came; only so many may wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import CallerGone, Refusal

POLL_INTERVAL_S = 0.25
"""Seconds between two looks at whether a waiting caller is still there."""


class ModelQueue:
    """A line of at most ``limit`` waiting callers before one model."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @property
    def busy(self) -> bool:
        """Whether a new caller would have to wait."""
        return bool(self._line)

    @contextmanager
    def turn(self, has_left: Callable[[], bool]) -> Iterator[None]:
        """Wait for the model and have it. Raises `Refusal` (429) if the line is full, `CallerGone` if ``gone()`` says
        so.
        """
        ticket = object()
        with self._changed:
            if len(self._line) > self._limit:
                raise Refusal(
                    f"{self._limit} calls wait for this model already. Try again later.",
                    "queue_full",
                    status=429,
                )
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket:
                    self._changed.wait(POLL_INTERVAL_S)
                    if self._line[0] is not ticket and has_left():
                        raise CallerGone
            except BaseException:
                self._leave(ticket)
                raise
        try:
            yield
        finally:
            with self._changed:
                self._leave(ticket)

    def _leave(self, ticket: object) -> None:
        self._line.remove(ticket)
        self._changed.notify_all()
