"""Durations of database work, and of its callers' waits."""

from __future__ import annotations

from portico_server.core.histogram import SHORT_BOUNDS, Histogram


class Timings:
    """Durations of one kind of work: ``waited`` until a thread and a connection were free, ``took`` from then on."""

    __slots__ = ("running", "took", "waited", "waiting")

    def __init__(self) -> None:
        self.waited = Histogram(SHORT_BOUNDS)
        self.took = Histogram(SHORT_BOUNDS)
        self.waiting = 0
        """Number of calls that wait for a thread or a connection."""
        self.running = 0
        """Number of calls that are being executed."""
