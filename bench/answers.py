"""Measures whether a store's chat app answers correctly: ``python bench/answers.py --data FOLDER``.

FOLDER holds sets as for `retrieval.py`, each with ``answers.jsonl.gz`` (``id``, ``article``, ``document``,
``answers``). Answers are asked for over HTTP, of a daemon with what is installed by default, which quotes. With
``--reader`` another model answers besides: the source of one, or ``ideal``, which is `ideal_reader.py`. It is tested
by the daemon as any model is, and writes only if it passes. With ``--chains N`` only questions of one to four hops are
asked (`multihop.py`), of a store that searches in steps; of three chains in five one passage is left out, so that what
needs it cannot be answered. Half of the articles are indexed; questions about the others cannot be answered. What was
tuned was tuned on the articles of the dev half; the table shows the test half, and the dev half with ``--dev``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import HERE, Report, call, daemon, free_port, process
from multihop import LANGUAGES, MultihopQuestion, generate

DATA = HERE.parent.parent / "shared" / "data" / "retrieval"

DENIALS = (
    *("not in these documents", "没有相关内容", "沒有相關內容"),
    *("no sentence in these documents", "没有找到回答这个问题的句子"),
)
"""Phrases of a refusal, also of one that shows the nearest sections."""

DOUBTS = ("The nearest passages:", "最接近的段落：")
"""Phrases before passages that may not answer the question."""

TEST_TIMEOUT_S = 180.0

_QUOTE = re.compile(r"^>.*(?:\n>.*)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its gold answers, each of which is accepted, and their documents."""

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
        """Return the documents of the even-numbered (0) or odd-numbered (1) articles, or all documents."""
        article = {asked.document: asked.article for asked in self.questions}
        return {
            name: text
            for name, text in self.documents.items()
            if number is None or article.get(name, 0) % 2 == number
        }


def is_dev(article: int) -> bool:
    """Return whether an article may be tuned on. Both halves have even and odd ones."""
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


def read_all(data: Path) -> list[Collection]:
    """Read the sets in a folder. Raise `SystemExit` if the folder has none."""
    sets = [read(path.parent) for path in sorted(data.glob("*/answers.jsonl.gz"))]
    if not sets:
        raise SystemExit(f"{data} holds no sets (folders with an answers.jsonl.gz); give another --data")
    return sets


def make_store(url: str, name: str, documents: Mapping[str, str], folder: Path, steps: str = "off") -> None:
    """Create a store with an app over ``documents``; return once it is searchable."""
    folder.mkdir()
    for identity, text in documents.items():
        (folder / f"{identity}.txt").write_text(text, encoding="utf-8")
    make_store_of(url, name, folder, steps)


