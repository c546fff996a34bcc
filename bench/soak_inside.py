"""The daemon with a view of its internals, for `soak.py`: ``soak_inside.py FILE ARGUMENTS OF portico_server``.

Writes ``FILE`` once a second: the number of asyncio tasks, threads and objects known to the collector, and the most
frequent types. With ``SOAK_TRACE`` set, ``FILE.trace`` lists the lines of code that allocated memory after the first
minute.
"""

from __future__ import annotations

import asyncio
import gc
import json
import linecache
import os
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from portico_server import __main__ as program
from portico_server import logs
from portico_server.features.stores.index import manager
from portico_server.http import server
from portico_server.runs import retention

SETTLED = 60.0
"""Seconds after which an allocation counts as permanent."""

DEPTH = 8


def counts(loop: asyncio.AbstractEventLoop) -> dict[str, object]:
    """Return the current counts. Run on the loop, because tasks can be counted only there.

    MCP sessions are counted separately: they stay for half an hour if nobody ends them.
    """
    names = [task.get_name().split(" ")[0] for task in asyncio.all_tasks(loop)]
    sessions = sum(name.endswith("_serve_opening_request.<locals>.run_server") for name in names)
    others = [name.rstrip("0123456789-") for name in names if not name.startswith("mcp.server.")]
    return {
        "tasks": len(others),
        "sessions": sessions,
        "threads": threading.active_count(),
        "kinds": Counter(others).most_common(12),
    }


def objects() -> list[tuple[str, int]]:
    """Return the types with the most objects known to the collector."""
    found = Counter(f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.get_objects())
    return found.most_common(25)


def watch(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    """Write the counts once a second, and the expensive parts once a minute."""
    began, heavy = time.monotonic(), 0.0
    many: list[tuple[str, int]] = []
    while True:
        time.sleep(1)
        now = time.monotonic()
        if now - heavy > SETTLED:
            heavy, many = now, objects()
            if tracemalloc.is_tracing():
                ours = [
                    tracemalloc.Filter(False, linecache.__file__),
                    tracemalloc.Filter(False, tracemalloc.__file__),
                ]
                grown = tracemalloc.take_snapshot().filter_traces(ours).statistics("traceback")[:25]
                text = "\n\n".join(f"{stat}\n" + "\n".join(stat.traceback.format()) for stat in grown)
                path.with_suffix(".trace").write_text(text)
            elif os.environ.get("SOAK_TRACE") and now - began > SETTLED:
                tracemalloc.start(DEPTH)  # not earlier: imports are many times slower under tracemalloc
        done: list[dict[str, object]] = []
        seen = threading.Event()

        def look(done: list[dict[str, object]] = done, seen: threading.Event = seen) -> None:
            done.append(counts(loop))
            seen.set()

        asked = time.perf_counter()
        loop.call_soon_threadsafe(look)
        seen.wait(30)
        late = time.perf_counter() - asked
        said = {**(done[0] if done else {}), "late_ms": late * 1e3, "tracked": sum(n for _, n in many)}
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({**said, "objects": many}))
        draft.replace(path)


def watched(new_loop: Callable[[], asyncio.AbstractEventLoop], path: Path) -> asyncio.AbstractEventLoop:
    """Return a loop that is watched."""
    loop = new_loop()
    threading.Thread(target=watch, args=(loop, path), name="soak", daemon=True).start()
    return loop


def accelerate(times: float) -> None:
    """Make events per hour or per megabyte occur this many times as often."""
    retention.INTERVAL_S = 3600.0 / times  # type: ignore[misc]
    manager.IDLE_CLOSE_S = 600.0 / times
    logs.MAX_LOG_BYTES = int(logs.MAX_LOG_BYTES / times)


def main() -> int:
    """Start the daemon as its own program does."""
    accelerate(float(os.environ.get("SOAK_ACCELERATE", "1")))
    path, new_loop = Path(sys.argv[1]), server.new_loop
    server.new_loop = lambda: watched(new_loop, path)  # before the daemon's own module imports it
    return program.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
