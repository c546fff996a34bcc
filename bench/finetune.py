"""Fine-tuning: ``python bench/finetune.py``. Set PORTICO_ENVIRONMENTS and PORTICO_MODELS to permanent folders.

It measures tokens per second of a job and of the same plain trl script, alternately and at the same priority; chat
beside a job and while the job is paused, alternately; and the seconds until the result is served. Shares are medians
over rounds. Goals: ≥0.95 ×, ≥0.8 ×, ≤5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from decode import Target, decode
from harness import HERE, Report, call, daemon

from portico.client import Client
from portico.schemas.fine_tuning import TuningEvent, TuningJob
from portico_server.settings import load

WISHED = {"micro_batch": 4}
"""Settings for the job and the script."""

ONCE = {"n_epochs": 1}
"""Number of passes over the examples."""


def examples(path: Path, count: int) -> Path:
    """Write chat examples of about sixty tokens each."""
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
    return client.tuning.create("default", file, recipe=recipe, hyperparameters=ONCE, seed=1)


def speed(client: Client, job: TuningJob) -> tuple[float, float]:
    """Return the tokens per second of all steps of a job but the first, and the seconds until its result was served."""
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


def bare(python: Path, base: Path, file: Path, recipe: Mapping[str, Any], nice: int) -> float:
    """Return the tokens per second of the script, run at the same low priority as a job."""
    command = ["nice", "-n", str(nice), str(python), str(HERE / "bare_trl.py"), str(base), str(file)]
    done = subprocess.run([*command, json.dumps(recipe)], check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return float(said["tokens"] / said["seconds"])


class Training:
    """A job and the plain script, alternately; the order changes from round to round."""

    def __init__(self, client: Client, home: Path, file: Path) -> None:
        self._client = client
        self._home = home
        self._file = file
        self._settings = load().settings
        self._recipe = client.tuning.plan("default", file, recipe=WISHED, hyperparameters=ONCE).recipe
        self.rates: dict[str, list[float]] = {"bare": [], "portico": []}
        self.lives: list[float] = []

    def job(self) -> None:
        rate, live = speed(self._client, begin(self._client, self._file, WISHED))
        self.rates["portico"].append(rate)
        self.lives.append(live)
        for adapter in self._client.adapters.list():  # so that the next round finds the model unchanged
            self._client.adapters.remove(adapter.name)

    def script(self) -> None:
        [base] = (self._home / "unpacked").iterdir()
        python = self._settings.environments / "finetune" / "bin" / "python"
        recipe = {**self._recipe, "seed": 1}
        self.rates["bare"].append(bare(python, base, self._file, recipe, self._settings.finetune_nice))

    def run(self, rounds: int) -> None:
        for number in range(rounds):
            first, second = (self.job, self.script) if number % 2 == 0 else (self.script, self.job)
            first()
            second()


def chat(url: str, rounds: int) -> float:
    """Return the tokens per second of one stream, the median of several."""
    target = Target(url, "default", "")
    return statistics.median(asyncio.run(decode(target, 1, 64)) for _ in range(rounds))


def beside(client: Client, url: str, file: Path, rounds: int) -> dict[str, list[float]]:
    """Measure chat while a job is in the middle of its steps and while the job is paused, alternately."""
    rates: dict[str, list[float]] = {"alone": [], "beside a job": []}
    job = begin(client, file, {"micro_batch": 2})
    try:
        for number in range(rounds):
            if number:
                client.tuning.resume(job.id)
            seen = max((event.number for event in client.tuning.events(job.id, limit=1).data), default=0)
            if not any(told.data.get("step") for told in _further(client, job, seen)):
                raise SystemExit("the job ended before anybody chatted")
            rates["beside a job"].append(chat(url, 2))
            client.tuning.pause(job.id)
            rates["alone"].append(chat(url, 2))
    finally:
        client.tuning.cancel(job.id)
    return rates


def _further(client: Client, job: TuningJob, seen: int) -> Iterator[TuningEvent]:
    """Yield the job's events after the number ``seen``."""
    for told in client.tuning.follow(job.id):
        if isinstance(told, TuningEvent) and told.number > seen:
            yield told


def show(report: Report, what: str, rates: Mapping[str, list[float]], base: str) -> None:
    """Show medians, and the median of each round's share, which a slow round does not change."""
    for name, found in rates.items():
        shares = [one / other for one, other in zip(found, rates[base], strict=True)]
        report.add(
            **{
                "what": f"{what}, {name}",
                "tokens/s": statistics.median(found),
                "share": "1"
                if name == base
                else f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})",
            }
        )


def main() -> None:
    """Measure alternately, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Fine-tuning", ("what", "tokens/s", "share"))
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder) / "home") as portico:
        file = examples(Path(folder) / "examples.jsonl", 4 * options.steps)
        many = examples(Path(folder) / "many.jsonl", 4_000)
        call(f"{portico.url}/api/deployments/default/load", {})
        report.notes["load before"] = os.getloadavg()[0]
        with Client(portico.url) as client:
            training = Training(client, Path(folder) / "home", file)
            training.run(options.rounds)
            show(report, "training", training.rates, "bare")
            show(report, "chat", beside(client, portico.url, many, options.rounds), "alone")
        report.notes["seconds until served"] = statistics.median(training.lives)
        report.notes["load after"] = os.getloadavg()[0]
    report.show(options.json)


if __name__ == "__main__":
    main()
