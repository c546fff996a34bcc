"""The daemon with a clock on its event loop, for `growth.py`: ``growth_inside.py FILE ARGUMENTS OF portico_server``.

Every few milliseconds another thread puts a mark on the loop. When the loop reaches it, a line of ``FILE`` says when
it was put there, how long it took, how much of that time the loop's own thread computed, and what it was doing. The
computing time does not depend on other work on the machine. Marks that took less than `SHORT_S` are left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from portico_server import __main__ as program
from portico_server.http import server

PAUSE_S = 0.003
SHORT_S = 0.01
SEEN_AFTER_S = 0.04
"""Time after which the watcher records what the loop is doing."""

FRAMES = 6


def watch(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    """Record slow loop iterations until the process ends."""
    begun = threading.Event()
    thread: list[int] = []

    def begin() -> None:
        thread.append(threading.get_ident())
        begun.set()

    loop.call_soon_threadsafe(begin)
    begun.wait()
    clock = time.pthread_getcpuclockid(thread[0])
    with path.open("w", buffering=1) as out:
        while True:
            time.sleep(PAUSE_S)
            reached = threading.Event()
            put, computed = time.monotonic(), time.clock_gettime(clock)
            try:
                loop.call_soon_threadsafe(reached.set)
            except RuntimeError:  # the loop is closed
                return
            at: set[str] = set()
            while not reached.wait(SEEN_AFTER_S):
                at.add(" < ".join(_frames(thread[0])))
            took, cpu = time.monotonic() - put, time.clock_gettime(clock) - computed
            if took >= SHORT_S:
                print(json.dumps({"at": put, "took": took, "cpu": cpu, "doing": sorted(at)[:4]}), file=out)


def _frames(thread: int) -> list[str]:
    found = traceback.extract_stack(sys._current_frames()[thread])
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(found)][:FRAMES]


def watched(new_loop: Callable[[], asyncio.AbstractEventLoop], path: Path) -> asyncio.AbstractEventLoop:
    """Return a loop that is watched."""
    loop = new_loop()
    threading.Thread(target=watch, args=(loop, path), name="lag", daemon=True).start()
    return loop


def main() -> int:
    """Start the daemon as its own program does."""
    path, new_loop = Path(sys.argv[1]), server.new_loop
    server.new_loop = lambda: watched(new_loop, path)  # before the daemon's own module imports it
    return program.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
