"""The step of a flow within which an app or a tool is called: what a flow further down is named after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class Around:
    """``path`` and ``turn`` are the step's; ``calls`` counts the flows that were called within it."""

    path: str
    turn: int
    calls: int = 0

    def place(self, name: str) -> str:
        """The path of the next flow that is called, whose first step is ``name``."""
        self.calls += 1
        return f"{self.path}[{self.calls - 1}].{name}"


AROUND: Final[ContextVar[Around | None]] = ContextVar("portico_step", default=None)


@contextmanager
def within(path: str, turn: int) -> Iterator[None]:
    """Let flows that are called from here on know where they are, so that no two of their effects share a key."""
    token = AROUND.set(Around(path, turn))
    try:
        yield
    finally:
        AROUND.reset(token)
