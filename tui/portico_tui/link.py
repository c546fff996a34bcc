"""The line to the daemon: looks at it again and again, backs off while it is away, comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from portico_tui.daemon import DaemonClient, DaemonError, Glance

IDLE_INTERVAL_S = 2.0
"""Seconds between two looks while nothing is continuing."""

BUSY_INTERVAL_S = 0.5
"""Seconds between two looks while a model loads or a file is read."""

MAX_RETRY_INTERVAL_S = 15.0
"""Seconds between two attempts at most, while the daemon is away."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The daemon is away: why, and in how many seconds it is tried again."""

    sentence: str
    again_in: float


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row (from 1): doubled each time, up to `MAX_RETRY_INTERVAL_S`."""
    return min(BUSY_INTERVAL_S * 2.0 ** min(failures, 16), MAX_RETRY_INTERVAL_S)


def busy(glance: Glance) -> bool:
    """Whether something is changing right now."""
    loading = any(model.state in ("downloading", "loading") for model in glance.models)
    return loading or any(store.file_counts.in_progress for store in glance.stores)


class Link:
    """Tells ``on_glance`` what the daemon looks like and ``on_loss`` when it does not answer, as long as
    `keep` runs.
    """

    def __init__(
        self, daemon: DaemonClient, on_glance: Callable[[Glance], None], on_loss: Callable[[Lost], None]
    ) -> None:
        self._daemon = daemon
        self._seen = on_glance
        self._lost = on_loss
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now: something has changed, or a person does not want to wait."""
        self._woken.set()

    async def keep(self) -> None:
        """Look at the daemon until cancelled."""
        failures = 0
        while True:
            # Cleared before the look: a wake during it means that the look may already be out of date.
            self._woken.clear()
            try:
                glance = await self._daemon.client.status()
            except DaemonError as error:
                failures += 1
                pause = back_off(failures)
                self._lost(Lost(error.message, pause))
            else:
                failures = 0
                pause = BUSY_INTERVAL_S if busy(glance) else IDLE_INTERVAL_S
                self._seen(glance)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
