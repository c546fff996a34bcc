"""The most recently ended runs, as many as fit in memory with their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Final

from portico.wire import (
    Delta,
    ToolReturned,
    field_names,
)
from portico_server.core.request import Vectors
from portico_server.runs.run import Run

MAX_ENDED_RUNS: Final = 200
"""Maximum number of ended runs that are kept."""

MAX_ENDED_BYTES: Final = 64 * 2**20
"""Approximate maximum bytes of the results together. If one result alone is larger, only its run is kept."""

_OBJECT_BYTES: Final = 64
_NUMBERS: Final = frozenset({int, float, bool})
_MAX_PARTS: Final = 20_000
"""Maximum number of values in a result that are measured. A larger result counts as `MAX_ENDED_BYTES`."""

_EVENTS_WITH_TEXT: Final = (Delta, ToolReturned)


class EndedRuns:
    """The runs, oldest first."""

    def __init__(self) -> None:
        self._runs: deque[tuple[Run, int]] = deque()
        self._weight = 0

    def add(self, run: Run) -> None:
        """Add a run that has ended, and drop the oldest runs if they no longer fit."""
        weight = weigh(run.result)
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


def weigh(value: Any) -> int:
    """Return the approximate bytes of a result; `MAX_ENDED_BYTES` if it has too many values to measure."""
    if value is None:  # the results of relayed calls are always None
        return _OBJECT_BYTES
    weight, part_count = 0, 0
    stack = [value]
    while stack:
        part = stack.pop()
        part_count += 1
        weight += _OBJECT_BYTES
        if part is None or type(part) in _NUMBERS:
            continue
        match part:
            case str() | bytes():
                weight += len(part)
                continue
            case Vectors():
                weight += sum(map(len, part.data))
                continue
            case Mapping():
                if len(part) > _MAX_PARTS:
                    return max(weight, MAX_ENDED_BYTES)
                inner: list[Any] = [*part.keys(), *part.values()]
            case list() | tuple():
                if len(part) > _MAX_PARTS:
                    return max(weight, MAX_ENDED_BYTES)
                inner = list(part)
            case _ if is_dataclass(type(part)):
                inner = [getattr(part, name) for name in field_names(part.__class__)]
            case _:
                continue
        if part_count + len(stack) + len(inner) > _MAX_PARTS:
            return max(weight, MAX_ENDED_BYTES)
        stack += inner
    return weight