def make_store_of(url: str, name: str, folder: Path, steps: str = "off") -> None:
    """Create a store with an app over the files in ``folder``; return once it is searchable."""
    search = {"steps": steps}
    call(f"{url}/api/stores", {"name": name, "folder": str(folder), "app": True, "search": search})
    run = call(f"{url}/api/stores/{name}/sync", {})["run"]
    urllib.request.urlopen(f"{url}/api/runs/{run}/events", timeout=3600).read()  # the events end with the run
    counts = call(f"{url}/api/stores/{name}")["file_counts"]
    if counts["completed"] != sum(path.is_file() for path in folder.iterdir()):
        raise SystemExit(f"{name}: {counts}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The app's answer, the files that it cited, and the seconds that it took."""

    text: str
    files: Sequence[str]
    seconds: float

    @property
    def quotes(self) -> list[str]:
        """The quotations of the answer, in order."""
        return _QUOTE.findall(self.text)

    @property
    def writes(self) -> bool:
        """True if the words are a model's own."""
        return not self.quotes and not self.denies

    @property
    def doubts(self) -> bool:
        return any(doubt in self.text for doubt in DOUBTS)

    @property
    def denies(self) -> bool:
        return any(denial in self.text for denial in DENIALS)


def ask(url: str, app: str, question: str) -> Answer:
    """Ask the app as any OpenAI client does."""
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
    """Return shares over the questions with an answer in the app's documents, and over the questions without one."""
    answers = [(asked, ask(url, app, asked.text)) for asked in inside]
    denied = [ask(url, app, asked.text) for asked in outside]
    times = sorted(answer.seconds for answer in (*(answer for _asked, answer in answers), *denied))
    return {
        "questions": len(answers),
        "one": _share([holds((answer.quotes or [answer.text])[0], asked) for asked, answer in answers]),
        "two": _share([holds(answer.text, asked) for asked, answer in answers]),
        "written": _share([answer.writes for _asked, answer in answers]),
        "quotes": statistics.fmean(len(answer.quotes) for _asked, answer in answers),
        "cited": _share(
            [asked.document in {Path(name).stem for name in answer.files} for asked, answer in answers]
        ),
        "right refusals": _share([answer.denies for answer in denied]),
        "false refusals": _share([answer.denies for _asked, answer in answers]),
        "doubtful": _share([answer.doubts for answer in (*(answer for _asked, answer in answers), *denied)]),
        "p50 s": statistics.median(times),
        "p95 s": times[int(len(times) * 0.95)],
    }


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def sample(questions: Sequence[Asked], most: int) -> Sequence[Asked]:
    """Return at most ``most`` questions, spread evenly."""
    step = max(1, -(-len(questions) // most))
    return questions[::step]


@contextmanager
def reading(reader: str, data: Path, folder: Path) -> Iterator[Sequence[str]]:
    """Yield the daemon's arguments for ``reader``, running the ideal reader as a separate process; none for ""."""
    if not reader:
        yield ()
        return
    folder.mkdir()
    config = folder / "portico.yaml"
    address = f"http://127.0.0.1:{free_port()}"
    source = f"{address}/v1#ideal" if reader == "ideal" else reader
    model = {"name": "reader", "source": source, "aliases": ["default"], "answers": "test"}
    config.write_text(json.dumps({"models": [model]}), encoding="utf-8")
    if reader != "ideal":
        yield ("--file", str(config))
        return
    command = (sys.executable, str(HERE / "ideal_reader.py"), address.rpartition(":")[2], str(data))
    with process(command, address, "/v1/models"):
        yield ("--file", str(config))


def await_test(url: str, app: str, question: str) -> str:
    """Return how the default model answers; its test starts with the first question."""
    ask(url, app, question)
    until = time.monotonic() + TEST_TIMEOUT_S
    while time.monotonic() < until:
        if way := call(f"{url}/api/deployments/default")["answers"]:
            return str(way)
        time.sleep(0.5)
    raise SystemExit(f"the test of the model did not end within {TEST_TIMEOUT_S:g} s")


def measure(options: argparse.Namespace, sets: Sequence[Collection], reader: str, report: Report) -> None:
    """Add a row for each set, with one answering model."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        reading(reader, options.data, Path(temporary) / "reader") as how,
        daemon(Path(temporary) / "home", *how) as portico,
    ):
        for data in sets:
            folder = Path(temporary) / data.name
            make_store(portico.url, data.name, data.half(0), folder, options.steps)
        way = await_test(portico.url, sets[0].name, sets[0].questions[0].text) if reader else "quote"
        pairs = [(data, data) for data in sets]
        if options.across:
            pairs += [(data, other) for data in sets for other in sets if data is not other]
        for documents, asked in pairs:
            for dev in (False, True) if options.dev else (False,):
                found = measured(
                    portico.url, documents.name, *chosen(documents, asked, dev, options.questions)
                )
                row = {"documents": documents.name, "asked in": asked.name, "half": "dev" if dev else "test"}
                report.add(reader=reader or "(installed)", test=way, **row, **found)


BROKEN_SHARE = 0.6
"""Share of the chains that lack a passage."""


def measure_chains(options: argparse.Namespace, report: Report) -> None:
    """Add a row for each language and number of hops: questions with full evidence, and questions that lack some."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        daemon(Path(temporary) / "home") as portico,
    ):
        for language in LANGUAGES:
            made = generate(language, options.templates, options.seed, options.chains, BROKEN_SHARE)
            make_store(portico.url, language, made.passages, Path(temporary) / language, options.steps)
            answers = [(asked, ask(portico.url, language, asked.text)) for asked in made.questions]
            for hops in sorted({asked.hops for asked in made.questions}):
                own = [(asked, answer) for asked, answer in answers if asked.hops == hops]
                report.add(documents=language, hops=hops, **_of_chains(own))


def _of_chains(answers: Sequence[tuple[MultihopQuestion, Answer]]) -> dict[str, Any]:
    there = [(asked, answer) for asked, answer in answers if asked.answerable]
    gone = [answer for asked, answer in answers if not asked.answerable]
    return {
        "questions": len(there),
        "gold": _share([asked.answer in answer.text for asked, answer in there]),
        "in doubt": _share([answer.doubts for _asked, answer in there]),
        "false refusals": _share([answer.denies for _asked, answer in there]),
        "evidence": _share(
            [set(asked.evidence) <= {Path(name).stem for name in answer.files} for asked, answer in there]
        ),
        "quotes": statistics.fmean(len(answer.quotes) for _asked, answer in there),
        "unanswerable": len(gone),
        "right refusals": _share([answer.denies for answer in gone]),
        "wrongly sure": _share([not answer.denies and not answer.doubts for answer in gone]),
        "p50 s": statistics.median(answer.seconds for _asked, answer in answers),
    }


def chosen(
    documents: Collection, asked: Collection, dev: bool, most: int
) -> tuple[Sequence[Asked], Sequence[Asked]]:
    """Return the questions of a half with an answer in the indexed documents, and the questions without an answer."""
    every = [question for question in asked.questions if is_dev(question.article) == dev]
    # Questions across languages are parallel: documents with the same names answer them.
    gold = {question.id: question.answers for question in documents.questions}
    inside = [
        Asked(q.id, q.text, q.article, q.document, gold.get(q.id, q.answers))
        for q in every
        if q.article % 2 == 0
    ]
    outside = [question for question in every if question.article % 2 == 1]
    return sample(inside, most), sample(outside, most)


def main() -> None:
    """Measure each set over its own documents, then questions of one language over documents of the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--questions", type=int, default=2000, help="at most, for each row")
    parser.add_argument("--dev", action="store_true", help="also show the half that was tuned on")
    parser.add_argument("--reader", metavar="ideal|SOURCE", help="another model that answers besides")
    parser.add_argument("--across", action="store_true", help="also ask across languages")
    parser.add_argument("--chains", type=int, default=0, help="ask about so many chains in each language")
    parser.add_argument("--templates", choices=("tuned", "heldout"), default="heldout")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--steps", default="off", help="of the stores: off, auto, 2 to 4")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.chains:
        chained = Report(
            "Answers from chains",
            (
                *("documents", "hops", "questions", "gold", "in doubt", "false refusals", "evidence"),
                *("quotes", "unanswerable", "right refusals", "wrongly sure", "p50 s"),
            ),
        )
        measure_chains(options, chained)
        chained.show(options.json)
        return
    sets = read_all(options.data)
    columns = (
        *(
            "reader",
            "test",
            "documents",
            "asked in",
            "half",
            "questions",
            "one",
            "two",
            "written",
            "quotes",
            "cited",
        ),
        *("right refusals", "false refusals", "doubtful", "p50 s", "p95 s"),
    )
    report = Report("Answers", columns)
    for reader in ("", options.reader) if options.reader else ("",):
        measure(options, sets, reader, report)
    report.show(options.json)


if __name__ == "__main__":
    main()
