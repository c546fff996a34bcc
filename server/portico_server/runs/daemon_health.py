"""The daemon's own health, for monitoring: HTTP responses, and the lag of the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from portico_server.core.histogram import SHORT_BOUNDS, Histogram

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

OTHER_METHOD: Final = "(other)"
"""Label for methods and paths that do not exist, because clients can invent any number of them."""

SAMPLE_INTERVAL_S: Final = 0.25
"""Seconds between two samples of the event loop."""


class DaemonHealth:
    """Counters since the start of the daemon, all maintained on the event loop."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        """Number of responses by (method, route, status). Status 0 means that the client disconnected first."""
        self.durations: dict[str, Histogram] = {}
        """Seconds from a request to the end of its response, by route."""
        self.lag = Histogram(SHORT_BOUNDS)
        """Delay of the event loop compared with its schedule, in seconds."""
        self.worst = 0.0
        """The longest delay since the last call of `take_worst`, in seconds."""

    def count_answer(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response. ``route`` is a template, such as ``/api/stores/{store}``, or empty for no route."""
        route = route or OTHER_METHOD
        self.answers[method if method in METHODS else OTHER_METHOD, route, status] += 1
        histogram = self.durations.get(route)
        if histogram is None:
            histogram = self.durations[route] = Histogram()
        histogram.observe(seconds)

    def late(self, seconds: float) -> None:
        """Record a lag of the event loop."""
        self.lag.observe(seconds)
        self.worst = max(self.worst, seconds)

    def take_worst(self) -> float:
        """Return the longest lag since the last call of this method, in seconds."""
        worst, self.worst = self.worst, 0.0
        return worst

    async def watch(self) -> None:
        """Sample the event loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_INTERVAL_S
            await asyncio.sleep(SAMPLE_INTERVAL_S)
            self.late(max(0.0, loop.time() - due))
