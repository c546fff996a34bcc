"""Child processes of the daemon, which end when the daemon ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final

from portico.schemas.cluster import ClusterJob
from portico_server.child_environment import inherited
from portico_server.child_output import transcribe
from portico_server.core import pools
from portico_server.launchers.protocol import LaunchedProcess, Launcher, LaunchOrder, describe_exit

if TYPE_CHECKING:
    import psutil

MAX_LOG_LINES: Final = 1_000

LOG_WAIT_S: Final = 1.0
"""Seconds to wait for the rest of the log after a process has ended. Without a limit, a grandchild could keep the pipe
open.
"""


class ExitProtocol(SubprocessStreamProtocol):
    """Reports that a process has ended. `Process.wait` would also wait for the pipes, which children of the process
    may keep open.
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        self.exited.set()
        super().process_exited()


class LocalProcess:
    """A child process with its own process group. See `LaunchedProcess`."""

    host = "127.0.0.1"
    node = ""
    adopted = False
    ends_at: float | None = None

    def __init__(self, process: Process, event: asyncio.Event, order: LaunchOrder) -> None:
        self.token = secrets.token_hex(
            32
        )  # must not begin with a dash, because engines receive it as an argument
        self.on_log: Callable[[str], None] | None = None
        self.name = order.name
        self._process = process
        self._exited = event
        self._sessions = order.sessions
        self._children: set[psutil.Process] = set()
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)
        assert process.stderr is not None
        self._pump = asyncio.create_task(
            transcribe(process.stderr, order.log, self._lines, self._on_log), name=f"log of {order.name}"
        )
        self._reaper = asyncio.create_task(self._reap(), name=f"end of {order.name}")

    def _on_log(self, text: str) -> None:
        if self.on_log is not None:
            self.on_log(text)

    def on_end(self, hear: Callable[[LocalProcess], None]) -> None:
        """Register a callback that is called when the process ends."""
        self._reaper.add_done_callback(lambda _: hear(self))

    async def _reap(self) -> None:
        """After the process has ended, end its children that are still running."""
        await self._exited.wait()
        self._signal_group(signal.SIGKILL)
        # kills also stopped children, which do not notice that their parent has ended
        self._signal_children(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _signal_children(self, number: signal.Signals) -> None:
        """Send a signal to the children found before, if they still exist. psutil compares start times to
        recognize them.
        """
        import psutil  # slow to import, and needed only for processes that have children

        for child in self._children:
            with contextlib.suppress(psutil.Error):
                child.send_signal(number)

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
        if self._sessions and self.returncode is None:
            import psutil

            # A stopped process starts no children and reaps none, so their process ids cannot be reused.
            self._signal_group(signal.SIGSTOP)
            # The process may have ended before it was stopped, so only children that still exist are kept.
            processes = {child for child in self._children if child.is_running()}
            with contextlib.suppress(psutil.NoSuchProcess):
                processes.update(psutil.Process(self.pid).children(recursive=True))
            self._children = processes
            self._signal_children(number)
        self._signal_group(number)

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
    """Starts processes on this machine. See `portico_server.launchers.protocol.Launcher`."""

    name = "local"
    here = True

    def __init__(self) -> None:
        self._running: set[LocalProcess] = set()

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """See `Launcher`."""
        await pools.MODELS.run(order.log.parent.mkdir, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: ExitProtocol(order.line_bytes, loop),
            *order.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**inherited(*order.without), **order.environment},
            # Ctrl-C in the terminal reaches only the daemon, which then ends its children in an
            # orderly way
            start_new_session=True,
        )
        process = LocalProcess(Process(transport, protocol, loop), protocol.exited, order)
        self._running.add(process)
        process.on_end(self._running.discard)
        return process

    def jobs(self) -> Sequence[ClusterJob]:
        """See `Launcher`."""
        return [
            ClusterJob(process.name, self.name, str(process.pid), "running", os.uname().nodename)
            for process in self._running
        ]


LOCAL: Final = LocalLauncher()


async def this_machine(_name: str) -> Launcher:
    """Return the local launcher, whatever the name. For code that uses no other launcher."""
    return LOCAL
