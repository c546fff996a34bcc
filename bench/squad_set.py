"""Converts questions in SQuAD's format to a set of `answers.py`: ``python bench/squad_set.py FILE.json FOLDER``.

SQuAD, CMRC 2018, DRCD and XQuAD have this format. A document is a paragraph, an article all paragraphs under a title.
Questions without an answer, and paragraphs of ``--without SET``, are left out. Of a paragraph, questions are taken from
another place each time, because they follow the order of its sentences.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from answers import read


def documents_of(
    data: Sequence[Mapping[str, Any]], without: frozenset[str]
) -> Iterable[tuple[int, str, Any]]:
    """Yield the article, text and answerable questions of each paragraph."""
    articles: dict[str, int] = {}
    for entry in data:
        article = articles.setdefault(entry["title"], len(articles))
        for paragraph in entry["paragraphs"]:
            text = paragraph["context"].strip()
            questions = [q for q in paragraph["qas"] if q["answers"] and q["question"].strip()]
            if questions and text not in without:
                yield article, text, questions


def write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Convert a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=1, help="at most, for each paragraph")
    parser.add_argument("--without", type=Path, metavar="SET", help="a set whose paragraphs are left out")
    options = parser.parse_args()
    without = frozenset(read(options.without).documents.values() if options.without else ())
    data = json.loads(options.file.read_text(encoding="utf-8"))["data"]
    corpus: list[dict[str, Any]] = []
    queries: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for number, (article, text, questions) in enumerate(documents_of(data, without)):
        document = f"p{number}"
        corpus.append({"id": document, "text": text})
        count = min(options.questions, len(questions))
        for place in range(count):
            question = questions[(number + place * len(questions) // count) % len(questions)]
            identity = f"q{len(queries)}"
            gold = list(dict.fromkeys(answer["text"] for answer in question["answers"]))
            queries.append({"id": identity, "text": question["question"].strip()})
            answers.append({"id": identity, "article": article, "document": document, "answers": gold})
    options.folder.mkdir(parents=True)
    write(options.folder, "corpus.jsonl.gz", corpus)
    write(options.folder, "queries.jsonl.gz", queries)
    write(options.folder, "answers.jsonl.gz", answers)
    print(f"{options.folder.name}: {len(corpus)} documents, {len(queries)} questions")


if __name__ == "__main__":
    main()
