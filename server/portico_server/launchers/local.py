"""Child processes of the daemon, which end with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from portico_server.core import pools
from portico_server.launchers.protocol import LaunchedProcess, LaunchOrder, describe_exit
from portico_server.subprocesses import inherited, transcribe

MAX_LOG_LINES: Final = 1_000

LOG_WAIT_S: Final = 1.0
"""Seconds that the log of a process which has ended is waited for: a grandchild may hold the pipe."""


class LocalProcess:
    """A child that leads a process group of its own. See `LaunchedProcess`."""

    host = "127.0.0.1"
    adopted = False
    ends_at: float | None = None

    def __init__(self, process: Process, name: str, log: Path) -> None:
        self.token = secrets.token_hex(32)  # as an argument of an engine it must not begin with a dash
        self.on_log: Callable[[str], None] | None = None
        self._process = process
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)
        assert process.stderr is not None
        self._pump = asyncio.create_task(
            transcribe(process.stderr, log, self._lines, self._on_log), name=f"log of {name}"
        )
        self._reaper = asyncio.create_task(self._reap(), name=f"end of {name}")

    def _on_log(self, text: str) -> None:
        if self.on_log is not None:
            self.on_log(text)

    async def _reap(self) -> None:
        """Once it has ended, end what it started and left behind."""
        await self._process.wait()
        self.signal(signal.SIGKILL)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def send(self, line: bytes) -> None:
        """See `LaunchedProcess`."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(line)
            await self._process.stdin.drain()

    async def lines(self) -> AsyncIterator[bytes]:
        """See `LaunchedProcess`."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            yield line

    def log_lines(self, count: int) -> list[str]:
        """See `LaunchedProcess`."""
        return list(self._lines)[-count:]

    def exit_description(self) -> str:
        """See `LaunchedProcess`."""
        return describe_exit(self.returncode)

    def signal(self, number: signal.Signals) -> None:
        """See `LaunchedProcess`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def wait(self) -> None:
        """See `LaunchedProcess`."""
        await self._process.wait()

    async def wait_for_log(self) -> None:
        """See `LaunchedProcess`."""
        await asyncio.wait([self._pump], timeout=LOG_WAIT_S)

    async def stop(self, grace_s: float) -> None:
        """See `LaunchedProcess`."""
        try:
            if self.returncode is None and grace_s:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        await self._process.wait()
        finally:
            if self.returncode is None:
                self.signal(signal.SIGKILL)
                await asyncio.shield(self._process.wait())
            await asyncio.shield(self._reaper)
            if self._process.stdin is not None:
                self._process.stdin.close()
            if not self._pump.done():
                await self.wait_for_log()
                self._pump.cancel()


class LocalLauncher:
    """On this machine. See `portico_server.launchers.protocol.Launcher`."""

    name = "local"
    here = True

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """See `Launcher`."""
        await pools.MODELS.run(order.log.parent.mkdir, parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *order.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=order.line_bytes,
            env={**inherited(*order.without), **order.environment},
            start_new_session=True,  # Ctrl-C is for the daemon, which then ends its children in order
        )
        return LocalProcess(process, order.name, order.log)


LOCAL: Final = LocalLauncher()
