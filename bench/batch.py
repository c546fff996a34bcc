"""A batch compared with the same calls online: ``python bench/batch.py``.

It measures lines per second through a batch, from its creation to its files, and calls per second over HTTP at the
same concurrency, on the fake engine, alternately; also a caller's latency alone and beside a batch, and the daemon's
memory through many lines. Goals: ≥0.95 × online; p50 beside a batch ≤1.5 ×; ≤100 MB more for 50,000 lines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from harness import Report, Serving, daemon, load

from portico import Client
from portico.schemas.batches import Batch

ENDPOINT = "/v1/chat/completions"

BODY = {"model": "echo", "messages": [{"role": "user", "content": "Say a few words that are the same."}]}


def begin(client: Client, lines: int, folder: Path) -> Batch:
    """Start a batch with that many requests."""
    path = folder / f"{lines}.jsonl"
    if not path.exists():
        with path.open("w") as file:
            for number in range(lines):
                asked = {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": BODY}
                file.write(json.dumps(asked) + "\n")
    return client.batches.create(path)


def memory(pid: int) -> float:
    """Return the daemon's own memory in MB, without mapped files, mainly the database."""
    held = psutil.Process(pid).memory_info()
    return (held.rss - held.shared) / 1e6


def ended(client: Client, batch: Batch, look: Callable[[], None] = lambda: None) -> Batch:
    """Wait until the batch ends; every request must be answered. Call ``look`` meanwhile."""
    while not batch.ended:
        time.sleep(0.1)  # a status request costs the daemon as much as a few lines
        look()
        batch = client.batches.get(batch.id)
    if batch.completed != batch.total:
        raise SystemExit(f"the batch is {batch.status}: {batch}")
    return batch


def measure(serving: Serving, options: argparse.Namespace, folder: Path, report: Report) -> None:
    """Measure rates and then latencies, each alternately, then memory."""
    data = json.dumps(BODY).encode()
    online: list[float] = []
    through: list[float] = []
    alone: list[float] = []
    beside: list[float] = []
    with Client(serving.url) as client:
        for number in range(options.rounds + 1):
            rate = load(serving.url + ENDPOINT, data, options.concurrency, options.seconds).rate
            start = time.perf_counter()
            ended(client, begin(client, options.lines, folder))
            lines = options.lines / (time.perf_counter() - start)
            quiet = load(serving.url + ENDPOINT, data, 1, options.seconds)
            batch = begin(client, 50_000, folder)  # more than the daemon can finish meanwhile
            while client.batches.get(batch.id).status == "validating":
                time.sleep(0.02)
            busy = load(serving.url + ENDPOINT, data, 1, options.seconds)
            client.batches.cancel(batch.id)
            client.batches.wait(batch.id)
            if number:  # the first round is a warm-up
                online.append(rate)
                through.append(lines)
                alone.append(quiet.p50)
                beside.append(busy.p50)
        held = [memory(serving.pid)]
        start = time.perf_counter()
        batch = begin(client, options.many, folder)
        batch = ended(client, batch, lambda: held.append(memory(serving.pid)))
        took = time.perf_counter() - start
    report.add(what="online, calls/s", figure=median(online))
    report.add(what="batch, lines/s", figure=median(through), ratio=median(through) / median(online))
    report.add(what="one caller alone, p50 ms", figure=median(alone))
    report.add(
        what="one caller beside a batch, p50 ms", figure=median(beside), ratio=median(beside) / median(alone)
    )
    report.add(what=f"{batch.total:,} lines, s", figure=took)
    report.add(what=f"memory through {batch.total:,} lines, MB more at most", figure=max(held) - held[0])


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000, help="of a batch whose rate is measured")
    parser.add_argument("--many", type=int, default=50_000, help="of the batch whose memory is measured")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Batches", ("what", "figure", "ratio"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config: dict[str, Any] = {
            "models": [{"name": "echo", "source": "fake://"}],
            "settings": {"batch_concurrency": options.concurrency, "offline": True},
        }
        (folder / "portico.yaml").write_text(json.dumps(config))
        with daemon(folder / "home", "--file", str(folder / "portico.yaml")) as serving:
            measure(serving, options, folder, report)
    report.show(options.json)


if __name__ == "__main__":
    main()
