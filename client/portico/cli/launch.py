"""Starts the daemon as a child process and waits for its own words: it serves, or why it cannot."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from portico.cli.session import daemon_command
from portico.errors import PorticoError, from_body
from portico.wire import ErrorBody

GRACE = 10.0
"""Seconds that the daemon is given to end by itself."""


@dataclass(frozen=True, slots=True)
class Child:
    """The daemon's process. A ``detached`` one outlives us, others end when their standard input closes."""

    process: subprocess.Popen[str]
    detached: bool

    def ready(self) -> str:
        """Wait for the line that says it serves; its URL. Raises `PorticoError` with the reason if not."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        try:
            said = json.loads(line)
        except ValueError:
            said = {}
        if isinstance(said, dict) and said.get("ready"):
            return str(said["url"])
        code = self.stop()
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            raise from_body(ErrorBody(**said["error"]))
        hint = " Start it without --detach to see why." if self.detached else ""
        raise PorticoError(
            f"The daemon ended before it served (exit code {code}).{hint}", code="start_failed"
        )

    def stop(self) -> int:
        """Ask it to end, insist after `GRACE` seconds; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def spawn(arguments: Sequence[str], *, detached: bool) -> Child:
    """Start it now, in a session of its own: a Ctrl-C in the terminal reaches us, and we end it in order."""
    command = daemon_command("serve", "--quiet", *arguments)
    if not detached:
        command.append("--parent-watch")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A detached daemon must not hold our terminal, or the pipe of whoever called us.
        stderr=subprocess.DEVNULL if detached else None,
        text=True,
        start_new_session=True,
    )
    return Child(process, detached)


def end_on_terminate() -> None:
    """Let SIGTERM end us as Ctrl-C does, so that the child is ended in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
