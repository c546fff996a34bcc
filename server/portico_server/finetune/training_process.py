"""The training process as the daemon sees it: events in, commands out, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from portico_server.launchers.protocol import LaunchedProcess, LaunchOrder
from portico_server.subprocesses import SAFE_PATH

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one event at most: answers that are to be graded travel in one."""

MAX_REASON_LINES: Final = 40
"""Last lines of the log in which an error looks for its reason."""

GRACE_S: Final = 4.0
"""Seconds for a last checkpoint when it is asked to end; less than the daemon has for its own end."""

OFFLINE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}

# Threads that wait for each other spin for some microseconds, not for as long as it takes: on a busy machine the one
# that is waited for needs the core. Never to spin costs a third of the speed on a quiet one; on one where several
# programs want each core it is twice as fast, so what the operator sets is left as it is.
IDLE_THREAD_ENVIRONMENT: Final[Mapping[str, str]] = {"GOMP_SPINCOUNT": "20000"}


def training_order(name: str, command: Sequence[str], log: Path, *, several: bool = False) -> LaunchOrder:
    """A process that trains, or one that starts ``several``."""
    return LaunchOrder(
        name,
        command,
        log,
        environment={
            **{key: os.environ.get(key, value) for key, value in IDLE_THREAD_ENVIRONMENT.items()},
            **OFFLINE_ENVIRONMENT,
            **SAFE_PATH,  # accelerate starts interpreters of its own
            "PYTHONPATH": str(Path(__file__).parent),
        },
        without=("PYTHON", "VIRTUAL_ENV"),
        line_bytes=MAX_EVENT_BYTES,
        sessions=several,
    )


class TrainingProcess:
    """A training that runs."""

    def __init__(self, process: LaunchedProcess) -> None:
        self._process = process
        self.limited = False
        """Whether it was asked to end for its job's time limit."""

    @asynccontextmanager
    async def paused_in_time(self, replace_s: float) -> AsyncGenerator[None]:
        """Ask for a checkpoint and the end ``replace_s`` seconds before its job's time limit."""
        ends_at = self._process.ends_at
        if ends_at is None:
            yield
            return
        remaining_s = ends_at - time.time()

        async def pause() -> None:
            await asyncio.sleep(max(remaining_s - replace_s, remaining_s / 2, 0.0))
            self.limited = True
            await self.send(do="pause")

        task = asyncio.create_task(pause(), name="a training's time limit")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """What it says, until it ends."""
        async for line in self._process.lines():
            with contextlib.suppress(orjson.JSONDecodeError):  # a library that prints
                event = orjson.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event
        await self._process.wait()
        await self._process.wait_for_log()

    async def send(self, **command: Any) -> None:
        """Say something to it; one that has ended does not hear it."""
        await self._process.send(orjson.dumps(command) + b"\n")

    @property
    def killed(self) -> bool:
        """Whether a signal ended it: the system for want of memory, or somebody."""
        code = self._process.returncode
        return code is not None and (code < 0 or code == 128 + signal.SIGKILL)

    def exit_description(self) -> str:
        """How it ended, with its last words."""
        how = self._process.exit_description()
        lines = reversed(self._process.log_lines(MAX_REASON_LINES))
        words = next((line.strip() for line in lines if line.strip()), "")
        return how + (
            f"; its last words: {words[:300]}" if words and (self._process.returncode or 0) >= 0 else ""
        )

    @property
    def pid(self) -> int | None:
        """``None`` where it runs on another machine."""
        return self._process.pid

    def suspend(self) -> None:
        """Stand still, with all that is in memory, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Work again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.signal(number)

    async def pause(self) -> None:
        """Ask for a checkpoint and the end, and wait for them a moment."""
        if self._process.returncode is None:
            await self.send(do="pause")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    async for _ in self.events():
                        pass

    async def end(self) -> None:
        """End it and all that it started at once. Returns when it is gone."""
        await self._process.stop(0)
