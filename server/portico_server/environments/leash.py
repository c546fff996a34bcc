"""Runs a command that must not outlive the daemon: ``python -I -S leash.py COMMAND …``.

When standard input closes, whose other end the daemon has, the command is killed with whatever it has started.
Standard library only, and little of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """The command's exit status."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_watch, args=(process.pid,), daemon=True).start()
    status = process.wait()
    return status if status >= 0 else 128 - status  # as a shell reports a signal


def _watch(group: int) -> None:
    while os.read(0, 4096):
        pass
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
