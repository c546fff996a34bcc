"""Budgets that fill up again with time: so many in so many seconds. Pure: whoever asks says what time it is."""

from __future__ import annotations


class RateBucket:
    """Holds at most ``size`` and fills from empty to full in ``period`` seconds, evenly.

    It may be overdrawn, since what a call takes is often known only afterwards; then it first has to fill up to 0.
    ``now`` is a moment in seconds on any clock that never goes back.
    """

    __slots__ = ("_at", "_level", "period", "size")

    def __init__(self, size: float, period: float, now: float) -> None:
        self.size = size
        self.period = period
        self._level = size
        self._at = now

    def level(self, now: float) -> float:
        """How much is in it; less than 0 while it is overdrawn."""
        if now > self._at:
            self._level = min(self.size, self._level + (now - self._at) * self.size / self.period)
            self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take some out, whether it is there or not; a negative amount is given back."""
        self._level = min(self.size, self.level(now) - amount)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there; for more than it can hold, until it is full."""
        return max(0.0, (min(amount, self.size) - self.level(now)) * self.period / self.size)

    def full(self, now: float) -> float:
        """Seconds until it is full."""
        return (self.size - self.level(now)) * self.period / self.size
