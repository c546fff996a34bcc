"""Runs commands that are each killed with SIGKILL at the N-th event of a kind.

Reads orders from standard input, one JSON object a line: ``point`` (N, or 0 for no kill), ``events`` and ``arguments``.
``events`` is ``transactions`` for the begins and ends of transactions, or ``calls`` for the calls of functions once the
command's own function has begun. A kill at the end of a transaction comes before the commit.

Prints a line for each order: the exit status, and the number of events if the command was not killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from itertools import count
from types import FrameType
from typing import Any

import asyncpg
import sqlalchemy.ext.asyncio
from sqlalchemy import Engine, event

import portico.cli.backup
import portico.cli.root
import portico_server.blobs.bucket
import portico_server.features.backup.maintenance
import portico_server.features.backup.migration
from portico_server.__main__ import main

LOADED = (
    asyncpg,
    sqlalchemy.ext.asyncio,
    portico_server.features.backup.migration,
    portico_server.blobs.bucket,
)
"""Modules that runs need: they are loaded once, before the first fork."""

BEGINS = (portico_server.features.backup.maintenance.run.__code__, portico.cli.backup.backup.__code__)
"""The functions of the commands. What comes before them, such as the settings, changes nothing."""


def run_killed(point: int, events: str, arguments: list[str]) -> None:
    """Run a command in a child process, and print what became of it."""
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            print(status, flush=True)
        return
    numbers = count(1)

    def kill(*_: Any) -> None:
        if next(numbers) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_call(_frame: FrameType, what: str, _argument: Any) -> None:
        if what in ("call", "c_call"):
            kill()

    def on_begin(frame: FrameType, _what: str, _argument: Any) -> None:
        if frame.f_code in BEGINS:
            threading.setprofile(on_call)
            sys.setprofile(on_call)

    if events == "calls":
        sys.setprofile(on_begin)
    else:
        event.listen(Engine, "begin", kill)
        event.listen(Engine, "commit", kill)
    out = os.dup(1)
    os.dup2(2, 1)
    status = portico.cli.root.run(arguments[1:]) if arguments[0] == "portico" else main(arguments)
    sys.setprofile(None)
    os.write(out, f"{status} {next(numbers) - 1}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin:
        run_killed(**json.loads(line))
