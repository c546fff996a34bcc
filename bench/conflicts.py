"""Checks whether a store's chat app reports documents that contradict each other: ``python bench/conflicts.py``.

`conflict_sets.py` generates the documents and the questions. A contradiction counts as reported if the answer begins
with the sentence for it and contains the value of every document. ``--data FOLDER`` also asks the questions of the sets
for `answers.py`, whose documents do not contradict each other: every report there is a false alarm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from answers import ask, make_store, make_store_of, read_all, sample
from conflict_sets import CONFLICTS, LANGUAGES, ConflictCase, generate
from harness import HERE, Report, daemon

sys.path.insert(0, str(HERE.parent / "server"))

from portico_server.features.answers.language import documents_differ  # must follow the change of the path

REPORTS = tuple(documents_differ(question, "") for question in ("when is it", "这是什么时候", "這是什麼時候"))
"""The sentences that begin an answer about documents that contradict each other."""


def measure(language: str, templates: str, seed: int, report: Report, show_misses: bool) -> None:
    """Add a row for each kind of case in one language."""
    conflict_set = generate(language, templates, seed)
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        folder = Path(temporary) / language
        folder.mkdir()
        for name, text in conflict_set.documents.items():
            (folder / name).write_text(text, encoding="utf-8")
        make_store_of(portico.url, language, folder)
        answers = [(case, ask(portico.url, language, case.question).text) for case in conflict_set.cases]
    for kind in dict.fromkeys(case.kind for case in conflict_set.cases):
        own = [(case, text) for case, text in answers if case.kind == kind]
        report.add(language=language, templates=templates, kind=kind, cases=len(own), **_shares(own))
    for case, text in answers if show_misses else ():
        if (case.kind in CONFLICTS) != _is_complete(case, text):
            print(f"--- {case.kind}: {case.question} {' | '.join(case.sides)}\n{text}\n")


def _shares(answers: Sequence[tuple[ConflictCase, str]]) -> dict[str, Any]:
    reported = [(case, text) for case, text in answers if text.startswith(REPORTS)]
    if answers[0][0].kind not in CONFLICTS:
        return {"false alarms": len(reported) / len(answers)}
    complete = [(case, text) for case, text in answers if _is_complete(case, text)]
    dated = [_is_newest_first(case, text) for case, text in complete if case.dated]
    return {
        "reported": len(reported) / len(answers),
        "complete": len(complete) / len(answers),
        "newest first": sum(dated) / len(dated) if dated else None,
    }


def _is_complete(case: ConflictCase, text: str) -> bool:
    return text.startswith(REPORTS) and all(side in text for side in case.sides)


def _is_newest_first(case: ConflictCase, text: str) -> bool:
    places = [text.index(side) for side in case.sides]
    return places == sorted(places)


def measure_public(data: Path, most: int, report: Report) -> None:
    """Add a row with the false alarms of each public set."""
    sets = read_all(data)
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        for collection in sets:
            make_store(portico.url, collection.name, collection.documents, Path(temporary) / collection.name)
            answers = [
                ask(portico.url, collection.name, asked.text) for asked in sample(collection.questions, most)
            ]
            report.add(
                language=collection.name,
                kind="public",
                cases=len(answers),
                **{"false alarms": sum(answer.text.startswith(REPORTS) for answer in answers) / len(answers)},
            )


def main() -> None:
    """Measure each language, then the public sets, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", choices=("tuned", "seen", "heldout", "later"), default="later")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--misses", action="store_true", help="print the answers that count as wrong")
    parser.add_argument("--data", type=Path, help="folder with public sets")
    parser.add_argument("--questions", type=int, default=2000, help="at most, for each public set")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = (
        "language",
        "templates",
        "kind",
        "cases",
        "reported",
        "complete",
        "newest first",
        "false alarms",
    )
    report = Report("Contradictions between documents", columns)
    for language in LANGUAGES:
        measure(language, options.templates, options.seed, report, options.misses)
    if options.data is not None:
        measure_public(options.data, options.questions, report)
    report.show(options.json)


if __name__ == "__main__":
    main()
