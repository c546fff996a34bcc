"""The jump from a failed step to a later step."""

from __future__ import annotations

from typing import Any


class JumpToStep(Exception):  # not an error: an outer pipeline catches it and continues at the step
    """A jump that replaces the error of a step. A pipeline continues at its later step ``step``, with ``value`` as the
    input.
    """

    def __init__(self, step: str, value: Any) -> None:
        super().__init__(step)
        self.step = step
        self.value = value
