"""How long `import portico` takes beside `import httpx`, each in fresh processes: `python bench/imports.py`.

Prints both medians and their ratio; exits with 1 if the ratio is above the goal of 1.2.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

GOAL = 1.2
ROUNDS = 21

MEASURE = "import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"


def seconds(code: str) -> float:
    """What ``code`` takes in one new interpreter, without the interpreter's own start."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(code=code)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> int:
    """Measure both in turn, so that a busy moment strikes both."""
    codes = {"httpx": "import httpx", "portico": "import portico; portico.Client; portico.AsyncClient"}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(ROUNDS):
        for name, code in codes.items():
            times[name].append(seconds(code))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["portico"] / medians["httpx"]
    for name, median in medians.items():
        print(f"import {name:8} {median * 1000:7.1f} ms")
    print(f"ratio            {ratio:7.2f} ×   (goal: at most {GOAL} ×)")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
