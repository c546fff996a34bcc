"""What it costs to have a model here: what others who want its memory leave it in return."""

from __future__ import annotations

import time
from collections.abc import Callable


class ChangeCost:
    """Seconds of a model's last start, of the first answers, which it reads whole prompts for, and of its last end.

    The first answers are those to the calls that have waited for the start; they count as long as it at most.
    ``clock`` counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = 0.0
        self._end = 0.0
        self._ready = 0.0
        self._answered: float | None = None
        self._due = 0
        """Of the first answers."""

    def started(self, since: float, calls: int) -> None:
        """Its process is ready, ``since`` which it has been started; so many ``calls`` have waited for it."""
        self._ready = self._clock()
        self._start = self._ready - since
        self._due = calls
        self._answered = None if calls else self._ready

    def call_ended(self) -> None:
        """A call has its answer, or an error."""
        self._due -= 1
        if self._due <= 0 and self._answered is None:
            self._answered = self._clock()

    def ended(self, since: float) -> None:
        """Its process is gone, ``since`` which it had no call and was to end."""
        self._end = self._clock() - since

    @property
    def in_use_since(self) -> float:
        """When the first answers had been given; now, if they have not yet."""
        return min(self._clock() if self._answered is None else self._answered, self._ready + self._start)

    @property
    def seconds(self) -> float:
        """All of it together."""
        return self._start + self.in_use_since - self._ready + self._end
