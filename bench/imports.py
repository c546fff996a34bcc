"""Import time of the SDK compared with httpx, each in fresh processes: `python bench/imports.py`.

Prints medians and their ratios to httpx. The goal of 1.2 applies to `import portico`, which loads its names on first
use; the cost for a program that creates a client at once is shown beside it. Exits with 1 if the goal is missed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

GOAL = 1.2
ROUNDS = 21

CODES = {
    "httpx": "import httpx",
    "portico": "import portico",
    "portico.Client": "import portico; portico.Client",
}
MEASURE = "import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"


def seconds(code: str) -> float:
    """Return the seconds that ``code`` takes in one new interpreter, without the interpreter's own startup."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(code=code)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> int:
    """Measure all imports alternately, so that a busy moment affects all."""
    times: dict[str, list[float]] = {name: [] for name in CODES}
    for _ in range(ROUNDS):
        for name, code in CODES.items():
            times[name].append(seconds(code))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:16} {median * 1000:7.1f} ms {median / medians['httpx']:6.2f} ×")
    print(f"Goal: portico at most {GOAL} × httpx.")
    return int(medians["portico"] > GOAL * medians["httpx"])


if __name__ == "__main__":
    sys.exit(main())
