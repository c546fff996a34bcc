"""Whether a store's chat app answers right: ``python bench/answers.py --data FOLDER``.

FOLDER holds sets as for `retrieval.py`, each with ``answers.jsonl.gz`` (``id``, ``article``, ``document``,
``answers``). Answers are asked for over HTTP, of a daemon with what is installed by default, or with ``--model``.
Half of the articles are indexed; questions about the others cannot be answered. What was tuned was tuned on the
articles of the dev half; the table shows the test half, and the dev half with ``--dev``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import HERE, Report, call, daemon

DATA = HERE.parent.parent / "shared" / "data" / "retrieval"

DENIALS = ("not in these documents", "没有相关内容", "沒有相關內容")
"""What a refusal says."""

_QUOTE = re.compile(r"^>.*(?:\n>.*)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its gold answers, any of which counts, and where they are."""

    id: str
    text: str
    article: int
    document: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A set: documents by name, and questions about them."""

    name: str
    documents: Mapping[str, str]
    questions: Sequence[Asked]

    def half(self, number: int | None) -> dict[str, str]:
        """The documents of the articles with an even (0) or an odd number (1), or all."""
        article = {asked.document: asked.article for asked in self.questions}
        return {
            name: text
            for name, text in self.documents.items()
            if number is None or article.get(name, 0) % 2 == number
        }


def is_dev(article: int) -> bool:
    """Whether an article may be tuned on. Both halves have even and odd ones."""
    return article // 2 % 2 == 0


def read(folder: Path) -> Collection:
    """Read a set."""

    def rows(name: str) -> list[dict[str, Any]]:
        with gzip.open(folder / name, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    texts = {row["id"]: row["text"] for row in rows("queries.jsonl.gz")}
    questions = [
        Asked(row["id"], texts[row["id"]], row["article"], row["document"], tuple(row["answers"]))
        for row in rows("answers.jsonl.gz")
    ]
    return Collection(folder.name, {row["id"]: row["text"] for row in rows("corpus.jsonl.gz")}, questions)


def make_store(url: str, name: str, documents: Mapping[str, str], folder: Path) -> None:
    """A store with an app over ``documents``, searchable when this returns."""
    folder.mkdir()
    for identity, text in documents.items():
        (folder / f"{identity}.txt").write_text(text, encoding="utf-8")
    call(f"{url}/api/stores", {"name": name, "folder": str(folder), "app": True})
    run = call(f"{url}/api/stores/{name}/sync", {})["run"]
    urllib.request.urlopen(f"{url}/api/runs/{run}/events", timeout=3600).read()  # they end with the run
    counts = call(f"{url}/api/stores/{name}")["file_counts"]
    if counts["completed"] != len(documents):
        raise SystemExit(f"{name}: {counts} of {len(documents)} documents")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the app said, the files it cited, and the seconds that it took."""

    text: str
    files: Sequence[str]
    seconds: float

    @property
    def quotes(self) -> list[str]:
        """Its quotations, in order."""
        return _QUOTE.findall(self.text)

    @property
    def denies(self) -> bool:
        return any(denial in self.text for denial in DENIALS)


def ask(url: str, app: str, question: str) -> Answer:
    """Ask as any OpenAI client does."""
    begin = time.perf_counter()
    body = {"model": app, "messages": [{"role": "user", "content": question}], "max_tokens": 512}
    choice = call(f"{url}/v1/chat/completions", body)["choices"][0]["message"]
    seconds = time.perf_counter() - begin
    files = [
        item["file_citation"]["filename"]
        for item in choice.get("annotations") or []
        if "file_citation" in item
    ]
    return Answer(choice["content"] or "", files, seconds)


def holds(text: str, asked: Asked) -> bool:
    return any(answer in text for answer in asked.answers)


def measured(url: str, app: str, inside: Sequence[Asked], outside: Sequence[Asked]) -> dict[str, Any]:
    """Shares over questions that the app's documents answer, and over questions that they do not."""
    answers = [(asked, ask(url, app, asked.text)) for asked in inside]
    denied = [ask(url, app, asked.text) for asked in outside]
    times = sorted(answer.seconds for answer in (*(answer for _asked, answer in answers), *denied))
    return {
        "questions": len(answers),
        "one": _share([holds((answer.quotes or [answer.text])[0], asked) for asked, answer in answers]),
        "two": _share([holds(answer.text, asked) for asked, answer in answers]),
        "quotes": statistics.fmean(len(answer.quotes) for _asked, answer in answers),
        "cited": _share(
            [asked.document in {Path(name).stem for name in answer.files} for asked, answer in answers]
        ),
        "right refusals": _share([answer.denies for answer in denied]),
        "false refusals": _share([answer.denies for _asked, answer in answers]),
        "p50 s": statistics.median(times),
        "p95 s": times[int(len(times) * 0.95)],
    }


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def sample(questions: Sequence[Asked], most: int) -> Sequence[Asked]:
    """At most ``most``, spread evenly."""
    step = max(1, -(-len(questions) // most))
    return questions[::step]


def main() -> None:
    """Measure each set over its own documents, then questions of one language over the documents of the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--questions", type=int, default=2000, help="at most, for each row")
    parser.add_argument("--dev", action="store_true", help="also show the half that was tuned on")
    parser.add_argument("--model", help="the source of another model that answers")
    parser.add_argument("--across", action="store_true", help="also ask across languages")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sets = [read(path.parent) for path in sorted(options.data.glob("*/answers.jsonl.gz"))]
    if not sets:
        raise SystemExit(
            f"{options.data} holds no sets (folders with an answers.jsonl.gz); give another --data"
        )
    columns = (
        *("documents", "asked in", "half", "questions", "one", "two", "quotes", "cited"),
        *("right refusals", "false refusals", "p50 s", "p95 s"),
    )
    report = Report("Answers", columns)
    flags = ("--model", f"default={options.model}") if options.model else ()
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home", *flags) as portico:
        for data in sets:
            make_store(portico.url, data.name, data.half(0), Path(temporary) / data.name)
        pairs = [(data, data) for data in sets]
        if options.across:
            pairs += [(data, other) for data in sets for other in sets if data is not other]
        for documents, asked in pairs:
            for dev in (False, True) if options.dev else (False,):
                every = [question for question in asked.questions if is_dev(question.article) == dev]
                # Questions across languages are parallel: the documents of the same names answer them.
                gold = {question.id: question.answers for question in documents.questions}
                inside = [
                    Asked(q.id, q.text, q.article, q.document, gold.get(q.id, q.answers))
                    for q in every
                    if q.article % 2 == 0
                ]
                outside = [question for question in every if question.article % 2 == 1]
                found = measured(
                    portico.url,
                    documents.name,
                    sample(inside, options.questions),
                    sample(outside, options.questions),
                )
                row = {"documents": documents.name, "asked in": asked.name, "half": "dev" if dev else "test"}
                report.add(**row, **found)
    report.show(options.json)


if __name__ == "__main__":
    main()
