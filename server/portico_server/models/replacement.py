"""Replaces a process with another: before its job's time limit, or because its node is drained."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from portico_server.core.errors import PorticoError
from portico_server.models.engine_launch import EngineLaunch
from portico_server.models.engine_slot import EngineSlot
from portico_server.models.in_flight import CallTurns, InFlight
from portico_server.models.protocol import RunningEngine

logger = logging.getLogger(__name__)


class ProcessReplacement:
    """Starts a successor of the running process. Current calls are finished by the old process."""

    def __init__(self, name: str, slot: EngineSlot, launch: EngineLaunch, turns: CallTurns) -> None:
        self._name = name
        self._slot = slot
        self._launch = launch
        self._turns = turns
        self.leaving = False
        """True if the process must be unloaded once it is idle, regardless of ``keep_alive`` and ``pin``."""
        self._replacing: asyncio.Task[None] | None = None
        """The task that replaces the process before its job's time limit, or that moves the process away from its
        node.
        """
        self._moving: asyncio.Task[None] | None = None
        self._succeeding = False
        """True while a successor of the running process is starting."""
        self._leaves: set[tuple[str, str]] = set()
        """The (launcher, node) pairs that a starting process leaves once it is ready."""
        self._endings: set[asyncio.Task[None]] = set()
        """Tasks that wait until the calls of a replaced process have ended, one task for each process."""

    def tasks(self) -> Iterator[asyncio.Task[None]]:
        """Yield the running tasks, which must be stopped together with the process."""
        if self._replacing is not None:
            yield self._replacing
        yield from self._endings

    def watch_time_limit(self, running: RunningEngine) -> None:
        """Schedule the replacement of a started engine, if the job of its process has a time limit."""
        if self._replacing is not None and self._replacing is not asyncio.current_task():
            self._replacing.cancel()  # the task waits for the end of a process that no longer exists
        if running.process is not None and running.process.ends_at is not None:
            ends_at = running.process.ends_at
            self._replace_by(self._replace_in_time(running, ends_at), f"replace {self._name}")

    def _replace_by(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self._replacing = task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self.leave_nodes())
        return task

    async def _replace_in_time(self, running: RunningEngine, ends_at: float) -> None:
        """Start another process before the job of the current one reaches its time limit."""
        assert self._launch.begun is not None
        remaining_s = ends_at - time.time()
        # If the job's limit is shorter than the replacement time, half of the limit remains for calls.
        await asyncio.sleep(max(remaining_s - self._launch.begun[1].replace_s, remaining_s / 2, 0.0))
        if self._slot.current is not running:
            return
        logger.info("replacing model %s: the time limit of its job is near", self._name)
        await self._replace(running, ends_at)

    def runs_at(self, launcher: str, node: str) -> bool:
        """Return whether the process runs on the node ``node``, started through ``launcher``."""
        running, launch_state = self._slot.running, self._launch.begun
        if running is None or running.process is None or launch_state is None:
            return False
        return launch_state[1].launcher.name == launcher and running.process.node == node

    def leave_node(self, launcher: str, node: str) -> None:
        """Move away from a node that is drained. A process that is still starting moves once it is ready."""
        if self.runs_at(launcher, node):
            self.move()
        elif self._launch.task is not None or self._succeeding:
            self._leaves.add((launcher, node))

    def leave_nodes(self) -> None:
        """After a start has finished or failed, leave the nodes that were drained in the meantime."""
        leaves, self._leaves = self._leaves, set()
        if any(self.runs_at(launcher, node) for launcher, node in leaves):
            self.move()

    def move(self) -> None:
        """Start another process through the launcher, and stop this process after its current calls.

        If the launcher cannot start another process, this process keeps answering until it is idle.
        """
        running = self._slot.running
        moves = self._moving is not None and not self._moving.done()
        if running is None or self._turns.ending is not None or moves:
            return
        if self._replacing is not None:
            self._replacing.cancel()
        self._moving = self._replace_by(self._move(running), f"move {self._name}")

    async def _move(self, running: RunningEngine) -> None:
        logger.info("moving model %s away from its node", self._name)
        if not await self._replace(running, None) and self._slot.current is running:
            self.leaving = True
            self.watch_time_limit(running)

    async def _replace(self, running: RunningEngine, ends_at: float | None) -> bool:
        """Start another process; current calls are finished by the old one. Return whether the replacement
        succeeded.
        """
        self._succeeding = True
        try:
            successor = await self._launch.start_another()
        except PorticoError as error:  # the next call after the process's end starts a new process
            logger.warning("model %s could not be replaced: %s", self._name, error.message)
            return False
        finally:
            self._succeeding = False
        if self._slot.current is not running:  # the process was unloaded or lost in the meantime
            await _end(successor)
            return False
        ending = self._turns.renew()
        self._slot.fill(successor)
        self.leaving = False
        remaining_s = None if ends_at is None else max(0.0, ends_at - time.time())
        task = asyncio.create_task(_end_when_empty(running, ending, remaining_s), name=f"end {self._name}")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        self.watch_time_limit(successor)
        return True


async def _end(running: RunningEngine) -> None:
    if running.process is not None:
        await asyncio.shield(running.process.stop())


async def _end_when_empty(running: RunningEngine, calls: InFlight, timeout_s: float | None) -> None:
    """Stop a replaced process after its calls have left, or after the timeout."""
    try:
        await calls.wait_until_empty(timeout_s)
    finally:
        await _end(running)
