"""The way from a step that failed to a later one."""

from __future__ import annotations

from typing import Any


class JumpToStep(Exception):  # it is not an error: a pipeline further out continues from it
    """An error that becomes a jump to a later step of a pipeline, into which ``value`` flows."""

    def __init__(self, step: str, value: Any) -> None:
        super().__init__(step)
        self.step = step
        self.value = value
