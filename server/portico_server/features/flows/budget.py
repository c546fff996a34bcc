"""Size limits for the values of a flow: for single values, and for all step outputs of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, TooMany
from portico_server.core.json_size import PARTS_LEFT, JsonSizes, TooManyParts
from portico_server.core.scoped_value import ScopedValue

P = ParamSpec("P")
T = TypeVar("T")

MAX_VALUE_MB: Final = 16
"""Default maximum size of one value as JSON, in MiB."""

MAX_RUN_MB: Final = 512
"""Default maximum total size of the step outputs of one run, in MiB."""


MAX_TURN_MB: Final = 64
"""Maximum size of the messages that an agent's turn adds, including those of its sub-agents, in MiB."""

MAX_RUNS_PER_KEY: Final = 4
"""Maximum total size of a key's runs in progress, as a multiple of the maximum size of one run."""

MAX_STEPS_AT_ONCE: Final = 1_000
"""Maximum number of concurrent steps in all flows that one key has in progress; further steps run one after another.
Each step counts ``(1 + depth)²``, where ``depth`` is the number of flows that called its flow: the steps next to it
may each call as many steps again, and a failure must unwind as many levels.
"""

_BYTES_PER_TURN: Final = 256 * 2**10
"""Total size of step outputs, in bytes, after which a run yields to all other work. Processing them takes
milliseconds.
"""

_MAX_PARTS_AT_ONCE: Final = 10_000
"""Number of parts of values that are processed without a thread. This takes milliseconds."""

_STEP_BYTES: Final = 4 * 2**10
"""Minimum size, in bytes, for which a step counts, even if its output is smaller."""


class _KeyRuns:
    """The usage of one key's runs in progress: the size of their outputs, the number of their concurrent steps, and
    which of them may proceed.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.at_once = 0
        self.since = 0
        self._turn = asyncio.Lock()
        self.computing = asyncio.Lock()

    async def give_way(self) -> None:
        """Yield to other work after many or large steps. While other work waits, only one of the steps that could
        begin runs per iteration of the event loop.
        """
        self.since += _STEP_BYTES
        if self.since >= _BYTES_PER_TURN or self._turn.locked():
            async with self._turn:
                await asyncio.sleep(0)
                self.since = 0


class ValueBudget:
    """All size limits, and the usage of one run. Values are measured as JSON before they are serialized."""

    __slots__ = (
        "_is_bounded",
        "_max_run",
        "_max_value",
        "_reserved_bytes",
        "_runs",
        "_runs_by_key",
        "_sizes",
    )

    def __init__(self, max_value_mb: int = MAX_VALUE_MB, max_run_mb: int = MAX_RUN_MB) -> None:
        """Set the limits in MiB; 0 means no limit."""
        self._max_value = max_value_mb * 2**20 or 2**62
        self._max_run = max_run_mb * 2**20 or 2**62
        self._sizes = JsonSizes(self._max_value)
        self._reserved_bytes = 0
        self._is_bounded = False
        self._runs = _KeyRuns()
        self._runs_by_key: WeakValueDictionary[str, _KeyRuns] = WeakValueDictionary()

    def fresh(self, key: str = "") -> ValueBudget:
        """Return a budget with the same limits for another run of ``key``. Without a key, no key's total limit
        applies.
        """
        value_budget = ValueBudget()
        value_budget._max_value, value_budget._max_run = self._max_value, self._max_run
        value_budget._sizes = JsonSizes(self._max_value)
        value_budget._is_bounded, value_budget._runs_by_key = bool(key), self._runs_by_key
        if key:
            value_budget._runs = self._runs_by_key.setdefault(key, value_budget._runs)
        return value_budget

    def release(self) -> None:
        """Stop counting the outputs of an ended run towards its key's total."""
        self._runs.taken -= self._reserved_bytes
        self._reserved_bytes = 0

    async def give_way(self) -> None:
        """Yield to other work after many or large steps. Called when a step begins or has failed."""
        await self._runs.give_way()

    @contextmanager
    def workers(self, requested_count: int, depth: int = 0) -> Iterator[int]:
        """Reserve up to ``requested_count`` concurrent steps for the block: as many as the key may still run, but at
        least one.

        ``depth`` is the number of flows that called the flow of these steps.
        """
        runs, weight = self._runs, (1 + depth) ** 2
        # The first concurrent step replaces the step that called this method, so it needs no reservation.
        extra_count = max(0, min(requested_count - 1, (MAX_STEPS_AT_ONCE - runs.at_once) // weight))
        runs.at_once += extra_count * weight
        try:
            yield 1 + extra_count
        finally:
            runs.at_once -= extra_count * weight

    async def compute(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of ``work``, a pure function of the run's values. If the values are large, the function
        runs in a thread, one at a time per key, so that other work continues.
        """
        with suppress(TooManyParts), ScopedValue(PARTS_LEFT, [_MAX_PARTS_AT_ONCE]):
            return work(*args, **kwargs)
        async with self._runs.computing:
            return await pools.VALUES.run(work, *args, **kwargs)

    async def take_value(self, value: Any, at: str) -> None:
        """Count the input of a run, or a value built from step outputs. Raises the same errors as `take`."""
        self.take(await self.compute(self._sizes.of, value), at)

    def require(self, value: Any, at: str) -> Any:
        """Return the value. If it is too large, raise `InvalidRequest` that names ``at``."""
        if not isinstance(value, bool | int | float | None):
            self.require_size(self._sizes.of(value), at)
        return value

    def require_size(self, size: int, at: str) -> None:
        """If ``size``, in bytes, is too large for a value, raise `InvalidRequest` that names ``at``."""
        if size > self._max_value:
            raise InvalidRequest(
                f"{at}: the value is larger than {self._max_value // 2**20} MiB, the maximum for a value "
                "of a flow (the setting flow_value_mb).",
                code="value_too_large",
                param=at,
            )

    def take(self, size: int, at: str) -> None:
        """Count the output of a step. Raise `InvalidRequest` if the output is too large or all outputs of the run
        together are, and `TooMany` if the outputs of all the key's runs together are too large.
        """
        self.require_size(size, at)
        self._count(size, at)

    async def hold(self, value: Any, at: str) -> None:
        """Count a message that an agent's turn keeps. The size of a single message is not limited; the total is, and
        raises the same errors as `take`.
        """
        size = await self.compute(self._sizes.of, value)
        if self._reserved_bytes + size > MAX_TURN_MB * 2**20:
            raise InvalidRequest(
                f"{at}: the messages of this turn exceed {MAX_TURN_MB} MiB in total.",
                code="value_too_large",
            )
        self._count(size, at)

    def _count(self, size: int, at: str) -> None:
        limit = MAX_RUNS_PER_KEY * self._max_run
        if self._is_bounded and self._runs.taken + size > limit:
            raise TooMany(
                f"{at}: the step outputs of all flows that this key has in progress exceed "
                f"{limit // 2**20} MiB in total. Wait for a flow to end, or cancel a flow.",
                code="too_many_at_once",
                param=at,
                retry_after=5.0,
            )
        self._runs.taken += size
        self._runs.since += size
        self._reserved_bytes += size
        if self._reserved_bytes > self._max_run:
            raise InvalidRequest(
                f"{at}: the step outputs of this run exceed {self._max_run // 2**20} MiB, the maximum for "
                "a run of a flow (the setting flow_run_mb).",
                code="value_too_large",
                param=at,
            )
