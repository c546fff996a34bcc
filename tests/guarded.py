"""Daemons of others that end with the tests, with all that they started, whatever ends the tests."""

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
    """A daemon behind a guard, this file as a program; what it prints goes to the file ``out``."""

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
        """The daemon and all that it started."""
        return psutil.Process(self._guard.pid).children(recursive=True)

    def end(self) -> None:
        """Returns when nothing of it is left."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


def _guard(command: Sequence[str]) -> None:
    """Run a daemon until it ends or standard input closes; then nothing that it started is left."""
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_CHILD_SUBREAPER_CODE, 1)  # what is left of its children comes to us
    daemon = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: library.prctl(_PR_SET_PDEATHSIG_CODE, signal.SIGKILL),
    )
    ended = os.pidfd_open(daemon.pid)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what has come to us and ended is gone
    select.select([sys.stdin, ended], [], [])
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children)


if __name__ == "__main__":
    _guard(sys.argv[1:])
