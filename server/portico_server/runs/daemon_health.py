"""What the daemon knows of its own health, for monitoring: answers over HTTP, and how late the event loop is."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from portico_server.core.histogram import SHORT_BOUNDS, Histogram

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

OTHER_METHOD: Final = "(other)"
"""What is counted in place of a method or a path that does not exist: a client can make up any."""

SAMPLE_INTERVAL_S: Final = 0.25
"""Seconds between two looks at the event loop."""


class DaemonHealth:
    """Counted since the start of the daemon; all of it on the event loop."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        """Answers by method, route and status; 0: the client left first."""
        self.durations: dict[str, Histogram] = {}
        """Seconds from a request to the end of its answer, by route."""
        self.lag = Histogram(SHORT_BOUNDS)
        """Seconds by which the event loop came later than it was to."""
        self.worst = 0.0
        """The most of them since `take_worst`."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has its answer. ``route`` is a template, such as ``/api/stores/{store}``, or empty for no route."""
        route = route or OTHER_METHOD
        self.answers[method if method in METHODS else OTHER_METHOD, route, status] += 1
        histogram = self.durations.get(route)
        if histogram is None:
            histogram = self.durations[route] = Histogram()
        histogram.observe(seconds)

    def late(self, seconds: float) -> None:
        """The event loop came so late."""
        self.lag.observe(seconds)
        self.worst = max(self.worst, seconds)

    def take_worst(self) -> float:
        """The longest lag since this was asked last."""
        worst, self.worst = self.worst, 0.0
        return worst

    async def watch(self) -> None:
        """Look at the event loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_INTERVAL_S
            await asyncio.sleep(SAMPLE_INTERVAL_S)
            self.late(max(0.0, loop.time() - due))
