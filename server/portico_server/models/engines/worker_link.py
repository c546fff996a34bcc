"""A worker's connection to the daemon: reads the configuration, reports the port, and ends with the parent.

Used by the `worker.py` of each engine. Uses only the standard library, and runs before anything heavy is imported.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any

PARENT_CHECK_INTERVAL_S = 2.0
"""Seconds between checks that the parent is running.

Needed on platforms where another process can inherit the pipe and keep it open.
"""


_voice = sys.stdout
"""Stream to the daemon. `receive` replaces it with a copy, and redirects all other output to the log."""


def receive(farewell: Callable[[], None] | None = None) -> dict[str, Any]:
    """Read the configuration, one line of JSON, from standard input. Afterwards, exit when standard input closes.

    ``farewell`` is called before that exit, from another thread.
    """
    global _voice
    _voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(
        2, 1
    )  # a library's output must not be mistaken for the worker's, nor fill a pipe that nobody reads
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit("portico: the daemon left before it sent the configuration")
        line += byte
    threading.Thread(target=_watch, args=(os.getppid(), farewell), daemon=True, name="lifeline").start()
    config: dict[str, Any] = json.loads(line)
    return config


def announce(port: int, **facts: Any) -> None:
    """Report to the daemon that the worker listens on ``port``."""
    _send_line({"port": port, **facts})


def give_up(message: str) -> None:
    """Report to the daemon why the worker cannot start, and exit."""
    _send_line({"error": message})
    raise SystemExit(3)


def _send_line(value: dict[str, Any]) -> None:
    _voice.write(json.dumps(value) + "\n")
    _voice.flush()


def _watch(parent: int, farewell: Callable[[], None] | None) -> None:
    while True:
        readable, _, _ = select.select([0], [], [], PARENT_CHECK_INTERVAL_S)
        if (readable and not os.read(0, 4096)) or os.getppid() != parent:
            if farewell is not None:
                farewell()
            # Nothing in this process is worth saving, and a native thread might delay an orderly exit.
            os._exit(0)
