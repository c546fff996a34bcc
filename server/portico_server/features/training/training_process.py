"""The training process from the daemon's view: reads its events, sends commands, and ends the process with its
children.
"""

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
"""Maximum size of an event, in bytes, because all answers of a step to be graded are sent in one event."""

MAX_REASON_LINES: Final = 40
"""Number of final log lines in which the reason for a failure is looked for."""

GRACE_S: Final = 4.0
"""Maximum seconds to wait for a last checkpoint after the process was asked to end; shorter than the daemon's own
shutdown limit.
"""

OFFLINE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}

# Waiting threads spin for some microseconds instead of indefinitely: on a busy machine, the thread they wait
# for needs the core. With short spinning, a machine without other load loses a third of its speed, but a
# machine where several programs compete for each core is twice as fast. The operator's own setting takes
# precedence.
IDLE_THREAD_ENVIRONMENT: Final[Mapping[str, str]] = {"GOMP_SPINCOUNT": "20000"}


def training_order(name: str, command: Sequence[str], log: Path, *, several: bool = False) -> LaunchOrder:
    """Return the launch order for a training process, or with ``several``, for a process that starts several."""
    return LaunchOrder(
        name,
        command,
        log,
        environment={
            **{key: os.environ.get(key, value) for key, value in IDLE_THREAD_ENVIRONMENT.items()},
            **OFFLINE_ENVIRONMENT,
            **SAFE_PATH,  # accelerate starts more interpreters
            "PYTHONPATH": str(Path(__file__).parent),
        },
        without=("PYTHON", "VIRTUAL_ENV"),
        line_bytes=MAX_EVENT_BYTES,
        sessions=several,
    )


class TrainingProcess:
    """A running training."""

    def __init__(self, process: LaunchedProcess) -> None:
        self._process = process
        self.limited = False
        """True if the process was asked to stop because the time limit of its scheduler job is near."""

    @asynccontextmanager
    async def paused_in_time(self, replace_s: float) -> AsyncGenerator[None]:
        """Ask the process to write a checkpoint and exit, ``replace_s`` seconds before the time limit of its scheduler
        job.
        """
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
        """Yield the events of the process until it ends."""
        async for line in self._process.lines():
            with contextlib.suppress(orjson.JSONDecodeError):  # output printed by a library
                event = orjson.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event
        await self._process.wait()
        await self._process.wait_for_log()

    async def send(self, **command: Any) -> None:
        """Send a command to the process. Does nothing if the process has ended."""
        await self._process.send(orjson.dumps(command) + b"\n")

    @property
    def killed(self) -> bool:
        """Return whether a signal ended the process, for example because the system ran out of memory."""
        code = self._process.returncode
        return code is not None and (code < 0 or code == 128 + signal.SIGKILL)

    def exit_description(self) -> str:
        """Return a description of how the process ended, with its last output."""
        description = self._process.exit_description()
        lines = reversed(self._process.log_lines(MAX_REASON_LINES))
        words = next((line.strip() for line in lines if line.strip()), "")
        return description + (
            f"; its last output: {words[:300]}" if words and (self._process.returncode or 0) >= 0 else ""
        )

    @property
    def pid(self) -> int | None:
        """The process id, or ``None`` if the process runs on another machine."""
        return self._process.pid

    def suspend(self) -> None:
        """Suspend the process until `resume`; its memory is kept."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the process."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.signal(number)

    async def pause(self) -> None:
        """Ask the process to write a checkpoint and exit, and wait briefly until it has."""
        if self._process.returncode is None:
            await self.send(do="pause")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    async for _ in self.events():
                        pass

    async def end(self) -> None:
        """Kill the process and all its children immediately. Returns when they have ended."""
        await self._process.stop(0)
