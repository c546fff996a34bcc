"""The step of a durable run within which an app or a tool is called: what lies further down is named after it."""

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
"""Under which name that of a flow holds the digest of what the flow was called with."""


def _unlimited(_size: int, _at: str) -> None:
    """For what is limited otherwise."""


@dataclass(slots=True)
class EnclosingStep:
    """``path`` and ``turn`` are the step's, ``attempt`` the path of this attempt of it; ``calls`` counts the apps that
    were called within it, ``places`` has those of its flows. ``journal`` has the calls of its agents and the steps of
    its flows, ``take`` counts what they put out.
    """

    path: str
    turn: int = 0
    attempt: str = ""
    journal: Journal | None = None
    take: Callable[[int, str], None] = _unlimited
    calls: int = 0
    places: set[str] = field(default_factory=set)
    answered: StepRow | None = None
    """The model's answer, if nothing has been asked since."""
    within: str = ""
    """The step around a call, which is in the journal only once it has ended."""

    @property
    def start(self) -> str:
        """The step from which a run can be resumed to do all of this again."""
        return self.within or self.attempt or self.path

    def place(self, name: str) -> str:
        """The path of the next flow that is called, whose first step is ``name``."""
        self.calls += 1
        return f"{self.path}[{self.calls - 1}].{name}"

    def flow_place(self, journal: Journal, digest: str) -> str:
        """The path of a flow that is called with what has the digest ``digest``: where an earlier attempt
        called it with the same, whichever of several calls is made first, else one that is new.
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
        """The path of the next turn of an agent: that of the step itself, for the only one."""
        self.calls += 1
        path = self.attempt or self.path
        return path if self.calls == 1 else f"{path}[{self.calls - 1}]"


AROUND: Final[ContextVar[EnclosingStep | None]] = ContextVar("portico_step", default=None)


@contextmanager
def enclosed(step: EnclosingStep) -> Iterator[None]:
    """Let apps that are called from here on know where they are, so that no two of their effects share a key."""
    token = AROUND.set(step)
    try:
        yield
    finally:
        AROUND.reset(token)


def durable_step(run: str) -> EnclosingStep | None:
    """The step at work of a run, if that is durable."""
    around = AROUND.get()
    journal = None if around is None else around.journal
    # A step of another run may have begun this one.
    return around if journal is not None and journal.durable and journal.run_id == run else None
