"""Work that nobody waits for, such as the lines of a batch, stands back while a call is answered that somebody does."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from portico_server.core.registry import Registry
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

POLL_INTERVAL_S: Final = 0.05
"""Seconds between two looks at whether something is being answered."""

QUIET_PERIOD_S: Final = 0.1
"""Seconds after an answer in which the same caller is likely to ask again: a program that takes turns."""

MAX_WAIT_S: Final = 5.0
"""Seconds that a call stands back, however much is asked: the work continues, slowly, on a machine that is never
idle."""


class Throttle:
    """``on``: whether calls stand back at all. Models of providers share nothing with others, and are not looked at."""

    def __init__(self, registry: Registry, runner: Runner, *, on: bool) -> None:
        self._registry = registry
        self._runner = runner
        self._on = on

    async def wait_for_idle(self, model: str) -> None:
        """Return once nobody's call is being answered or was just now, or after `MAX_WAIT_S`."""
        if not self._on or self._is_hosted(model):
            return
        stood = 0.0
        while stood < MAX_WAIT_S and self._is_busy():
            await asyncio.sleep(
                POLL_INTERVAL_S
            )  # a call that ends is a dictionary that shrinks: nobody is told
            stood += POLL_INTERVAL_S

    def _is_busy(self) -> bool:
        if time.perf_counter() - self._runner.answered_at < QUIET_PERIOD_S:
            return True
        return any(self._counts(run) for run in self._runner.living)

    def _counts(self, run: Run) -> bool:
        return run.status == "running" and not (run.durable or run.behind or self._is_hosted(run.name))

    def _is_hosted(self, name: str) -> bool:
        servable = self._registry.get(name)
        return servable is not None and "hosted" in servable.card.capabilities
