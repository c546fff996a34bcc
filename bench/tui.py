"""The terminal UI: first paint after its imports, time from key to paint, memory, and a table of ten thousand rows.

    python bench/tui.py [--rows N] [--keys N] [--json FILE]

The UI runs in a separate process, without a terminal, connected to a daemon that this script starts with one fake
model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import daemon as daemons  # noqa: E402  # the path comes first

GOALS = {"first_paint_s": 0.6, "key_p95_ms": 50.0, "memory_mb": 120.0, "table_key_p95_ms": 50.0}


async def measure(url: str, rows: int, keys: int) -> dict[str, float]:
    """Open the UI with the daemon at ``url``; return seconds, milliseconds and megabytes."""
    from portico.schemas.runs import Run
    from portico.wire import Usage
    from portico_tui.app import Portico
    from portico_tui.daemon import DaemonClient
    from portico_tui.screens.runs import RunsScreen

    app = Portico(DaemonClient(url))
    began = time.perf_counter()
    async with app.run_test(size=(120, 40)) as pilot:
        while not app.screen.query("#rows"):
            await pilot.pause()
        first = time.perf_counter() - began
        switching = await _press(pilot, ["8", "1"] * (keys // 2))
        memory = psutil.Process().memory_info().rss / 1e6
        many = [
            Run(
                id=f"run_{n}",
                kind="flow",
                name=f"flow {n % 97}",
                status="completed",
                created_at=1.7e9 + n,
                finished_at=None,
                error=None,
                usage=Usage(),
                last_event=0,
            )
            for n in range(rows)
        ]

        async def find(self: Any) -> list[Run]:
            return many

        RunsScreen.find = find  # type: ignore[method-assign]
        await pilot.press("8")
        while len(getattr(app.screen, "items", {})) < rows:
            await pilot.pause()
        moving = await _press(pilot, ["down", "pagedown", "ctrl+end", "ctrl+home"] * (keys // 4))
        sorting = await _press(pilot, ["o"] * 8)
        await pilot.press("slash")
        filtering = await _press(pilot, ["f", "l", "o", "w", "space", "9", "6", "backspace"])
        full = psutil.Process().memory_info().rss / 1e6
    return {
        "first_paint_s": first,
        "key_p50_ms": statistics.median(switching),
        "key_p95_ms": _p95(switching),
        "memory_mb": memory,
        "table_key_p50_ms": statistics.median(moving),
        "table_key_p95_ms": _p95(moving),
        "table_sort_ms": max(sorting),
        "table_filter_p95_ms": _p95(filtering),
        "table_memory_mb": full,
    }


async def _press(pilot: Any, keys: list[str]) -> list[float]:
    """Return the milliseconds from each key until painting is complete."""
    took = []
    for key in keys:
        began = time.perf_counter()
        pilot.app.simulate_key(key)
        await pilot._wait_for_screen()
        pilot.app.screen._compositor.render_strips()
        took.append((time.perf_counter() - began) * 1000)
    return took


def _p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95) - 1]


def main() -> None:
    """Run in a fresh process, print and store the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(asyncio.run(measure(given.inside, given.rows, given.keys))))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "portico.yaml").write_text(
            "models:\n  - {name: echo, source: 'fake://', aliases: [default]}\n"
        )
        with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as daemon:
            command = [sys.executable, __file__, "--inside", daemon.url]
            command += ["--rows", str(given.rows), "--keys", str(given.keys)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found: dict[str, float] = json.loads(done.stdout)
    for name, value in found.items():
        goal = GOALS.get(name)
        print(f"{name:22} {value:8.2f}" + (f"   goal ≤ {goal:g}" if goal else ""))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
