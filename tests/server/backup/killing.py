"""Runs the daemon's program once for each number N, and kills it at the N-th begin or end of a transaction.

Usage: ``killing.py N,N,… ARGUMENTS``. Prints the exit status of each run. A kill at an end comes before the commit.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import Any

import asyncpg
import sqlalchemy.ext.asyncio
from sqlalchemy import Engine, event

import portico_server.backup.migration
import portico_server.maintenance
from portico_server.__main__ import main

LOADED = (asyncpg, sqlalchemy.ext.asyncio, portico_server.backup.migration, portico_server.maintenance)
"""Modules that each run needs: they are loaded once, before the first fork."""


def run_killed(point: int, arguments: list[str]) -> int:
    """Run a command in a child process, and return the status of the child."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    events = count(1)

    def kill(_connection: Any) -> None:
        if next(events) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "begin", kill)
    event.listen(Engine, "commit", kill)
    os.dup2(2, 1)
    os._exit(main(arguments))


if __name__ == "__main__":
    for number in sys.argv[1].split(","):
        print(run_killed(int(number), sys.argv[2:]), flush=True)
