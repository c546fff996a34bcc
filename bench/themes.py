"""Themes of a store: whether passages of one article are grouped together: ``python bench/themes.py --data FOLDER``.

Each case takes the passages of three to ten random articles of XQuAD, five passages each, as one store. Passages are
compared in pairs: a pair is right if both passages have one theme and one article. No case was used to choose a value.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

from harness import Report

from portico_server.knowledge.themes.clusters import cluster
from portico_server.knowledge.themes.theme_words import theme_words

ARTICLE_PASSAGES = 5


def main() -> None:
    """Measure each set in the folder, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="The folder with xquad-en and xquad-zh.")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("Themes of a store", ("set", "pairs F1", "purity", "themes per article", "CPU ms"))
    for name in ("xquad-en", "xquad-zh"):
        with gzip.open(options.data / name / "corpus.jsonl.gz", "rt") as lines:
            words = [theme_words(json.loads(line)["text"]) for line in lines]
        report.add(**{"set": name, **_measure(words, options.cases, random.Random(options.seed))})
    report.show(options.json)


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


if __name__ == "__main__":
    main()
