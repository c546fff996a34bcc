"""The jump from a failed step to a later step."""

from __future__ import annotations

from typing import Any


class JumpToStep(Exception):  # not an error: an outer pipeline continues from it
    """An error turned into a jump to a later step of a pipeline, with ``value`` as its input."""

    def __init__(self, step: str, value: Any) -> None:
        super().__init__(step)
        self.step = step
        self.value = value
