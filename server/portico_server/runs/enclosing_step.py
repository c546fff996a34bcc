"""The step of a durable run that calls an app or a tool; nested steps are named after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from itertools import count
from typing import Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.db.steps import StepRow
from portico_server.runs.journal import Journal

GIVEN: Final = "given"
"""Name under which the step of a flow stores the digest of the flow's input."""


def _unlimited(_size: int, _at: str) -> None:
    """Accept any size, for values with other limits."""


@dataclass(slots=True)
class EnclosingStep:
    """The step that encloses a call.

    ``path`` and ``turn`` are the step's, ``attempt`` is the path of this attempt of it. ``calls`` counts the apps that
    were called within the step; ``places`` has the paths of its flows. ``journal`` has the calls of its agents and the
    steps of its flows; ``take`` counts their output.
    """

    path: str
    turn: int = 0
    attempt: str = ""
    journal: Journal | None = None
    take: Callable[[int, str], None] = _unlimited
    calls: int = 0
    places: set[str] = field(default_factory=set)
    answered: StepRow | None = None
    """The model's answer, if no request has followed it."""
    within: str = ""
    """The step around a call, which enters the journal only once it has ended."""

    @property
    def start(self) -> str:
        """Return the step from which a run can be resumed to repeat all of this."""
        return self.within or self.attempt or self.path

    def place(self, name: str) -> str:
        """Return the path of the next called flow, whose first step is ``name``."""
        self.calls += 1
        return f"{self.path}[{self.calls - 1}].{name}"

    def flow_place(self, journal: Journal, digest: str) -> str:
        """Return the path of a flow whose input has the digest ``digest``.

        If an earlier attempt called it with the same input, reuse that path, regardless of the order of calls;
        otherwise return a new path.
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
        """Return the path of the next turn of an agent: the path of the step itself if there is only one turn."""
        self.calls += 1
        path = self.attempt or self.path
        return path if self.calls == 1 else f"{path}[{self.calls - 1}]"


AROUND: Final[ContextVar[EnclosingStep | None]] = ContextVar("portico_step", default=None)


@contextmanager
def enclosed(step: EnclosingStep) -> Iterator[None]:
    """Tell nested apps their enclosing step, so that no two of their effects share a key."""
    token = AROUND.set(step)
    try:
        yield
    finally:
        AROUND.reset(token)


def durable_step(run: str) -> EnclosingStep | None:
    """Return the current step of a run, if the run is durable."""
    around = AROUND.get()
    journal = None if around is None else around.journal
    # A step of another run may have started this run.
    return around if journal is not None and journal.durable and journal.run_id == run else None
