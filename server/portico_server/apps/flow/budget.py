"""What the values of a flow may hold: each of them, and all that its steps put out in one run."""

from __future__ import annotations

from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import JsonSizes

MAX_VALUE_MB: Final = 16
"""Size of one value as JSON, in MiB, unless a setting says otherwise."""

MAX_RUN_MB: Final = 512
"""Size of what the steps of one run put out, in MiB, unless a setting says otherwise."""


class ValueBudget:
    """Both limits, and what one run has used. Values are counted as their JSON before it is written."""

    __slots__ = ("_max_run", "_max_value", "_sizes", "_taken")

    def __init__(self, max_value_mb: int = MAX_VALUE_MB, max_run_mb: int = MAX_RUN_MB) -> None:
        """In MiB; 0 means no limit."""
        self._max_value = max_value_mb * 2**20 or 2**62
        self._max_run = max_run_mb * 2**20 or 2**62
        self._sizes = JsonSizes(self._max_value)
        self._taken = 0

    def fresh(self) -> ValueBudget:
        """The same limits for another run."""
        made = ValueBudget()
        made._max_value, made._max_run = self._max_value, self._max_run
        made._sizes = JsonSizes(self._max_value)
        return made

    def require(self, value: Any, at: str) -> Any:
        """The value. Raises `InvalidRequest` that names ``at`` if it is too large."""
        if not isinstance(value, bool | int | float | None):
            self.require_size(self._sizes.of(value), at)
        return value

    def require_size(self, size: int, at: str) -> None:
        """The same for what has that many bytes."""
        if size > self._max_value:
            raise InvalidRequest(
                f"{at}: the value is larger than {self._max_value // 2**20} MiB, which is the most that a value of a "
                "flow may have (the setting flow_value_mb).",
                code="value_too_large",
                param=at,
            )

    def take(self, size: int, at: str) -> None:
        """Count the output of a step. Raises `InvalidRequest` if it, or all of them together, are too large."""
        self.require_size(size, at)
        self._taken += size
        if self._taken > self._max_run:
            raise InvalidRequest(
                f"{at}: the steps of this run have put out more than {self._max_run // 2**20} MiB, which is the most "
                "that a run of a flow may hold (the setting flow_run_mb).",
                code="value_too_large",
                param=at,
            )
