"""Benefit and cost of passage links: ``python bench/links.py [--set families] [--templates heldout] [--json FILE]``.

`multihop.py` or `hop_families.py` generates the passages and the questions. Each language is put into a store without
links and into a store with links, and with ``--steps`` also into a store that searches in steps. Searches and questions
use the settings of their store. Evidence recall at 5 is the share of a question's evidence among the
first five passages. "gold" is the share of answers of the store's chat app that contain the answer, "cited" the share
that cite the passage of every hop. Questions of one hop show how following links affects ordinary questions.

Ingest seconds and database bytes are compared in separate homes, alternately, ``--rounds`` times. The weights of the
walk were chosen on ``--templates tuned --seed 1``.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import hop_families
import multihop
from answers import ask
from harness import Report, call, daemon
from multihop import LANGUAGES, MultihopQuestion, MultihopSet, write

DEPTH = 5
"""Number of passages searched for evidence."""

SEARCHES: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("plain", {"links": False}),
    ("links", {"links": True}),
    ("steps auto", {"links": False, "search": {"steps": "auto"}}),
    ("steps 4", {"links": False, "search": {"steps": 4}}),
)
"""Settings of the stores that are compared."""


def ingest(url: str, name: str, folder: Path, **settings: Any) -> float:
    """Create a store of a folder and wait until it is indexed; return the seconds."""
    begin = time.perf_counter()
    call(f"{url}/api/stores", {"name": name, "folder": str(folder), **settings})
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


def quality(url: str, store: str, questions: Sequence[MultihopQuestion], **options: Any) -> dict[str, Any]:
    """Return the evidence recall and the answers by hops, and the milliseconds of the stages for links or steps.

    ``options`` are added to each search.
    """
    recalls: dict[int, list[float]] = {}
    golds: dict[int, list[bool]] = {}
    cited: dict[int, list[bool]] = {}
    times: list[float] = []
    for question in questions:
        body = {"query": question.text, "max_num_results": DEPTH, "trace": True, **options}
        result = call(f"{url}/api/stores/{store}/search", body)
        names = {Path(item["filename"]).stem for item in result["data"]}
        evidence = set(question.evidence)
        recalls.setdefault(question.hops, []).append(len(names & evidence) / question.hops)
        stages = {stage["name"]: stage["milliseconds"] for stage in result["trace"]}
        times += [sum(ms for name, ms in stages.items() if name == "links" or name.startswith("step ("))]
        answer = ask(url, store, question.text)
        golds.setdefault(question.hops, []).append(question.answer in answer.text)
        cited.setdefault(question.hops, []).append(evidence <= {Path(name).stem for name in answer.files})
    return {
        "recall@5": _of_several(recalls),
        "gold": _of_several(golds),
        "cited": _of_several(cited),
        **{f"{hops} hops": statistics.fmean(values) for hops, values in sorted(recalls.items())},
        **{f"gold {hops}": statistics.fmean(values) for hops, values in sorted(golds.items())},
        "stage p50 ms": statistics.median(times),
        "stage p95 ms": statistics.quantiles(times, n=20)[-1],
    }


def _of_several(values: Mapping[int, Sequence[float]]) -> float:
    """Return the mean over the questions of more than one hop."""
    return statistics.fmean(value for hops, own in values.items() if hops > 1 for value in own)


def costs(language: str, folder: Path, rounds: int, temporary: Path) -> dict[str, float]:
    """Return the cost of links at ingest: seconds, and seconds and bytes relative to a store without links."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    sizes: dict[bool, int] = {}
    for number in range(rounds):
        for links in (False, True) if number % 2 == 0 else (True, False):
            home = temporary / f"home-{links}-{number}"
            with daemon(home) as served:
                # A small store has loaded the parsers, the dictionaries and the embedding model.
                first = temporary / f"first-{number}-{links}"
                write(multihop.generate(language, "tuned", 99, 5), first)
                ingest(served.url, "first", first / "files", links=links, app=False)
                seconds[links].append(ingest(served.url, language, folder / "files", links=links, app=False))
            sizes[links] = size(home)
    ratios = [b / a for a, b in zip(seconds[False], seconds[True], strict=True)]
    return {
        "ingest s": statistics.median(seconds[True]),
        "ingest ×": statistics.median(ratios),
        "size ×": sizes[True] / sizes[False],
    }


def measure(
    language: str, hop_set: MultihopSet, rounds: int, report: Report, *, steps_too: bool = False
) -> None:
    """Measure one language: costs in separate homes, then quality."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / language
        write(hop_set, folder)
        cost = costs(language, folder, rounds, Path(temporary)) if rounds else {}
        with daemon(Path(temporary) / "home") as served:
            for search, settings in SEARCHES if steps_too else SEARCHES[:2]:
                store = search.replace(" ", "-")
                ingest(served.url, store, folder / "files", **settings)
                own_cost = cost if settings["links"] else {}
                report.add(
                    set=language,
                    search=search,
                    **quality(served.url, store, hop_set.questions, **settings.get("search", {})),
                    **own_cost,
                )


def main() -> None:
    """Measure each language, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", choices=("tuned", "heldout"), default="heldout")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--set", choices=("multihop", "families"), default="multihop", dest="generator")
    parser.add_argument("--chains", type=int, help="chains in each language, or of each family")
    parser.add_argument("--rounds", type=int, default=3, help="ingests to compare costs; 0 leaves them out")
    parser.add_argument("--steps", action="store_true", help="searches in steps too, by rules")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = (
        "set",
        "search",
        "recall@5",
        "gold",
        "cited",
        *(f"{hops} hops" for hops in range(1, 5)),
        *(f"gold {hops}" for hops in range(1, 5)),
        "stage p50 ms",
        "stage p95 ms",
    )
    report = Report("Links", (*columns, "ingest s", "ingest ×", "size ×"))
    generate, chains = (
        (hop_families.generate, hop_families.HOP_CHAINS)
        if options.generator == "families"
        else (multihop.generate, multihop.CHAINS)
    )
    chains = options.chains or chains
    report.notes |= {"set": options.generator, "templates": options.templates}
    report.notes |= {"seed": options.seed, "chains": chains}
    for language in LANGUAGES:
        hop_set = generate(language, options.templates, options.seed, chains)
        report.notes[f"{language} passages"] = len(hop_set.passages)
        measure(language, hop_set, options.rounds, report, steps_too=options.steps)
    report.show(options.json)


if __name__ == "__main__":
    main()
