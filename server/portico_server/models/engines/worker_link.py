"""A worker's side of its tie to the daemon: configuration in, port out, and death with the parent.

Used by the `worker.py` of each engine. Standard library only, and it runs before anything heavy is imported.
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
"""Seconds between two looks at whether the parent lives, for a platform where the pipe was inherited
elsewhere.
"""


_voice = sys.stdout
"""Where the daemon listens, once `receive` has moved everyone else's output to the log."""


def receive(farewell: Callable[[], None] | None = None) -> dict[str, Any]:
    """Read the configuration, one line of JSON, from standard input; from now on, end when that closes.

    ``farewell`` is called before that end, from another thread.
    """
    global _voice
    _voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must neither be taken for us nor fill a pipe that nobody reads
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit("portico: the daemon left before it said what to load")
        line += byte
    threading.Thread(target=_watch, args=(os.getppid(), farewell), daemon=True, name="lifeline").start()
    config: dict[str, Any] = json.loads(line)
    return config


def announce(port: int, **facts: Any) -> None:
    """Tell the daemon that the worker answers on ``port``."""
    _send_line({"port": port, **facts})


def give_up(message: str) -> None:
    """Tell the daemon why the worker cannot start, and end."""
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
            # Nothing in here is worth saving, and a native thread might hold up an orderly end.
            os._exit(0)
