"""The running engine of one model and its log. Handles the replacement, the loss and the stop of the engine."""

from __future__ import annotations

import asyncio
import logging
import time

from portico_server.core.errors import PorticoError
from portico_server.models.protocol import KeepsPrompts, RunningEngine

logger = logging.getLogger(__name__)

KEEP_TIMEOUT_S = 5.0
"""Maximum time for saving prompts before a process is ended, in seconds."""

KEPT_LOG_LINES = 1_000
"""Number of log lines that are kept after a process has ended."""


class EngineSlot:
    """Contains the running engine of a model, and information about the previous engine."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.current: RunningEngine | None = None
        """The engine that was started last. Its process may have exited in the meantime."""
        self.loaded_at: float | None = None
        self.starts = 0
        """Number of times the process was started."""
        self.crashes = 0
        """Number of times the process exited by itself."""
        self._last_log: list[str] = []

    @property
    def running(self) -> RunningEngine | None:
        """The running engine, if any."""
        current = self.current
        return current if current is not None and (current.process is None or current.process.alive) else None

    @property
    def pid(self) -> int | None:
        running = self.running
        return running.process.pid if running and running.process else None

    def log(self, lines: int) -> list[str]:
        """Return the last lines of the engine's log. If no engine runs, they are those of the last engine."""
        current = self.current
        return current.process.lines(lines) if current and current.process else self._last_log[-lines:]

    def fill(self, running: RunningEngine) -> None:
        """Use a started engine for all calls from now on."""
        self.current = running
        self.loaded_at = time.time()
        self.starts += 1

    def lose(self) -> str | None:
        """Remove an engine whose process has ended unexpectedly. Return how the process ended, or ``None`` if the
        engine has no process.
        """
        current = self.current
        if current is None or current.process is None:
            return None
        self.current = None
        self.crashes += 1
        self._last_log = current.process.lines(KEPT_LOG_LINES)
        return current.process.exit_description()

    async def end(self) -> bool:
        """Let the engine save its processed prompts, then stop it. Return whether the engine had a process."""
        running, self.current = self.current, None
        if running is None or running.process is None:
            return False
        await self._keep_prompts(running)
        await running.process.stop()
        self._last_log = running.process.lines(KEPT_LOG_LINES)
        return True

    async def _keep_prompts(self, running: RunningEngine) -> None:
        """Let the engine save its processed prompts, if it can."""
        if not isinstance(running.client, KeepsPrompts):
            return
        try:
            await running.client.keep_prompts(asyncio.get_running_loop().time() + KEEP_TIMEOUT_S)
        except (PorticoError, OSError) as error:
            logger.warning("failed to keep prompts of %s: %s", self._name, error)
