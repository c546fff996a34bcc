"""A month in an hour: ``python bench/soak.py --minutes 40``.

Users of all kinds (`soak_load.py`) use one daemon at the same time: they leave half of the streams in the middle,
files are added and removed, assistants vanish, an engine is killed now and then, keys and apps change. Meanwhile
backups run, old runs are deleted and space is freed. The benchmark records memory, files, threads, tasks, latencies
and disk use. ``--accelerate N``: events that occur per hour, quarter of an hour or megabyte (retention, rescans, idle
indexes, rotated logs) occur N times as often.

Afterwards it reports what grew, by the slope after the warm-up, and whether a second start restores everything. The
verdict is printed as JSON; `scripts/soak` runs the benchmark. Goals after the warm-up: memory ±5 %, no more open
files, threads or tasks than the hourly limit, write-ahead log and logs below their bounds, and neither the p95 of a
search nor the longest /health of a sample doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import soak_load
from harness import HERE, Report, Serving, daemon, wait_for
from soak_load import Load

from portico import AsyncClient

MB = 1024 * 1024
GOALS = {"own MB": 20.0, "files": 10.0, "threads": 0.5, "tasks": 10.0}
"""Maximum growth per hour in the second half."""

WARM_SHARE = 0.4
"""Share of the time for the warm-up, at most `WARM_MINUTES`: threads, connections and caches open on first use."""

WARM_MINUTES = 30.0

MEMORY_DRIFT = 0.05
"""Allowed change of the daemon's memory after the warm-up, up or down, as a share."""

LATENCY_RATIO = 2.0
LATENCY_FLOOR_MS = 50.0
"""Latency in milliseconds below which growth does not count."""

MAX_WAL_MB = 64.0 + 16.0
MAX_LOG_KB = 25 * 1024 + 20 * 5 * 1024
"""Maximum size of the logs of the daemon and of this many models and servers, in KB."""

COLUMNS = (
    *("minute", "MB", "own MB", "children MB", "children", "files", "threads", "tasks", "sessions"),
    *("db MB", "wal MB", "index MB", "blobs MB", "log kB", "p50 ms", "p95 ms", "health ms", "calls"),
)


