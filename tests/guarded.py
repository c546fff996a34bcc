"""Third-party daemons that stop with the tests, together with all processes they started, however the tests end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG_CODE = 1
_PR_SET_CHILD_SUBREAPER_CODE = 36


class Guarded:
    """A daemon behind a guard, which runs this file as a program. The daemon prints to the file ``out``."""

    def __init__(self, command: Sequence[str], out: Path, environment: Mapping[str, str]) -> None:
        with out.open("wb") as file:
            self._guard = subprocess.Popen(
                [sys.executable, "-P", __file__, *command],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
            )

    @property
    def alive(self) -> bool:
        return self._guard.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Return the daemon and all processes it started."""
        return psutil.Process(self._guard.pid).children(recursive=True)

    def end(self) -> None:
        """Stop the daemon and return when all of its processes have ended."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


def _guard(command: Sequence[str]) -> None:
    """Run a daemon until it ends or standard input closes, then end all processes that it started."""
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_CHILD_SUBREAPER_CODE, 1)  # orphaned children are reparented to us
    daemon = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: library.prctl(_PR_SET_PDEATHSIG_CODE, signal.SIGKILL),
    )
    daemon_fd = os.pidfd_open(daemon.pid)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reparented children that have ended are reaped
    select.select([sys.stdin, daemon_fd], [], [])
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children)


if __name__ == "__main__":
    _guard(sys.argv[1:])
