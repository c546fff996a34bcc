"""Notifications whose toasts do not freeze the app."""

from __future__ import annotations

import time

from textual.notifications import Notification

MIN_TOAST_S = 0.01
"""Minimum time, in seconds, for which a toast is shown."""


class TimedNotification(Notification):
    """A notification whose remaining time is never negative.

    If a notification expires while its toast is made, Textual sets a timer with this negative time, and the loop of
    that timer never ends and never waits.
    """

    @property
    def time_left(self) -> float:
        """Return the seconds for which a toast is shown."""
        return max(self._expires_at - time.time(), MIN_TOAST_S)

    @property
    def has_expired(self) -> bool:
        return time.time() >= self._expires_at

    @property
    def _expires_at(self) -> float:
        return self.raised_at + self.timeout
