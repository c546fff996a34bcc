"""The most recently ended runs, as many as fit in memory with their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from portico.wire import Delta, ToolReturned
from portico_server.runs.run import Run
from portico_server.runs.weight import weigh

MAX_ENDED_RUNS: Final = 200
"""Maximum number of ended runs that are kept."""

MAX_ENDED_BYTES: Final = 64 * 2**20
"""Approximate maximum bytes of the results and recordings together. If those of one run alone are larger, only that
run is kept.
"""

_EVENTS_WITH_TEXT: Final = (Delta, ToolReturned)


class EndedRuns:
    """The runs, oldest first."""

    def __init__(self) -> None:
        self._runs: deque[tuple[Run, int]] = deque()
        self._weight = 0

    def add(self, run: Run) -> None:
        """Add a run that has ended, and drop the oldest runs if they no longer fit."""
        weight = weigh(run.result, MAX_ENDED_BYTES)
        if run.recording is not None:
            weight += run.recording.bytes
        for event in run.log.kept:
            if isinstance(event, _EVENTS_WITH_TEXT):
                weight += len(event.text)
        self._runs.append((run, weight))
        self._weight += weight
        while len(self._runs) > MAX_ENDED_RUNS or (self._weight > MAX_ENDED_BYTES and len(self._runs) > 1):
            self._weight -= self._runs.popleft()[1]

    def get(self, run_id: str) -> Run | None:
        """Return one run."""
        return next((run for run, _ in self._runs if run.id == run_id), None)

    def __iter__(self) -> Iterator[Run]:
        return (run for run, _ in self._runs)

    def __reversed__(self) -> Iterator[Run]:
        return (run for run, _ in reversed(self._runs))
