"""What the values of a flow may hold: each of them, and all that its steps put out in one run."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, TooMany
from portico_server.core.json_size import JsonSizes

MAX_VALUE_MB: Final = 16
"""Size of one value as JSON, in MiB, unless a setting says otherwise."""

MAX_RUN_MB: Final = 512
"""Size of what the steps of one run put out, in MiB, unless a setting says otherwise."""


MAX_RUNS_PER_KEY: Final = 4
"""How many of the largest runs those that one key has under way may be together."""

_BYTES_PER_TURN: Final = 256 * 2**10
"""Size of what the steps of a run put out until everything else that is to be done has its turn: milliseconds."""

_STEP_BYTES: Final = 4 * 2**10
"""Size that every step counts for in this, whatever it puts out."""


class _AllRuns:
    """What the runs of each key that are under way have used, and whose turn it is."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self._turn = asyncio.Lock()

    async def give_way(self) -> None:
        """Let the event loop go round once; of several runs that do so, one continues each time."""
        async with self._turn:
            await asyncio.sleep(0)


class ValueBudget:
    """All limits, and what one run has used. Values are counted as their JSON before it is written."""

    __slots__ = ("_all", "_key", "_max_run", "_max_value", "_since", "_sizes", "_taken")

    def __init__(self, max_value_mb: int = MAX_VALUE_MB, max_run_mb: int = MAX_RUN_MB) -> None:
        """In MiB; 0 means no limit."""
        self._max_value = max_value_mb * 2**20 or 2**62
        self._max_run = max_run_mb * 2**20 or 2**62
        self._sizes = JsonSizes(self._max_value)
        self._taken = 0
        self._since = 0
        self._key = ""
        self._all = _AllRuns()

    def fresh(self, key: str = "") -> ValueBudget:
        """The same limits for another run, which is the key's; without one it is in no key's account."""
        made = ValueBudget()
        made._max_value, made._max_run = self._max_value, self._max_run
        made._sizes = JsonSizes(self._max_value)
        made._key, made._all = key, self._all
        return made

    def release(self) -> None:
        """The run has ended: what it has put out is no longer in its key's account."""
        if self._key:
            self._all.taken[self._key] -= self._taken
            if self._all.taken[self._key] <= 0:
                del self._all.taken[self._key]
        self._taken = 0

    async def give_way(self) -> None:
        """A step has ended: after many, or large ones, everything else has its turn."""
        self._since += _STEP_BYTES
        if self._since >= _BYTES_PER_TURN:
            self._since = 0
            await self._all.give_way()

    def take_value(self, value: Any, at: str) -> None:
        """Count what a run begins with, or what a step made of the outputs of others. Raises as `take`."""
        self.take(self._sizes.of(value), at)

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
        """Count the output of a step. Raises `InvalidRequest` if it, or all of them together, are too large, and
        `TooMany` if the runs of the key hold too much together.
        """
        self.require_size(size, at)
        if self._key:
            most = MAX_RUNS_PER_KEY * self._max_run
            if self._all.taken[self._key] + size > most:
                raise TooMany(
                    f"{at}: the steps of all flows that this key has under way have put out more than "
                    f"{most // 2**20} MiB together. Wait for one to end, or cancel one.",
                    code="too_many_at_once",
                    param=at,
                    retry_after=5.0,
                )
            self._all.taken[self._key] += size
        self._since += size
        self._taken += size
        if self._taken > self._max_run:
            raise InvalidRequest(
                f"{at}: the steps of this run have put out more than {self._max_run // 2**20} MiB, which is the most "
                "that a run of a flow may hold (the setting flow_run_mb).",
                code="value_too_large",
                param=at,
            )
