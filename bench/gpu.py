"""Engines on a GPU, called directly and through Portico, adapters and training: ``scripts/gpu bench``.

One process of an engine answers both paths, alternately. Each part is stored in the results file as soon as it is
measured; the next call continues with the missing and failed parts. Goals: ≥0.97 × with one stream, ≥0.95 × with more;
no wrong answer of an adapter; training ≥0.95 ×.

``PORTICO_TEST_VLLM`` and ``PORTICO_TEST_LMDEPLOY`` name interpreters, ``PORTICO_TEST_GPU_PYTHON`` one that trains,
``PORTICO_TEST_GPU_MODEL`` a folder with a chat model; without it ``gpu_model.py`` makes one of random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from harness import HERE, Report, call, daemon

LEVELS = (1, 16, 64, 256)
TOKENS = 128
RANK = 16
PARTS = ("vllm", "adapters", "lmdeploy", "training")
PART_S = {"vllm": 240, "adapters": 200, "lmdeploy": 200, "training": 200}
"""Time that a part may take, in seconds; a part does not start with less."""

GPU_MEMORY_SHARE = 0.5
UNFINISHED = 75
"""Exit status that means: call again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL and a key."""

    url: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; ``first`` is in seconds from the request to the first token."""

    text: str
    tokens: int
    first: float


