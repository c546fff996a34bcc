"""The training process as the daemon sees it: events in, commands out, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.subprocesses import SAFE_PATH, inherited, transcribe

LINE: Final = 64 * 1024 * 1024
"""Bytes of one event at most: answers that are to be graded travel in one."""

KEPT: Final = 40
"""Lines of the log that are kept for an error."""

GRACE: Final = 4.0
"""Seconds for a last checkpoint when it is asked to end; less than the daemon has for its own end."""

QUIET: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}

# Threads that wait for each other spin for some microseconds, not for as long as it takes: on a busy machine the one
# that is waited for needs the core. Never to spin costs a third of the speed on a quiet one; on one where several
# programs want each core it is twice as fast, so what the operator sets is left as it is.
PATIENT: Final[Mapping[str, str]] = {"GOMP_SPINCOUNT": "20000"}


class Training:
    """A process group with a training in it."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT)
        assert process.stderr is not None
        self._pump = asyncio.create_task(
            transcribe(process.stderr, log, self._lines), name="log of a training"
        )

    @classmethod
    async def start(cls, command: Sequence[str], log: Path) -> Training:
        """Start it; its log goes to the file ``log``."""
        await pools.TRAINING.run(log.parent.mkdir, parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=LINE,
            env={
                **PATIENT,
                **inherited("PYTHON", "VIRTUAL_ENV"),
                **QUIET,
                **SAFE_PATH,  # accelerate starts interpreters of its own
                "PYTHONPATH": str(Path(__file__).parent),
            },
            start_new_session=True,  # Ctrl-C is for the daemon, which then ends this
        )
        return cls(process, log)

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """What it says, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(orjson.JSONDecodeError):  # a library that prints
                said = orjson.loads(line)
                if isinstance(said, dict) and "event" in said:
                    yield said
        await self._process.wait()
        await asyncio.wait([self._pump], timeout=1)

    async def tell(self, **command: Any) -> None:
        """Say something to it; one that has ended does not hear it."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(orjson.dumps(command) + b"\n")
            await self._process.stdin.drain()

    @property
    def killed(self) -> bool:
        """Whether a signal ended it: the system for want of memory, or somebody."""
        code = self._process.returncode
        return code is not None and (code < 0 or code == 128 + signal.SIGKILL)

    def fate(self) -> str:
        """How it ended, with its last words."""
        code = self._process.returncode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        words = next((line.strip() for line in reversed(self._lines) if line.strip()), "")
        return how + (f"; its last words: {words[:300]}" if words and code >= 0 else "")

    @property
    def pid(self) -> int:
        return self._process.pid

    def hold(self) -> None:
        """Stand still, with all that is in memory, until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Work again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def pause(self) -> None:
        """Ask for a checkpoint and the end, and wait for them a moment."""
        if self._process.returncode is None:
            await self.tell(do="pause")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    async for _ in self.events():
                        pass

    async def end(self) -> None:
        """End the whole group at once. Returns when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.shield(self._process.wait())
        if self._process.stdin is not None:
            self._process.stdin.close()
        if not self._pump.done():
            await asyncio.wait([self._pump], timeout=1)
            self._pump.cancel()
