"""How long a recorded run takes to replay: ``python bench/replay.py``.

Records five runs of each of eleven apps with a scripted model, and replays each of them in the same process. Goal:
every replay is equal and takes <1 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from harness import Report

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.recorded_apps import NAMES, QUESTIONS, question, record, serving


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Replays", ("app", "equal", "steps", "KB", "CPU ms", "wall ms"))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as client:
        recordings = {
            name: [record(client, name, question(name, text)) for text in QUESTIONS] for name in NAMES
        }
        for name, runs in recordings.items():
            cpu_ms, wall_ms, replays = [], [], []
            for recording in runs:
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                replays.append(client.runs.replay(recording))
                cpu_ms.append((time.process_time() - cpu_s) * 1e3)
                wall_ms.append((time.perf_counter() - wall_s) * 1e3)
            report.add(
                app=name,
                equal=f"{sum(replay.is_equal for replay in replays)} of {len(replays)}",
                steps=max(len(replay.steps) for replay in replays),
                KB=max(len(json.dumps(recording)) for recording in runs) / 1024,
                **{"CPU ms": max(cpu_ms), "wall ms": max(wall_ms)},
            )
    report.show(options.json)


if __name__ == "__main__":
    main()
