"""Runs a command that must not outlive the daemon: ``python -I -S leash.py COMMAND …``.

The daemon holds the other end of standard input. When that end closes, the command is killed with all its child
processes. Uses only a small part of the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command and return its exit status."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_watch, args=(process.pid,), daemon=True).start()
    status = process.wait()
    return status if status >= 0 else 128 - status  # a shell reports a signal in the same way


def _watch(group: int) -> None:
    while os.read(0, 4096):
        pass
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
