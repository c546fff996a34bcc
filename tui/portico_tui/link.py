"""The connection to the daemon: polls the daemon, waits longer while it is unreachable, and reconnects
automatically.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from portico_tui.daemon import DaemonClient, DaemonError, Glance

IDLE_INTERVAL_S = 2.0
"""Interval between polls while the daemon is idle, in seconds."""

BUSY_INTERVAL_S = 0.5
"""Interval between polls while a model loads or a file is read, in seconds."""

MAX_RETRY_INTERVAL_S = 15.0
"""Maximum interval between attempts while the daemon is unreachable, in seconds."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The daemon is unreachable. The fields are the reason and the seconds until the next attempt."""

    sentence: str
    again_in: float


def back_off(failures: int) -> float:
    """Return the delay after a number of consecutive failures (from 1): doubled each time, up to
    `MAX_RETRY_INTERVAL_S`.
    """
    return min(BUSY_INTERVAL_S * 2.0 ** min(failures, 16), MAX_RETRY_INTERVAL_S)


def busy(glance: Glance) -> bool:
    """Return whether a model is being loaded or a store is reading files."""
    loading = any(model.state in ("downloading", "loading") for model in glance.models)
    return loading or any(store.file_counts.in_progress for store in glance.stores)


class Link:
    """Calls ``on_glance`` with the daemon's state after each poll, and ``on_loss`` when the daemon does not respond.
    `keep` must be running.
    """

    def __init__(
        self, daemon: DaemonClient, on_glance: Callable[[Glance], None], on_loss: Callable[[Lost], None]
    ) -> None:
        self._daemon = daemon
        self._on_glance = on_glance
        self._on_loss = on_loss
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Poll immediately, because something has changed or a person does not want to wait."""
        self._woken.set()

    async def keep(self) -> None:
        """Poll the daemon until cancelled."""
        failures = 0
        while True:
            # Clear the event before the poll: if `wake` is called during the poll, the result may already be
            # outdated.
            self._woken.clear()
            try:
                glance = await self._daemon.client.status()
            except DaemonError as error:
                failures += 1
                pause = back_off(failures)
                self._on_loss(Lost(error.message, pause))
            else:
                failures = 0
                pause = BUSY_INTERVAL_S if busy(glance) else IDLE_INTERVAL_S
                self._on_glance(glance)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
