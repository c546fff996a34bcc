"""The gateway of this checkout compared with that of another: ``python bench/gateway.py --against CHECKOUT``.

Two daemons with one instant upstream are measured alternately in short rounds. Other work on the machine changes rates
and latencies, but hardly the processor time of a request: look at that figure first. Two processes of the same code
differ by a few percent throughout, depending on their memory layout, so each daemon is started several times.
``--against .`` compares this checkout with itself, and shows how far a ratio can be trusted on this machine. Goal:
≤1.03 × the processor time of the other one in each case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness import HERE, START_TIMEOUT_S, Report, Serving, daemon, free_port, load, process

BODY = {"model": "up", "messages": [{"role": "user", "content": "Say a word sixty-four times."}]}
CASES = {
    "plain c=1": (1, False),
    "plain c=64": (64, False),
    "stream c=16": (16, True),
}

IDLE_PERCENT = 5.0
"""Processor use, in percent, below which a daemon counts as idle."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: requests per second, median request in milliseconds, processor time of a request in µs."""

    rate: float
    p50: float
    cpu: float


def measure(serving: Serving, case: str, seconds: float) -> Sample:
    """Send requests for ``seconds``. The processor time is the daemon's own, in user and in system mode."""
    connections, stream = CASES[case]
    body = json.dumps({**BODY, "stream": stream}).encode()
    watched = psutil.Process(serving.pid)
    before = watched.cpu_times()
    found = load(f"{serving.url}/v1/chat/completions", body, connections, seconds)
    after = watched.cpu_times()
    if not found.requests:
        raise SystemExit(f"{case}: nothing was answered in {seconds:g} s. Give --seconds more.")
    if found.errors:
        raise SystemExit(f"{case}: {found.errors} of {found.requests} requests failed")
    used = after.user - before.user + after.system - before.system
    return Sample(found.rate, found.p50, used / found.requests * 1e6)


def settle(serving: Serving) -> None:
    """Wait until the daemon has finished its work after startup: imports, and the default model's files."""
    watched = psutil.Process(serving.pid)
    until = time.perf_counter() + START_TIMEOUT_S
    while watched.cpu_percent(1.0) > IDLE_PERCENT and time.perf_counter() < until:
        pass  # the measurement itself takes a second


def interpreter(given: Path) -> str:
    """Return the Python of a checkout installed with ``scripts/install``, or the interpreter itself."""
    return str(given / ".venv/bin/python" if given.is_dir() else given)


def spread(values: list[float]) -> str:
    """Return the median of a series and its middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, required=True, help="a checkout, or the Python of one")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each start")
    parser.add_argument("--starts", type=int, default=4, help="how often both are started")
    parser.add_argument("--case", choices=CASES, action="append", help="measure these alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pythons = {"other": interpreter(options.against), "this": sys.executable}
    cases = options.case or list(CASES)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up = free_port()
        upstream = stack.enter_context(
            process(
                (sys.executable, str(HERE / "upstream.py"), str(up)), f"http://127.0.0.1:{up}", "/v1/models"
            )
        ).url
        config = folder / "portico.yaml"
        config.write_text(json.dumps({"models": [{"name": "up", "source": f"{upstream}/v1#up"}]}))
        samples: dict[str, dict[str, list[Sample]]] = {case: {name: [] for name in pythons} for case in cases}
        for start in range(options.starts):
            with contextlib.ExitStack() as started:
                daemons = {
                    name: started.enter_context(
                        daemon(folder / f"{name}-{start}", "--file", str(config), python=pythons[name])
                    )
                    for name in sorted(pythons, reverse=start % 2 == 1)  # so that neither always starts first
                }
                for serving in daemons.values():
                    settle(serving)
                for number in range(options.rounds + 1):
                    for case in cases:
                        for name in sorted(daemons, reverse=number % 2 == 1):
                            sample = measure(daemons[name], case, options.seconds)
                            if number:  # the first round is a warm-up
                                samples[case][name].append(sample)
    report = Report("Gateway", ("case", "figure", "other", "this", "this / other (middle half)"))
    for case, by_name in samples.items():
        for figure, attribute in (("cpu µs", "cpu"), ("req/s", "rate"), ("p50 ms", "p50")):
            other, this = ([getattr(sample, attribute) for sample in by_name[name]] for name in pythons)
            ratios = [mine / theirs for mine, theirs in zip(this, other, strict=True)]
            row = {
                "case": case,
                "figure": figure,
                "ratios": ratios,
                "this / other (middle half)": spread(ratios),
            }
            report.add(**row, other=statistics.median(other), this=statistics.median(this))
    report.show(options.json)


if __name__ == "__main__":
    main()