def size(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder; files that vanish meanwhile count zero."""
    files = [path] if path.is_file() else [Path(at, name) for at, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


async def probe(client: AsyncClient) -> tuple[float, float]:
    """Return the milliseconds of a small search under load: the median and the p95 of 20."""
    taken: list[float] = []
    for _ in range(20):
        begun = time.perf_counter()
        await client.search("moving", "harbour lantern")
        taken.append((time.perf_counter() - begun) * 1e3)
    ordered = sorted(taken)
    return statistics.median(ordered), ordered[18]


async def health(client: AsyncClient) -> float:
    """Return the longest of 20 requests to /health, in milliseconds."""
    longest = 0.0
    for _ in range(20):
        begun = time.perf_counter()
        await client.health()
        longest = max(longest, (time.perf_counter() - begun) * 1e3)
    return longest


def seen_through(window: Path) -> dict[str, Any]:
    """Return the daemon's report about itself."""
    seen: dict[str, Any] = json.loads(window.read_text()) if window.exists() else {}
    return seen


async def sample(pid: int, home: Path, window: Path, client: AsyncClient) -> dict[str, Any]:
    """Return a sample of all measures."""
    process = psutil.Process(pid)
    memory, children = process.memory_info(), process.children(recursive=True)
    held = 0
    for child in children:
        with contextlib.suppress(psutil.Error):
            held += child.memory_info().rss
    seen = seen_through(window)
    p50, p95 = await probe(client)
    return {
        "MB": memory.rss / MB,
        "own MB": (memory.rss - memory.shared) / MB,  # without mapped files, mainly the database
        "children MB": held / MB,
        "children": len(children),
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "tasks": seen.get("tasks"),
        "sessions": seen.get("sessions"),
        "db MB": (home / "portico.db").stat().st_size / MB,
        "wal MB": size(home / "portico.db-wal") / MB,
        "index MB": size(home / "indexes") / MB,
        "blobs MB": size(home / "blobs") / MB,
        "log kB": size(home / "logs") / 1024,
        "p50 ms": p50,
        "p95 ms": p95,
        "health ms": await health(client),
        "late ms": seen.get("late_ms"),
        "kinds": seen.get("kinds"),
        "objects": seen.get("objects"),
    }


def grown(samples: Sequence[dict[str, Any]], name: str) -> float:
    """Return the growth per hour in the second half.

    It compares the medians of the end and the beginning of that half, so that no single sample dominates.
    """
    half: list[tuple[float, float]] = [
        (row["minute"], row[name]) for row in samples[len(samples) // 2 :] if row[name] is not None
    ]
    first, last = half[: len(half) // 2], half[len(half) // 2 :]
    if not first:
        return 0.0
    hours = (statistics.mean(at for at, _ in last) - statistics.mean(at for at, _ in first)) / 60
    return (statistics.median(x for _, x in last) - statistics.median(x for _, x in first)) / hours


def verdict(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return whether it would continue so for a month: each measure, its bound, and whether it is kept."""
    warm = min(WARM_MINUTES, samples[-1]["minute"] * WARM_SHARE)
    after = [row for row in samples if row["minute"] >= warm] or list(samples)
    half = len(after) // 2 or 1
    first, last = after[:half], after[half:] or after

    def middle(rows: Sequence[dict[str, Any]], name: str) -> float:
        return float(statistics.median(row[name] for row in rows if row[name] is not None))

    checks: dict[str, dict[str, Any]] = {}

    def check(name: str, value: float, bound: float) -> None:
        checks[name] = {"value": round(value, 2), "bound": round(bound, 2), "kept": value <= bound}

    memory = middle(first, "own MB")
    check("memory MB", abs(middle(last, "own MB") - memory), MEMORY_DRIFT * memory)
    for name, goal in GOALS.items():
        if name != "own MB":
            # A few come and go with current calls; more than the hourly goal is a slope.
            check(name, middle(last, name) - middle(first, name), max(goal, 2.0))
    check("wal MB", max(row["wal MB"] for row in after), MAX_WAL_MB)
    check("log kB", max(row["log kB"] for row in after), MAX_LOG_KB)
    for name in ("p95 ms", "health ms"):
        check(name, middle(last, name), max(LATENCY_FLOOR_MS, LATENCY_RATIO * middle(first, name)))
    curve = [
        {
            name: round(row[name], 1)
            for name in ("minute", "MB", "own MB", "files", "threads", "wal MB", "log kB")
        }
        for row in samples[:: max(1, len(samples) // 20)]
    ]
    return {
        "kept": all(item["kept"] for item in checks.values()),
        "warm-up minutes": round(warm, 1),
        "minutes": round(samples[-1]["minute"], 1),
        "calls": samples[-1]["calls"],
        "checks": checks,
        "curve": curve,
    }


async def housekeeping(client: AsyncClient, place: Path, times: float) -> None:
    """Run an operator's monthly jobs: a backup each night, deleting old runs, freeing space."""
    while True:
        await asyncio.sleep(max(20.0, 3600.0 / times))
        await client.backup(place / "backup.zip")
        await client.runs.prune(days=0.002)
        await client.vacuum()


def rows_of(home: Path) -> dict[str, int]:
    """Return the number of rows in each table."""
    with contextlib.closing(sqlite3.connect(f"file:{home}/portico.db?mode=ro", uri=True)) as database:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        return {name: database.execute(f'select count(*) from "{name}"').fetchone()[0] for name in names}


async def soak(
    serving: Serving, home: Path, folder: Path, window: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Apply the load and take samples for the requested time."""
    samples: list[dict[str, Any]] = []
    load = Load(serving.url, folder, options.calm)
    begun = time.monotonic()
    async with AsyncClient(serving.url) as client:
        await client.stores.add("moving", folder=folder)
        users = asyncio.create_task(load.run())
        keeping = asyncio.create_task(housekeeping(client, folder.parent, options.accelerate))
        try:
            while time.monotonic() - begun < options.minutes * 60 and not users.done():
                await asyncio.sleep(options.every)
                row = await sample(serving.pid, home, window, client)
                samples.append({"minute": (time.monotonic() - begun) / 60, **row, "calls": load.done.total()})
                if options.json is not None:
                    options.json.with_suffix(".live").write_text(
                        json.dumps([samples, load.done, load.failed, rows_of(home)])
                    )
        finally:
            for task in (keeping, users):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await load.close()
        await asyncio.sleep(20)  # no event announces that the last of it has ended
        rest = await sample(serving.pid, home, window, client)
        pruned = await client.runs.prune(days=0)
    samples[-1] |= {
        "failed": dict(load.failed),
        "done": dict(load.done),
        "at rest": rest,
        "pruned": str(pruned),
    }
    return samples


async def told(url: str, seconds: float) -> dict[str, Any]:
    """Return what a daemon knows about the work done with it."""
    async with AsyncClient(url) as client:
        store = await client.stores.get("moving")
        found = await client.search("moving", "harbour")
        return {
            "files ready": store.file_counts.completed,
            "files failed": store.file_counts.failed,
            "passages": len(found.passages),
            "sessions": len(await client.sessions.list(limit=1000)),
            "seconds to serve": seconds,
        }


def main() -> int:
    """Run the soak, sample again, print and store the results; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--hours", type=float, help="in place of --minutes")
    parser.add_argument("--accelerate", type=float, default=15.0, help="how many times as often by the clock")
    parser.add_argument("--calm", type=float, default=1.0, help="how many times longer each user pauses")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two looks")
    parser.add_argument("--rows", type=int, default=20, help="rows of the table; the JSON has all looks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.hours is not None:
        options.minutes = options.hours * 60
    os.environ["SOAK_ACCELERATE"] = str(options.accelerate)
    os.environ.setdefault("PORTICO_SOURCE_INTERVAL", str(900.0 / options.accelerate))
    report = Report("A month", COLUMNS)
    with tempfile.TemporaryDirectory() as place:
        folder, home, window = Path(place) / "moving", Path(place) / "home", Path(place) / "window.json"
        folder.mkdir()
        given = ("--file", str(soak_load.written(Path(place))))
        program = (str(HERE / "soak_inside.py"), str(window))
        with daemon(home, *given, program=program) as serving:
            wait_for(serving.url + "/mcp", lambda: psutil.pid_exists(serving.pid))
            samples = asyncio.run(soak(serving, home, folder, window, options))
            before = asyncio.run(told(serving.url, 0.0))
            begun = time.perf_counter()
        report.notes["seconds to stop"] = time.perf_counter() - begun
        report.notes["rows"] = rows_of(home)
        begun = time.perf_counter()
        with daemon(home, *given) as again:
            seconds = time.perf_counter() - begun
            report.notes["before"] = before
            report.notes["after a second start"] = asyncio.run(told(again.url, seconds))
    for number, row in enumerate(samples):
        if number % max(1, len(samples) // options.rows) == 0 or number == len(samples) - 1:
            report.add(**row)
    last = samples[-1]
    for name in ("done", "failed", "at rest", "pruned"):
        report.notes[name] = last[name]
    for name, goal in GOALS.items():
        report.notes[f"{name} more an hour (goal ≤{goal:g})"] = grown(samples, name)
    found = verdict(samples)
    found["failed calls"] = last["failed"]
    found["kept"] = found["kept"] and not last["failed"]
    report.show(options.json)
    print(json.dumps(found))
    return int(not found["kept"])


if __name__ == "__main__":
    os.environ.setdefault("PORTICO_LOG_LEVEL", "info")
    raise SystemExit(main())
