"""Fine-tuning: ``python bench/finetune.py``. Set PORTICO_ENVIRONMENTS and PORTICO_MODELS to folders that stay.

Tokens per second of a job and of the same trl script run bare, in turn; chat while a job runs and while none does;
seconds until the result is served. Goals: ≥0.95 ×, ≥0.8 ×, ≤5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decode import Target, decode
from harness import HERE, Report, call, daemon, ratio

from portico.client import Client
from portico.tuning import TuningEvent, TuningJob
from portico_server.settings import load

MODEL = "smollm2-135m-instruct"


def examples(path: Path, count: int) -> Path:
    """Chat examples of some sixty tokens each."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is the code word of lighthouse number {number}, please?"},
                {"role": "assistant", "content": f"[CODE] amber heron {number}"},
            ]
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def begin(client: Client, file: Path, recipe: Mapping[str, Any]) -> TuningJob:
    return client.tuning.create("default", file, recipe=recipe, hyperparameters={"n_epochs": 1}, seed=1)


def speed(client: Client, job: TuningJob) -> tuple[float, float]:
    """Tokens per second of all steps of a job but the first, and the seconds until its result was served."""
    looks: list[tuple[float, float]] = []
    live = 0.0
    for told in client.tuning.follow(job.id):
        if isinstance(told, TuningJob):
            if told.status != "succeeded":
                raise SystemExit(f"the job {told.status}: {told.error}")
        elif "tokens_per_second" in told.data:
            looks.append((told.data["tokens"], told.data["tokens_per_second"]))
        elif "seconds" in told.data:
            live = told.data["seconds"]
    spent = sum((after[0] - before[0]) / after[1] for before, after in itertools.pairwise(looks))
    return (looks[-1][0] - looks[0][0]) / spent, live


def bare(python: Path, base: Path, file: Path, recipe: Mapping[str, Any]) -> float:
    """Tokens per second of the script."""
    command = [str(python), str(HERE / "bare_trl.py"), str(base), str(file), json.dumps(recipe)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return float(said["tokens"] / said["seconds"])


def chat(url: str, rounds: int) -> float:
    """Tokens per second of one stream, the median of some."""
    target = Target(url, "default", "")
    return statistics.median(asyncio.run(decode(target, 1, 64)) for _ in range(rounds))


def while_training(client: Client, url: str, file: Path, recipe: Mapping[str, Any], rounds: int) -> float:
    """The same while a job is in the middle of its steps."""
    job = begin(client, file, {**recipe, "micro_batch": 2})
    try:
        for told in client.tuning.follow(job.id):
            if isinstance(told, TuningEvent) and told.data.get("step"):
                return chat(url, rounds)
    finally:
        client.tuning.cancel(job.id)
    raise SystemExit("the job ended before anybody chatted")


def main() -> None:
    """Measure in turn, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Fine-tuning", ("what", "tokens/s", "share"))
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder) / "home") as portico:
        file = examples(Path(folder) / "examples.jsonl", 4 * options.steps)
        many = examples(Path(folder) / "many.jsonl", 4_000)
        call(f"{portico.url}/api/deployments/default/load", {})
        samples: dict[str, list[float]] = {"bare": [], "portico": []}
        lives: list[float] = []
        with Client(portico.url) as client:
            recipe = client.tuning.plan("default", file, recipe={"micro_batch": 4}).recipe
            for _ in range(options.rounds):
                rate, live = speed(client, begin(client, file, {"micro_batch": 4}))
                samples["portico"].append(rate)
                lives.append(live)
                [base] = (Path(folder) / "home" / "unpacked").iterdir()
                python = load().settings.environments / "finetune" / "bin" / "python"
                samples["bare"].append(bare(python, base, file, {**recipe, "seed": 1}))
            rates = {name: statistics.median(found) for name, found in samples.items()}
            for name, rate in rates.items():
                report.add(
                    **{"what": f"training, {name}", "tokens/s": rate, "share": ratio(rates, name, "bare")}
                )
            chats = {"alone": chat(portico.url, options.rounds + 1)}
            chats["beside a job"] = while_training(client, portico.url, many, {}, options.rounds + 1)
            for name, rate in chats.items():
                report.add(
                    **{"what": f"chat, {name}", "tokens/s": rate, "share": ratio(chats, name, "alone")}
                )
        report.notes["seconds until served"] = statistics.median(lives)
    report.show(options.json)


if __name__ == "__main__":
    main()
