"""Themes of a store: whether passages of one article are grouped together: ``python bench/themes.py --data FOLDER``.

Each case takes the passages of three to ten random articles of XQuAD, five passages each, as one store. Passages are
compared in pairs: a pair is right if both passages have one theme and one article. No case was used to choose a value.

With ``--answers N``, the apps of N such English stores also answer five questions about the whole store, written after
the manner of LightRAG (arXiv:2410.05779) and GraphRAG (arXiv:2404.16130), which ask for what a whole collection
contains. The share of articles whose subject an answer names is shown without a model, and with an ideal model: it
names the subject of every passage that it sees.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from itertools import combinations
from pathlib import Path

import httpx
from harness import Report
from ideal_reader import Reader

from portico_server.embedded import embedded
from portico_server.features.stores.themes.clusters import cluster
from portico_server.features.stores.themes.theme_words import theme_words

ARTICLE_PASSAGES = 5

SUBJECTS = (
    "super bowl|broncos|panthers",
    "warsaw",
    "norman",
    "tesla",
    "complexity",
    "teacher",
    "luther",
    "southern california",
    "sky",
    "victoria",
    "huguenot",
    "steam",
    "oxygen",
    "oil",
    "apollo",
    "european union|eu law",
    "amazon",
    "ctenophor",
    "fresno",
    "packet",
    "plague|black death",
    "geolog",
    "newcastle",
    "v&a|victoria and albert",
    "abc",
    "genghis|temüjin",
    "pharmac",
    "immun",
    "disobedience",
    "construction",
    "private school|independent school",
    "harvard",
    "jacksonville",
    "inequality",
    "doctor who|the doctor",
    "university of chicago",
    "yuan",
    "kenya",
    "ipcc",
    "chloroplast",
    "prime",
    "rhine",
    "scottish parliament|scotland",
    "islamis",
    "imperialis",
    "methodist",
    "french|seven years",
    "force",
)
"""The subject of each article of XQuAD, in their order: words of which an answer must contain one."""

WAYS = {"quote": "no model", "write": "ideal model"}
"""How the apps answer, and the name of the column."""

QUESTIONS = (
    "Which themes dominate these documents?",
    "What topics do these documents cover?",
    "Give me an overview of the collection.",
    "Which subjects would an editor use to divide this collection into sections?",
    "Which names are mentioned most often in these documents?",
)


def main() -> None:
    """Measure each set in the folder, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="The folder with xquad-en and xquad-zh.")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--answers", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Themes of a store", ("set", "pairs F1", "purity", "themes per article", "CPU ms"))
    for name in ("xquad-en", "xquad-zh"):
        with gzip.open(options.data / name / "corpus.jsonl.gz", "rt") as lines:
            words = [theme_words(json.loads(line)["text"]) for line in lines]
        report.add(**{"set": name, **_measure(words, options.cases, random.Random(options.seed))})
    report.show(options.json)
    if options.answers:
        with gzip.open(options.data / "xquad-en" / "corpus.jsonl.gz", "rt") as lines:
            texts = [json.loads(line)["text"] for line in lines]
        _measure_answers(texts, options.answers, random.Random(options.seed)).show(None)


def _measure(words: list[list[tuple[str, str]]], cases: int, chance: random.Random) -> dict[str, float]:
    right = grouped = related = pure = total = theme_count = article_count = 0
    begin = time.process_time()
    for _ in range(cases):
        articles = chance.sample(range(len(words) // ARTICLE_PASSAGES), chance.randint(3, 10))
        passages = [
            article * ARTICLE_PASSAGES + i for article in sorted(articles) for i in range(ARTICLE_PASSAGES)
        ]
        clusters = cluster([words[passage] for passage in passages])
        themes = {member: number for number, item in enumerate(clusters) for member in item.members}
        for first, second in combinations(range(len(passages)), 2):
            same_theme = themes[first] == themes[second]
            same_article = passages[first] // ARTICLE_PASSAGES == passages[second] // ARTICLE_PASSAGES
            right += same_theme and same_article
            grouped += same_theme
            related += same_article
        for item in clusters:
            counts = Counter(passages[member] // ARTICLE_PASSAGES for member in item.members)
            pure += counts.most_common(1)[0][1]
        total += len(passages)
        theme_count += len(clusters)
        article_count += len(articles)
    return {
        "pairs F1": 2 * right / (grouped + related),
        "purity": pure / total,
        "themes per article": theme_count / article_count,
        "CPU ms": (time.process_time() - begin) * 1e3 / cases,
    }


def _measure_answers(texts: Sequence[str], cases: int, chance: random.Random) -> Report:
    """Return the share of articles whose subject an answer names, as a mean over the cases."""
    articles = [sorted(chance.sample(range(len(SUBJECTS)), chance.randint(3, 10))) for _case in range(cases)]
    report = Report("Subjects of articles that answers name", ("question", *WAYS.values()))
    with tempfile.TemporaryDirectory() as folder, _ideal_model(texts) as address:
        stores = []
        for case, numbers in enumerate(articles):
            path = Path(folder, str(case))
            path.mkdir()
            for article in numbers:
                for number in range(article * ARTICLE_PASSAGES, (article + 1) * ARTICLE_PASSAGES):
                    (path / f"{number}.txt").write_text(texts[number], encoding="utf-8")
            stores += [
                {"name": f"{way}-{case}", "app": True, "answers": way, "folder": str(path)} for way in WAYS
            ]
        models = [{"name": "ideal", "source": f"{address}/v1#ideal", "aliases": ["default"]}]
        with (
            embedded({"models": models, "stores": stores}) as url,
            httpx.Client(base_url=url, timeout=120) as client,
        ):
            for case, numbers in enumerate(articles):
                for way in WAYS:
                    _wait_for_files(client, f"{way}-{case}", len(numbers) * ARTICLE_PASSAGES)
            for question in QUESTIONS:
                shares = {
                    label: sum(
                        _share(_ask(client, f"{way}-{case}", question), numbers)
                        for case, numbers in enumerate(articles)
                    )
                    for way, label in WAYS.items()
                }
                report.add(**{"question": question, **{way: total / cases for way, total in shares.items()}})
    return report


def _wait_for_files(client: httpx.Client, store: str, count: int) -> None:
    while client.get(f"/api/stores/{store}").json()["file_counts"]["completed"] < count:
        time.sleep(0.5)


def _ask(client: httpx.Client, app: str, question: str) -> str:
    body = {"model": app, "messages": [{"role": "user", "content": question}]}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"])


def _share(answer: str, articles: Sequence[int]) -> float:
    """Return the share of the articles whose subject the answer names."""
    folded_answer = answer.lower()
    return sum(
        any(word in folded_answer for word in SUBJECTS[article].split("|")) for article in articles
    ) / len(articles)


@contextmanager
def _ideal_model(texts: Sequence[str]) -> Iterator[str]:
    """Serve a model that names the subject of each passage in its prompt, and yield its address."""
    starts = {" ".join(text.split())[:80]: number // ARTICLE_PASSAGES for number, text in enumerate(texts)}

    class SubjectReader(Reader):
        def answer(self, prompt: str) -> str:
            lines = [" ".join(line.split()) for line in prompt.splitlines()]
            return "\n".join(
                f"{line.partition('.')[0]}. {SUBJECTS[article].partition('|')[0]}"
                for line in lines
                for start, article in starts.items()
                if start in line
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), SubjectReader)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
