"""Runs that have ended lately, as many as there is room for what they gave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any, Final

from portico_server.runs.run import Run

MOST: Final = 200
"""Ended runs that can still be looked at."""

ROOM: Final = 64 * 2**20
"""Bytes, about, that their results may take together; of a larger one the run itself is kept alone."""

_OBJECT: Final = 64
_LOOKED_AT: Final = 1_000
"""Items of a list that are weighed; the others are taken to be like them."""


class Recent:
    """The runs, oldest first."""

    def __init__(self) -> None:
        self._runs: deque[tuple[Run, int]] = deque()
        self._weight = 0

    def add(self, run: Run) -> None:
        """One that has just ended. The oldest are forgotten for it."""
        weight = weigh(run.result)
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
    """How many bytes a result takes, about."""
    if value is None:  # of every call that is relayed
        return _OBJECT
    match value:
        case str() | bytes():
            return _OBJECT + len(value)
        case Mapping():
            return _OBJECT + _weigh_all([*value.keys(), *value.values()])
        case list() | tuple():
            return _OBJECT + _weigh_all(value)
    if is_dataclass(value):
        return _OBJECT + sum(weigh(getattr(value, field.name)) for field in fields(value))
    return _OBJECT


def _weigh_all(items: list[Any] | tuple[Any, ...]) -> int:
    weight = sum(weigh(item) for item in islice(items, _LOOKED_AT))
    return weight if len(items) <= _LOOKED_AT else weight * len(items) // _LOOKED_AT
