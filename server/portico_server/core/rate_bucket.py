"""Budgets that refill continuously, at a number of units per period. Pure: the caller passes the time."""

from __future__ import annotations


class RateBucket:
    """A budget of at most ``size`` that refills evenly, from empty to full in ``period`` seconds.

    It may be overdrawn, because the cost of a call is often known only afterwards; then it must first refill to 0.
    ``now`` is a time in seconds on any clock that never goes backwards.
    """

    __slots__ = ("_at", "_level", "period", "size")

    def __init__(self, size: float, period: float, now: float) -> None:
        self.size = size
        self.period = period
        self._level = size
        self._at = now

    def level(self, now: float) -> float:
        """Return the current level, which is negative while the budget is overdrawn."""
        if now > self._at:
            self._level = min(self.size, self._level + (now - self._at) * self.size / self.period)
            self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take an amount, even if the budget is overdrawn by it; a negative amount is returned to the budget."""
        self._level = min(self.size, self.level(now) - amount)

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` is available. If ``amount`` exceeds ``size``, return the seconds until
        the budget is full.
        """
        return max(0.0, (min(amount, self.size) - self.level(now)) * self.period / self.size)

    def full(self, now: float) -> float:
        """Return the seconds until the budget is full."""
        return (self.size - self.level(now)) * self.period / self.size
