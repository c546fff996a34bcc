"""Delays background work, such as the lines of a batch, while the daemon answers a call with a waiting caller."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from portico_server.core.registry import Registry
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

POLL_INTERVAL_S: Final = 0.05
"""Seconds between checks whether a call is being answered."""

QUIET_PERIOD_S: Final = 0.1
"""Seconds after an answer in which the same caller is likely to call again, such as a program that makes one call
after another.
"""

MAX_WAIT_S: Final = 5.0
"""Maximum seconds that a call is delayed, regardless of the load. On a machine that is never idle, background work
continues slowly.
"""


class Throttle:
    """Delays background calls. ``on`` is whether it delays calls at all.

    Calls to models of providers do not use this machine, so they are ignored.
    """

    def __init__(self, registry: Registry, runner: Runner, *, on: bool) -> None:
        self._registry = registry
        self._runner = runner
        self._on = on

    async def wait_for_idle(self, model: str) -> None:
        """Return once no foreground call is being answered and none has ended recently, or after `MAX_WAIT_S`."""
        if not self._on or self._is_hosted(model):
            return
        stood = 0.0
        while stood < MAX_WAIT_S and self._is_busy():
            await asyncio.sleep(POLL_INTERVAL_S)  # no event announces the end of the last call
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
