"""Runs that have ended lately, as many as there is room for what they gave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from portico.wire import Delta, ToolReturned
from portico_server.core.request import Vectors
from portico_server.runs.run import Run

MOST: Final = 200
"""Ended runs that can still be looked at."""

ROOM: Final = 64 * 2**20
"""Bytes, about, that their results may take together; of a larger one the run itself is kept alone."""

_OBJECT: Final = 64
_MAX_PARTS: Final = 20_000
"""Values within a result that are looked at; one that has more is taken to fill the room."""


class Recent:
    """The runs, oldest first."""

    def __init__(self) -> None:
        self._runs: deque[tuple[Run, int]] = deque()
        self._weight = 0

    def add(self, run: Run) -> None:
        """One that has just ended. The oldest are forgotten for it."""
        weight = weigh(run.result) + sum(
            len(event.text) for event in run.log.kept if isinstance(event, Delta | ToolReturned)
        )
        self._runs.append((run, weight))
        self._weight += weight
        while len(self._runs) > MOST or (self._weight > ROOM and len(self._runs) > 1):
            self._weight -= self._runs.popleft()[1]

    def get(self, run_id: str) -> Run | None:
        """One of them."""
        return next((run for run, _ in self._runs if run.id == run_id), None)

    def __iter__(self) -> Iterator[Run]:
        return (run for run, _ in self._runs)

    def __reversed__(self) -> Iterator[Run]:
        return (run for run, _ in reversed(self._runs))


def weigh(value: Any) -> int:
    """How many bytes a result takes, about; `ROOM` if it has too many parts to be looked at."""
    if value is None:  # of every call that is relayed
        return _OBJECT
    weight, looked = 0, 0
    stack = [value]
    while stack:
        found = stack.pop()
        looked += 1
        weight += _OBJECT
        match found:
            case str() | bytes():
                weight += len(found)
                continue
            case Vectors():
                weight += sum(map(len, found.data))
                continue
            case Mapping():
                if len(found) > _MAX_PARTS:
                    return max(weight, ROOM)
                inner: list[Any] = [*found.keys(), *found.values()]
            case list() | tuple():
                if len(found) > _MAX_PARTS:
                    return max(weight, ROOM)
                inner = list(found)
            case _ if is_dataclass(found):
                inner = [getattr(found, field.name) for field in fields(found)]
            case _:
                continue
        if looked + len(stack) + len(inner) > _MAX_PARTS:
            return max(weight, ROOM)
        stack += inner
    return weight
