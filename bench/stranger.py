"""Checks whether a stranger's questions get an answer or a refusal: ``python bench/stranger.py``.

The nine files and the questions are in ``bench/stranger``: ``questions.jsonl`` is the set that counts, ``dev.jsonl``
(``--dev``) the one to tune on. Each question names the strings of which an answer holds one and the files that may be
quoted; a question without them is not answered by the files. Answers are quotations: no model writes.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from answers import Answer, ask, make_store_of
from harness import HERE, Report, daemon

FOLDER = HERE / "stranger"

_NUMBER = re.compile(r"\[(\d+)\](?: \|)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StrangerQuestion:
    """A question, the strings of which its answer must contain one, and the files that may be quoted.

    Both lists are empty if the files do not answer the question.
    """

    question: str
    answers: Sequence[str]
    files: Sequence[str]

    def outcome(self, answer: Answer) -> str:
        """Return ``right``, ``refused`` (correct if the files have no answer) or ``wrong``."""
        if answer.denies:
            return "wrong" if self.answers else "refused"
        return "right" if any(text in answer.text for text in self.answers) else "wrong"

    def unrelated(self, answer: Answer) -> int:
        """Return the number of quotations from files that do not answer the question."""
        if not self.answers:
            return len(answer.quotes)
        return sum(answer.files[rank - 1] not in self.files for rank in _ranks(answer))


def _ranks(answer: Answer) -> list[int]:
    return [int(number) for quote in answer.quotes for number in _NUMBER.findall(quote)]


def unused(answer: Answer) -> int:
    """Return the number of citations without a quotation."""
    return len(set(range(1, len(answer.files) + 1)) - {*_ranks(answer)})


def read(path: Path) -> list[StrangerQuestion]:
    """Read the questions of a file."""
    return [StrangerQuestion(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Ask each question and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="ask the questions that may be tuned on")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    questions = read(FOLDER / ("dev.jsonl" if options.dev else "questions.jsonl"))
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        make_store_of(portico.url, "stranger", FOLDER / "files")
        answers = [(item, ask(portico.url, "stranger", item.question)) for item in questions]
    columns = ("questions", "right", "refused", "wrong", "unused citations", "unrelated quotes", "doubtful")
    report = Report("A stranger's questions", columns)
    outcomes = [item.outcome(answer) for item, answer in answers]
    report.add(
        questions=len(questions),
        **{name: outcomes.count(name) for name in ("right", "refused", "wrong")},
        **{
            "unused citations": sum(unused(answer) for _item, answer in answers),
            "unrelated quotes": sum(item.unrelated(answer) for item, answer in answers),
            "doubtful": sum(answer.doubts for _item, answer in answers) / len(answers),
        },
    )
    report.show(options.json)
    for (item, answer), outcome in zip(answers, outcomes, strict=True):
        if outcome == "wrong" or item.unrelated(answer) or unused(answer):
            print(f"{outcome}: {item.question}\n{answer.text}\n")


if __name__ == "__main__":
    main()