async def ask(session: aiohttp.ClientSession, target: Target, model: str, prompt: str, tokens: int) -> Answer:
    """Run one streamed chat."""
    body = {
        "model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    begin, first, text, used = time.perf_counter(), 0.0, "", 0
    async with session.post(f"{target.url}/v1/chat/completions", json=body, headers=headers) as answer:
        if answer.status != 200:
            raise SystemExit(f"{target.url}: HTTP {answer.status}: {(await answer.text())[:500]}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise SystemExit(f"{target.url}: {event['error']}")
            for choice in event["choices"]:
                first = first or time.perf_counter() - begin
                text += choice["delta"].get("content") or choice["delta"].get("reasoning_content") or ""
            used = (event.get("usage") or {}).get("completion_tokens", used)
    return Answer(text, used, first)


async def measure(target: Target, streams: int) -> dict[str, float]:
    """Return tokens per second with that many concurrent streams, and milliseconds to the first token (p50)."""
    limit = asyncio.Semaphore(streams)
    calls = max(4, streams * 2)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, read_bufsize=2**20
    ) as session:

        async def one(number: int) -> Answer:
            async with limit:
                return await ask(session, target, "m", f"Tell story number {number}.", TOKENS)

        begin = time.perf_counter()
        answers = await asyncio.gather(*(one(number) for number in range(calls)))
        spent = time.perf_counter() - begin
    first = statistics.median(answer.first for answer in answers)
    return {"tokens": sum(answer.tokens for answer in answers) / spent, "first": first * 1e3}


def behind(process: psutil.Process) -> Target:
    """Return the server started by the daemon: its port and key are on its command line or in its environment."""
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = child.cmdline()
            port = next(
                (line[at + 1] for at, word in enumerate(line) if word in ("--port", "--server-port")), ""
            )
            if not port or not {"--served-model-name", "--model-name"} & set(line):
                continue
            keys = [line[at + 1] for at, word in enumerate(line) if word == "--api-keys"]
            return Target(f"http://127.0.0.1:{port}", [*keys, child.environ().get("VLLM_API_KEY", "")][0])
    raise SystemExit("the daemon runs no engine")


@contextlib.contextmanager
def served(engine: str, python: str, model: Path, **more: Any) -> Iterator[tuple[Target, Target]]:
    """Run a daemon with the model ``m`` loaded; yield the targets of the engine itself and of the daemon."""
    parameters = {"python": python, "context_length": 1024, "memory_share": GPU_MEMORY_SHARE}
    adapters = more.pop("adapters", [])
    spec = {"name": "m", "source": str(model), "engine": engine, "parameters": {**parameters, **more}}
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "bench.yaml"
        configuration = {
            "models": [{**spec, "adapters": adapters}],
            "settings": {"load_timeout": 400, "install_engines": False, "offline": True},
        }
        path.write_text(json.dumps(configuration))
        with daemon(Path(home) / "data", "--file", str(path)) as running:
            call(f"{running.url}/api/deployments/m/load", {}, timeout=420)
            yield behind(psutil.Process(running.pid)), Target(running.url)


def throughput(engine: str, python: str, model: Path, levels: Sequence[int]) -> dict[str, Any]:
    """Measure both paths, alternately, at each number of streams."""
    found: dict[str, Any] = {}
    with served(engine, python, model) as (direct, through):
        asyncio.run(measure(direct, max(levels)))  # warm
        for streams in levels:
            samples: dict[str, list[dict[str, float]]] = {"direct": [], "portico": []}
            for name in ("direct", "portico", "portico", "direct"):
                target = direct if name == "direct" else through
                samples[name].append(asyncio.run(measure(target, streams)))
            found[str(streams)] = {
                name: {key: statistics.median(row[key] for row in rows) for key in ("tokens", "first")}
                for name, rows in samples.items()
            }
    return found


def write_adapter(folder: Path, model: Path, seed: int) -> Path:
    """Write a PEFT folder with random weights for every attention layer of the model."""
    config = json.loads((model / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    sizes = {"q_proj": heads * head, "v_proj": config.get("num_key_value_heads", heads) * head}
    random, tensors, header, offset = np.random.default_rng(seed), [], {}, 0
    for layer in range(config["num_hidden_layers"]):
        for name, outputs in sizes.items():
            for side, shape in (("A", (RANK, hidden)), ("B", (outputs, RANK))):
                data = (random.standard_normal(shape) * 0.1).astype(np.float32).tobytes()
                key = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_{side}.weight"
                header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
                tensors.append(data)
                offset += len(data)
    folder.mkdir()
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(tensors)
    )
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [*sizes], "bias": "none"}
    (folder / "adapter_config.json").write_text(
        json.dumps({**said, "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model)})
    )
    return folder


async def mixed(target: Target, names: Sequence[str], calls: int) -> dict[str, Any]:
    """Call each name alone, then all at once; count the concurrent answers that match another name's, or no name's."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def said(name: str) -> str:
            return (await ask(session, target, name, "Tell a story.", 16)).text

        alone = {name: await said(name) for name in names}
        asked = [name for _ in range(calls) for name in names]
        together = await asyncio.gather(*(said(name) for name in asked))
    counts = {
        "calls": len(asked),
        "same": 0,
        "another's": 0,
        "nobody's": 0,
        "distinct": len(set(alone.values())),
    }
    for name, text in zip(asked, together, strict=True):
        others = {alone[other] for other in names if other != name}
        counts["same" if text == alone[name] else "another's" if text in others else "nobody's"] += 1
    return counts


def adapters(python: str, model: Path) -> dict[str, Any]:
    """Measure the base and two adapters at once, directly and through Portico."""
    with tempfile.TemporaryDirectory() as made:
        folders = {
            name: write_adapter(Path(made) / name, model, seed) for seed, name in enumerate(("a", "b"))
        }
        specs = [{"name": name, "path": str(folder)} for name, folder in folders.items()]
        with served("vllm", python, model, adapters=specs, adapters_at_once=2) as (direct, through):
            found = {"portico": asyncio.run(mixed(through, ("m", "a", "b"), 16))}
            return {**found, "direct": asyncio.run(mixed(direct, ("m", "a", "b"), 16))}


def training(python: str, model: Path, steps: int) -> dict[str, Any]:
    """Return the tokens per second of Portico's training process and of a typical trl script, measured alternately.

    A run's rate is the median of its steps, without the first: steps take a fraction of a second, and Portico also
    writes a checkpoint after the fifth.
    """
    os.environ["PORTICO_TEST_FINETUNE"] = python
    sys.path.insert(0, str(HERE.parent))
    from tests.server.features.training.child.bases import BaseModel, task, trained, trainer

    from portico_server.features.training.training_events import Metrics

    told = "[CODE] amber heron "
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Number {n}?"},
                {"role": "assistant", "content": told * 8},
            ]
        }
        for n in range(256)
    ]
    device = os.environ.get("PORTICO_TEST_GPU_DEVICE", "cuda")
    recipe: dict[str, Any] = {
        "steps": steps,
        "micro_batch": 8,
        "rank": RANK,
        "alpha": 2 * RANK,
        "device": device,
    }
    base = BaseModel("m", model, "safetensors", "vllm", "", 0, 0, 0, 0, 1024, 0)
    losses: list[float] = []

    def portico(folder: Path) -> float:
        training_task = task(folder / "job", base, rows, eval_interval=steps, **recipe)
        looks = []
        for event in asyncio.run(trained(trainer(folder), training_task)):
            if isinstance(event, Metrics) and event.loss is not None:
                looks.append(event)
                losses.append(event.loss)
        return statistics.median(
            look.values["tokens_per_second"] for look in looks[1:] if "tokens_per_second" in look.values
        )

    def bare(folder: Path) -> float:
        examples = folder / "examples.jsonl"
        examples.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        settings = {**recipe, "learning_rate": 1e-3, "max_length": 256, "eval_interval": steps, "seed": 1}
        command = [python, str(HERE / "bare_trl.py"), str(model), str(examples), json.dumps(settings)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_second"])

    rates: dict[str, list[float]] = {"portico": [], "bare": []}
    for measured_rate in (portico, bare, bare, portico):
        with tempfile.TemporaryDirectory() as folder:
            rates[measured_rate.__name__].append(measured_rate(Path(folder)))
    medians = {name: statistics.median(runs) for name, runs in rates.items()}
    return {**medians, "runs": rates, "loss": [losses[0], losses[steps - 1]]}


def show(kept: Mapping[str, Any], missing: Sequence[str], failed: Mapping[str, str]) -> None:
    """Print a table of ratios, the names of unmeasured parts, and the failed parts with reasons."""
    for engine in ("vllm", "lmdeploy"):
        if not isinstance(kept.get(engine), dict) or "skipped" in kept[engine]:
            continue
        report = Report(
            f"{engine}: tokens per second", ("streams", "direct", "portico", "ratio", "first_ms", "added_ms")
        )
        for streams, row in kept[engine].items():
            direct, through = row["direct"], row["portico"]
            report.add(
                streams=streams, direct=direct["tokens"], portico=through["tokens"],
                ratio=through["tokens"] / direct["tokens"], first_ms=through["first"],
                added_ms=through["first"] - direct["first"],
            )  # fmt: skip
        report.show(None)
    for name in ("adapters", "training"):
        if name in kept:
            print(f"\n{name}: {json.dumps(kept[name])}")
            if "bare" in kept[name]:
                print(f"ratio: {kept[name]['portico'] / kept[name]['bare']:.2f}")
    for name, found in kept.items():
        if isinstance(found, dict) and "skipped" in found:
            print(f"\n{name}: skipped: {found['skipped']}")
    for name, reason in failed.items():
        print(f"\n{name}: failed: {reason}")
    if missing:
        print(f"\nNot measured yet: {', '.join(missing)}. Call again to continue.")


def main() -> None:
    """Measure the missing parts, store them, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="file that holds what was measured")
    parser.add_argument("--seconds", type=float, default=540.0, help="no part is begun that might end later")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--steps", type=int, default=30, help="of the training")
    parser.add_argument("--streams", default=",".join(map(str, LEVELS)))
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    kept = json.loads(options.results.read_text()) if options.results.is_file() else {}
    levels = [int(level) for level in options.streams.split(",")]
    pythons = {
        engine: os.environ.get(f"PORTICO_TEST_{engine.upper()}", "") for engine in ("vllm", "lmdeploy")
    }
    trainer = os.environ.get("PORTICO_TEST_GPU_PYTHON", "")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(os.environ.get("PORTICO_TEST_GPU_MODEL") or Path(folder) / "model")
        if not model.is_dir():
            made = (trainer or sys.executable, str(HERE / "gpu_model.py"), str(model))
            subprocess.run(made, check=True)
        measures: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
            "vllm": (pythons["vllm"], lambda: throughput("vllm", pythons["vllm"], model, levels)),
            "adapters": (pythons["vllm"], lambda: adapters(pythons["vllm"], model)),
            "lmdeploy": (
                pythons["lmdeploy"],
                lambda: throughput("lmdeploy", pythons["lmdeploy"], model, levels),
            ),
            "training": (trainer, lambda: training(trainer, model, options.steps)),
        }
        failed: dict[str, str] = {}
        wanted = [part for part in options.parts.split(",") if part not in kept]
        for part in wanted:
            python, measured = measures[part]
            if python and until - time.monotonic() < PART_S[part]:
                continue
            try:
                kept[part] = measured() if python else {"skipped": "no interpreter is named for it"}
            except (SystemExit, Exception) as error:  # noqa: BLE001 - one engine that fails keeps no other from its turn
                failed[part] = str(error) or type(error).__name__
                continue
            options.results.write_text(json.dumps(kept, indent=1) + "\n")
    missing = [part for part in wanted if part not in kept and part not in failed]
    show(kept, missing, failed)
    sys.exit(UNFINISHED if missing else len(failed))


if __name__ == "__main__":
    main()
