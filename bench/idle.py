"""Cost of open streams that send nothing: ``python bench/idle.py``.

A thousand clients request a stream, read its first word, and wait; the model withholds the rest. The benchmark
measures the daemon's resident memory without and with them. Goal: ≤50 MB for all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from harness import Report, daemon, wait_for

MB = 1024 * 1024
SCRIPT = [{"content": "one two", "hang": 1}]
BODY = json.dumps(
    {"model": "quiet", "messages": [{"role": "user", "content": "Hello."}], "stream": True}
).encode()


async def opened(host: str, port: int) -> asyncio.StreamWriter:
    """Return a stream that has sent its first word."""
    reader, writer = await asyncio.open_connection(host, port, limit=4096)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
    await reader.readuntil(b'"one')
    return writer


@contextlib.asynccontextmanager
async def streams(url: str, count: int, at_once: int) -> AsyncIterator[float]:
    """Open ``count`` streams for the duration of a ``with`` block; yield the seconds it took to open them."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    writers: list[asyncio.StreamWriter] = []
    begin = time.perf_counter()
    try:
        for _ in range(0, count, at_once):
            more = [opened(parts.hostname, parts.port) for _ in range(min(at_once, count - len(writers)))]
            writers += await asyncio.gather(*more)
        yield time.perf_counter() - begin
    finally:
        for writer in writers:
            writer.close()


async def measure(url: str, pid: int, report: Report, count: int, at_once: int, rounds: int) -> None:
    """Run rounds of open, measure, close. The first round includes one-time allocations."""
    process = psutil.Process(pid)
    for path in ("/openapi.json", "/mcp"):  # the daemon imports its APIs once it serves, and keeps them
        wait_for(url + path, process.is_running)
    async with streams(url, at_once, at_once):
        pass
    for number in range(1, rounds + 1):
        before = process.memory_info().rss
        async with streams(url, count, at_once) as seconds:
            await asyncio.sleep(1)  # for the daemon's remaining work after the first word
            during = process.memory_info().rss
        report.add(
            round=number,
            streams=count,
            **{
                "MB before": before / MB,
                "MB with them": during / MB,
                "growth MB": (during - before) / MB,
                "KB each": (during - before) / 1024 / count,
                "seconds to open": seconds,
            },
        )
        await asyncio.sleep(1)  # no event announces that the daemon has released all streams
    report.notes["goal: growth of the first round, MB"] = 50


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=50, help="streams that are opened at the same time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * options.streams)), hard))
    columns = ("round", "streams", "MB before", "MB with them", "growth MB", "KB each", "seconds to open")
    report = Report("Idle streams", columns)
    model = {"name": "quiet", "source": "fake://", "parameters": {"script": SCRIPT}, "queue_limit": 0}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "portico.yaml"
        file.write_text(json.dumps({"models": [model]}))
        with daemon(Path(folder) / "home", "--file", str(file)) as portico:
            asyncio.run(
                measure(portico.url, portico.pid, report, options.streams, options.at_once, options.rounds)
            )
    report.show(options.json)


if __name__ == "__main__":
    main()
