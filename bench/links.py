"""Benefit and cost of passage links: ``python bench/links.py [--templates heldout] [--seed 2] [--json FILE]``.

`multihop.py` generates the passages and the questions. Each language is put into a store without links and into a
store with links, alternately, several times, to compare ingest seconds and database bytes. Evidence recall at 5 (the
share of a question's evidence among the first five passages) is measured on the same store with ``links: false`` and
``links: true``, and with ``--steps`` also for searches in steps. Questions of one hop show how following links affects
ordinary questions. The weights of the walk were chosen on ``--templates tuned --seed 1``.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from harness import Report, call, daemon
from multihop import CHAINS, LANGUAGES, MultihopQuestion, MultihopSet, generate, write

DEPTH = 5
"""Number of passages searched for evidence."""


def ingest(url: str, name: str, folder: Path, links: bool) -> float:
    """Create a store of a folder and wait until it is indexed; return the seconds."""
    begin = time.perf_counter()
    call(f"{url}/api/stores", {"name": name, "folder": str(folder), "links": links, "app": False})
    run = call(f"{url}/api/stores/{name}/sync", {})["run"]
    urllib.request.urlopen(f"{url}/api/runs/{run}/events", timeout=3600).read()
    return time.perf_counter() - begin


def size(home: Path) -> int:
    """Return the bytes of a home without its log: the database after a checkpoint, the files and the indexes."""
    with closing(sqlite3.connect(home / "portico.db")) as database:
        database.execute("pragma wal_checkpoint(truncate)")
        database.execute("vacuum")
    return sum(
        path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and path.suffix not in (".log", ".lock") and "models" not in path.parts
    )


def quality(
    url: str, store: str, questions: Sequence[MultihopQuestion], links: bool, steps: str | int = "off"
) -> dict[str, Any]:
    """Return the evidence recall by hops, and the milliseconds of the stages for links or steps."""
    recalls: dict[int, list[float]] = {}
    times: list[float] = []
    for question in questions:
        body = {
            "query": question.text,
            "max_num_results": DEPTH,
            "links": links,
            "steps": steps,
            "trace": True,
        }
        found = call(f"{url}/api/stores/{store}/search", body)
        names = {Path(item["filename"]).stem for item in found["data"]}
        recalls.setdefault(question.hops, []).append(len(names & set(question.evidence)) / question.hops)
        stages = {stage["name"]: stage["milliseconds"] for stage in found["trace"]}
        times += [sum(ms for name, ms in stages.items() if name == "links" or name.startswith("step ("))]
    several = [value for hops, values in recalls.items() if hops > 1 for value in values]
    return {
        "recall@5": statistics.fmean(several),
        **{f"{hops} hops": statistics.fmean(values) for hops, values in sorted(recalls.items())},
        "stage p50 ms": statistics.median(times) if times else 0.0,
        "stage p95 ms": statistics.quantiles(times, n=20)[-1] if times else 0.0,
    }


def measure(
    language: str, made: MultihopSet, rounds: int, report: Report, *, steps_too: bool = False
) -> None:
    """Measure one language: costs in separate homes, then quality."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / language
        write(made, folder)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        sizes: dict[bool, int] = {}
        for number in range(rounds):
            for links in (False, True) if number % 2 == 0 else (True, False):
                home = Path(temporary) / f"home-{links}-{number}"
                with daemon(home) as served:
                    # A small store has loaded the parsers, the dictionaries and the embedding model.
                    first = Path(temporary) / f"first-{number}-{links}"
                    write(generate(language, "tuned", 99, 5), first)
                    ingest(served.url, "first", first / "files", links)
                    seconds[links].append(ingest(served.url, language, folder / "files", links))
                    if links and number == rounds - 1:
                        plain = quality(served.url, language, made.questions, False)
                        stepped = {
                            steps: quality(served.url, language, made.questions, False, steps)
                            for steps in (("auto", 4) if steps_too else ())
                        }
                        linked = quality(served.url, language, made.questions, True)
                sizes[links] = size(home)
        ratios = [b / a for a, b in zip(seconds[False], seconds[True], strict=True)]
        report.add(set=language, search="plain hybrid", **plain)
        for steps, found in stepped.items():
            report.add(set=language, search=f"steps {steps}, by rules", **found)
        report.add(
            set=language,
            search="with links",
            **linked,
            **{
                "ingest s": statistics.median(seconds[True]),
                "ingest ×": statistics.median(ratios),
                "size ×": sizes[True] / sizes[False],
            },
        )


def main() -> None:
    """Measure each language, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", choices=("tuned", "heldout"), default="heldout")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--chains", type=int, default=CHAINS, help="chains in each language")
    parser.add_argument("--rounds", type=int, default=3, help="ingests with and without links")
    parser.add_argument("--steps", action="store_true", help="searches in steps too, by rules")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = (
        "set",
        "search",
        "recall@5",
        "1 hops",
        "2 hops",
        "3 hops",
        "4 hops",
        "stage p50 ms",
        "stage p95 ms",
    )
    report = Report("Links", (*columns, "ingest s", "ingest ×", "size ×"))
    report.notes |= {"templates": options.templates, "seed": options.seed, "chains": options.chains}
    for language in LANGUAGES:
        made = generate(language, options.templates, options.seed, options.chains)
        report.notes[f"{language} passages"] = len(made.passages)
        measure(language, made, options.rounds, report, steps_too=options.steps)
    report.show(options.json)


if __name__ == "__main__":
    main()
