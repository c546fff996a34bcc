"""Following a run to its end through lost connections, without I/O."""

from __future__ import annotations

from portico._calls.call import EventCall
from portico._calls.runs import run_events
from portico.errors import ConnectionLost
from portico.values import RunEvent
from portico.wire import Failed, Finished

ATTEMPTS = 5
"""Connections in a row that may bring nothing new."""


class Follow:
    """Where a listener stands in a run: what to ask for next, and how long to wait after a loss."""

    def __init__(self, run_id: str, after: int = 0) -> None:
        self._run = run_id
        self._after = after
        self._lost = 0
        self.done = False

    def call(self) -> EventCall[RunEvent]:
        return run_events(self._run, self._after)

    def saw(self, item: RunEvent) -> None:
        self._after = item.seq
        self._lost = 0
        self.done = isinstance(item.event, Finished | Failed)

    def pause(self, error: ConnectionLost) -> float:
        """Seconds until the next attempt; raises ``error`` when there were enough."""
        self._lost += 1
        if self._lost >= ATTEMPTS:
            raise error
        return 0.1 * 2.0**self._lost
