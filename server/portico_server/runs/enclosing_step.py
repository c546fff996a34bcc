"""The step of a durable run that calls an app or a tool. Nested steps are named after this step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import field
from itertools import count
from typing import Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.scoped_value import ScopedValue
from portico_server.db.steps import StepRow
from portico_server.runs.journal import Journal

GIVEN: Final = "given"
"""Key under which a flow's step stores the digest of the flow's input."""


def _unlimited(_size: int, _at: str) -> None:
    """Accept any size, for values with other limits."""


@dataclass(slots=True)
class EnclosingStep:
    """The step of a run within which a call is made.

    ``path`` and ``turn`` are those of the step; ``attempt`` is the path of the current attempt. ``calls`` is the
    number of apps that were called within the step; ``places`` contains the paths of the called flows. ``journal``
    records the calls of its agents and the steps of its flows; ``take`` counts their output.
    """

    path: str
    turn: int = 0
    attempt: str = ""
    journal: Journal | None = None
    take: Callable[[int, str], None] = _unlimited
    calls: int = 0
    places: set[str] = field(default_factory=set)
    answered: StepRow | None = None
    """The model's answer, as long as no further request has followed it."""
    within: str = ""
    """The step that surrounds a call and enters the journal only once it has ended."""

    @property
    def start(self) -> str:
        """Return the step from which the run can be resumed to repeat everything within the enclosing step."""
        return self.within or self.attempt or self.path

    def place(self, name: str) -> str:
        """Return the path of the next called flow, whose first step is ``name``."""
        self.calls += 1
        return f"{self.path}[{self.calls - 1}].{name}"

    def flow_place(self, journal: Journal, digest: str) -> str:
        """Return the path of a flow whose input has the digest ``digest``.

        If an earlier attempt called the flow with the same input, reuse the path of that call, regardless of the order
        of calls; otherwise return a new path.
        """
        for number in count():
            place = f"{self.attempt or self.path}[{number}]"
            row = journal.find(place)
            if place not in self.places and (
                row is None or orjson.loads(row.output or b"{}")[GIVEN] == digest
            ):
                self.places.add(place)
                return place
        raise AssertionError("there is always one more")

    def turn_path(self) -> str:
        """Return the path of an agent's next turn. The first turn has the path of the step itself."""
        self.calls += 1
        path = self.attempt or self.path
        return path if self.calls == 1 else f"{path}[{self.calls - 1}]"


AROUND: Final[ContextVar[EnclosingStep | None]] = ContextVar("portico_step", default=None)


def enclosed(step: EnclosingStep) -> AbstractContextManager[object]:
    """Give nested apps their enclosing step, so that no two of their effects share a key."""
    return ScopedValue(AROUND, step)


def durable_step(run: str) -> EnclosingStep | None:
    """Return the current step of a run, if the run is durable."""
    around = AROUND.get()
    journal = None if around is None else around.journal
    # This run may have been started from a step of another run.
    return around if journal is not None and journal.durable and journal.run_id == run else None
