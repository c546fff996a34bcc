"""Measures how much time it takes to load and unload a model. The result determines how long other models leave it
loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class ChangeCost:
    """The seconds that a model's last start took, plus its first answers, which process whole prompts, plus its last
    stop.

    The first answers are those to calls that waited for the start. They count for at most as long as the start itself.
    ``clock`` returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = 0.0
        self._end = 0.0
        self._ready = 0.0
        self._answered_at: float | None = None
        self._due = 0
        """Number of first answers that are not complete yet."""

    def record_start(self, since: float, calls: int) -> None:
        """Record that the process is ready. Its start began at ``since``, and ``calls`` calls waited for it."""
        self._ready = self._clock()
        self._start = self._ready - since
        self._due = calls
        self._answered_at = None if calls else self._ready

    def call_ended(self) -> None:
        """Record that a call has ended with an answer or an error."""
        self._due -= 1
        if self._due <= 0 and self._answered_at is None:
            self._answered_at = self._clock()

    def record_end(self, since: float) -> None:
        """Record that the process has ended. Its stop began at ``since``, when no calls were in progress."""
        self._end = self._clock() - since

    @property
    def in_use_since(self) -> float:
        """The time at which the first answers were complete, or the current time if they are not complete yet. It is
        never later than the duration of the start after the process was ready.
        """
        return min(
            self._clock() if self._answered_at is None else self._answered_at, self._ready + self._start
        )

    @property
    def seconds(self) -> float:
        """The total cost in seconds."""
        return self._start + self.in_use_since - self._ready + self._end
