"""What the values of a flow may hold: each of them, and all that its steps put out in one run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, TooMany
from portico_server.core.json_size import PARTS_LEFT, JsonSizes, TooManyParts

P = ParamSpec("P")
T = TypeVar("T")

MAX_VALUE_MB: Final = 16
"""Size of one value as JSON, in MiB, unless a setting says otherwise."""

MAX_RUN_MB: Final = 512
"""Size of what the steps of one run put out, in MiB, unless a setting says otherwise."""


MAX_TURN_MB: Final = 64
"""Size of what the messages hold that the turn of an agent adds, those of its sub-agents included, in MiB."""

MAX_RUNS_PER_KEY: Final = 4
"""How many of the largest runs those that one key has under way may be together."""

MAX_STEPS_AT_ONCE: Final = 1_000
"""Steps that all flows which one key has under way do at the same time. What is beyond comes one after another. A step
of a flow that others called counts for the square of them: its siblings may each call as many again, and what unwinds
them all when one fails is as deep.
"""

_BYTES_PER_TURN: Final = 256 * 2**10
"""Size of what the steps of a run put out until everything else that is to be done has its turn: milliseconds."""

_MAX_PARTS_AT_ONCE: Final = 10_000
"""Parts of values that are gone through in one piece: milliseconds."""

_STEP_BYTES: Final = 4 * 2**10
"""Size that every step counts for in this, whatever it puts out."""


class _KeyRuns:
    """What the runs of one key that are under way have used, how many steps they do at the same time, and whose turn it
    is.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.at_once = 0
        self.since = 0
        self._turn = asyncio.Lock()
        self.computing = asyncio.Lock()

    async def give_way(self) -> None:
        """After many steps, or large ones, let everything else have its turn: of all the steps that could begin now,
        one does each time that the event loop goes round, as long as others wait for it.
        """
        self.since += _STEP_BYTES
        if self.since >= _BYTES_PER_TURN or self._turn.locked():
            async with self._turn:
                await asyncio.sleep(0)
                self.since = 0


class ValueBudget:
    """All limits, and what one run has used. Values are counted as their JSON before it is written."""

    __slots__ = ("_all", "_bounded", "_max_run", "_max_value", "_runs", "_sizes", "_taken")

    def __init__(self, max_value_mb: int = MAX_VALUE_MB, max_run_mb: int = MAX_RUN_MB) -> None:
        """In MiB; 0 means no limit."""
        self._max_value = max_value_mb * 2**20 or 2**62
        self._max_run = max_run_mb * 2**20 or 2**62
        self._sizes = JsonSizes(self._max_value)
        self._taken = 0
        self._bounded = False
        self._runs = _KeyRuns()
        self._all: WeakValueDictionary[str, _KeyRuns] = WeakValueDictionary()

    def fresh(self, key: str = "") -> ValueBudget:
        """The same limits for another run, which is the key's; without one it is in no key's account."""
        value_budget = ValueBudget()
        value_budget._max_value, value_budget._max_run = self._max_value, self._max_run
        value_budget._sizes = JsonSizes(self._max_value)
        value_budget._bounded, value_budget._all = bool(key), self._all
        if key:
            value_budget._runs = self._all.setdefault(key, value_budget._runs)
        return value_budget

    def release(self) -> None:
        """The run has ended: what it has put out is no longer in its key's account."""
        self._runs.taken -= self._taken
        self._taken = 0

    async def give_way(self) -> None:
        """A step begins, or has failed: after many, or large ones, everything else has its turn."""
        await self._runs.give_way()

    @contextmanager
    def workers(self, requested_count: int, depth: int = 0) -> Iterator[int]:
        """How many of ``requested_count`` steps may be done at the same time within the block: as many as the
        key has room for, and always one. ``depth``: how many flows are around that of the steps.
        """
        runs, weight = self._runs, (1 + depth) ** 2
        # The first is done in place of this step.
        extra_count = max(0, min(requested_count - 1, (MAX_STEPS_AT_ONCE - runs.at_once) // weight))
        runs.at_once += extra_count * weight
        try:
            yield 1 + extra_count
        finally:
            runs.at_once -= extra_count * weight

    async def compute(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work``, which changes nothing, makes of values of the run. Where these turn out to be large it is done
        in a thread, for one key one after another: everything else passes.
        """
        token = PARTS_LEFT.set([_MAX_PARTS_AT_ONCE])
        try:
            return work(*args, **kwargs)
        except TooManyParts:
            pass
        finally:
            PARTS_LEFT.reset(token)
        async with self._runs.computing:
            return await pools.VALUES.run(work, *args, **kwargs)

    async def take_value(self, value: Any, at: str) -> None:
        """Count what a run begins with, or what a step made of the outputs of others. Raises as `take`."""
        self.take(await self.compute(self._sizes.of, value), at)

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
        self._count(size, at)

    async def hold(self, value: Any, at: str) -> None:
        """Count a message that the turn of an agent keeps, whatever its size. Raises as `take` for all of them."""
        size = await self.compute(self._sizes.of, value)
        if self._taken + size > MAX_TURN_MB * 2**20:
            raise InvalidRequest(
                f"{at}: the messages of this turn have more than {MAX_TURN_MB} MiB together.",
                code="value_too_large",
            )
        self._count(size, at)

    def _count(self, size: int, at: str) -> None:
        limit = MAX_RUNS_PER_KEY * self._max_run
        if self._bounded and self._runs.taken + size > limit:
            raise TooMany(
                f"{at}: the steps of all flows that this key has under way have put out more than "
                f"{limit // 2**20} MiB together. Wait for one to end, or cancel one.",
                code="too_many_at_once",
                param=at,
                retry_after=5.0,
            )
        self._runs.taken += size
        self._runs.since += size
        self._taken += size
        if self._taken > self._max_run:
            raise InvalidRequest(
                f"{at}: the steps of this run have put out more than {self._max_run // 2**20} MiB, which is the most "
                "that a run of a flow may hold (the setting flow_run_mb).",
                code="value_too_large",
                param=at,
            )
