"""Run time of code: `python bench/sandbox.py [--rounds N] [--json FILE]`.

The light interpreter, a cell in a warm notebook, and the first cell of a new notebook, cold and from the spare kernel.
All run in one process, without HTTP. Exits with 1 if a goal is missed, with 0 if no sandbox is available.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from harness import Report

from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.sandbox.local import LocalSandbox
from portico_server.features.sandbox.notebooks import Notebooks
from portico_server.features.sandbox.protocol import Cell, SandboxLimits

GOALS = {"light call": 1.0, "warm cell": 15.0, "first cell, cold": 1500.0, "first cell, from the pool": 100.0}
"""Goals for the medians, in milliseconds."""


async def report(message: str) -> None:
    """Print the progress of the one-time installation."""
    print(message, file=sys.stderr)


async def timed(rounds: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the milliseconds of each round."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await work()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


async def light(rounds: int) -> list[float]:
    interpreter = LightSandbox()
    await interpreter.run("1")
    try:
        return await timed(rounds, lambda: interpreter.run("sum(range(10))"))
    finally:
        await interpreter.close()


async def notebooks(rounds: int, folder: Path) -> dict[str, list[float]]:
    sandbox = LocalSandbox(Environment(folder))
    await sandbox.prepare(report)
    limits = SandboxLimits()

    async def cold() -> None:
        kernel = await sandbox.open(limits)
        await kernel.run(Cell("1 + 1"))
        await kernel.stop()

    measured = {"first cell, cold": await timed(max(5, rounds // 20), cold)}
    pool = Notebooks(sandbox, limits, limit=100, idle=600)
    try:
        await pool.run("bench", "warm", Cell("x = 1"), report)
        measured["warm cell"] = await timed(rounds, lambda: pool.run("bench", "warm", Cell("x + 1"), report))
        times: list[float] = []
        for number in range(5):
            await settled(pool)
            times += await timed(1, lambda name=f"s{number}": pool.run("bench", name, Cell("1"), report))  # type: ignore[misc]
        measured["first cell, from the pool"] = times
    finally:
        await pool.close()
    return measured


async def settled(pool: Notebooks) -> None:
    """Wait until the spare kernel is ready, as it is between the calls of people."""
    spare = pool._spare
    if spare is not None:
        await asyncio.wait([spare])


async def main(rounds: int, folder: Path, path: Path | None) -> int:
    """Measure everything and compare with the goals."""
    measured = {"light call": await light(rounds * 5)}
    reason = LocalSandbox(Environment(folder)).missing()
    if reason is None:
        measured |= await notebooks(rounds, folder)
    else:
        print(reason)
    table = Report("Code, milliseconds", ("what", "p50", "p95", "goal", "met"))
    missed = 0
    for what, goal in GOALS.items():
        times = sorted(measured.get(what, []))
        if not times:
            continue
        middle = statistics.median(times)
        missed += middle > goal
        p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
        table.add(what=what, p50=middle, p95=p95, goal=goal, met="yes" if middle <= goal else "no")
    table.show(path)
    return int(missed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--environments", type=Path, help="where the packages are or go (default: a temporary folder)"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(asyncio.run(main(given.rounds, given.environments or Path(scratch), given.json)))
