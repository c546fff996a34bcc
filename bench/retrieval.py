"""Ranking quality and speed of a store's search: ``python bench/retrieval.py --data FOLDER``.

FOLDER contains one folder per set, with ``corpus.jsonl.gz`` and ``queries.jsonl.gz`` (``id``, ``text``) and
``qrels.tsv`` (query, document, score). Each document becomes a file of a store; a document's rank is that of its best
passage. With bm25s installed (and jieba for Chinese), plain BM25 is shown too.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.util
import json
import math
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import HERE, Report, call, daemon

DEPTH = 50
"""Number of requested passages, so that they include ten different documents."""


@dataclass(frozen=True, slots=True)
class Set:
    """A test collection; ``relevant`` maps a query to its documents and their grades."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, float]]


def read(folder: Path, limit: int) -> Set:
    """Read a set, with at most ``limit`` queries that have an answer."""

    def rows(name: str) -> dict[str, str]:
        with gzip.open(folder / name, "rt", encoding="utf-8") as file:
            return {row["id"]: row["text"] for row in map(json.loads, file)}

    relevant: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        relevant.setdefault(query, {})[document] = float(grade)
    queries = {name: text for name, text in rows("queries.jsonl.gz").items() if name in relevant}
    step = max(1, len(queries) // limit)
    return Set(folder.name, rows("corpus.jsonl.gz"), dict(list(queries.items())[::step][:limit]), relevant)


def ndcg(ranked: Sequence[str], grades: Mapping[str, float], depth: int = 10) -> float:
    """Return the normalised discounted cumulative gain, with the grade itself as gain."""
    gained = sum(grades.get(name, 0) / math.log2(rank + 2) for rank, name in enumerate(ranked[:depth]))
    best = sorted(grades.values(), reverse=True)[:depth]
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
    return gained / ideal if ideal else 0.0


def recall(ranked: Sequence[str], grades: Mapping[str, float], depth: int) -> float:
    """Return the share of the relevant documents among the first ``depth``."""
    wanted = {name for name, grade in grades.items() if grade > 0}
    return len(wanted & set(ranked[:depth])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranked: Sequence[str], grades: Mapping[str, float], depth: int = 10) -> float:
    """Return one over the rank of the first relevant document."""
    return next((1 / rank for rank, name in enumerate(ranked[:depth], 1) if grades.get(name, 0) > 0), 0.0)


def measure(data: Set, search: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    """Return the quality over all queries, and the milliseconds of a single query."""
    scores: dict[str, list[float]] = {"nDCG@10": [], "recall@5": [], "recall@10": [], "MRR@10": []}
    times = []
    for name, text in data.queries.items():
        begin = time.perf_counter()
        ranked = search(text)
        times.append((time.perf_counter() - begin) * 1e3)
        grades = data.relevant[name]
        scores["nDCG@10"].append(ndcg(ranked, grades))
        scores["recall@5"].append(recall(ranked, grades, 5))
        scores["recall@10"].append(recall(ranked, grades, 10))
        scores["MRR@10"].append(reciprocal_rank(ranked, grades))
    return {
        **{name: statistics.fmean(values) for name, values in scores.items()},
        "p50 ms": statistics.median(times),
    }


def follow(url: str, name: str, documents: Mapping[str, str], folder: Path, model: str | None) -> float:
    """Create a store of the documents and wait until all can be found; return the seconds. ``model`` embeds them."""
    folder.mkdir()
    for identity, text in documents.items():
        (folder / f"{identity}.txt").write_text(text, encoding="utf-8")
    begin = time.perf_counter()
    call(f"{url}/api/stores", {"name": name, "folder": str(folder), "embedding_model": model})
    run = call(f"{url}/api/stores/{name}/sync", {})["run"]
    urllib.request.urlopen(f"{url}/api/runs/{run}/events", timeout=3600).read()  # the events end with the run
    counts = call(f"{url}/api/stores/{name}")["file_counts"]
    if counts["completed"] != len(documents):
        raise SystemExit(f"{name}: {counts} of {len(documents)} documents")
    return time.perf_counter() - begin


def searcher(url: str, store: str, options: Mapping[str, Any]) -> Callable[[str], list[str]]:
    """Return a search that lists documents in the order of their best passages."""

    def search(query: str) -> list[str]:
        body = {"query": query, "max_num_results": DEPTH, **options}
        found = call(f"{url}/api/stores/{store}/search", body)["data"]
        return list(dict.fromkeys(Path(item["filename"]).stem for item in found))

    return search


def baseline(documents: Mapping[str, str]) -> Callable[[str], list[str]] | None:
    """Return plain BM25 over words (jieba's for Chinese text), or None without bm25s."""
    if importlib.util.find_spec("bm25s") is None:
        return None
    bm25s = importlib.import_module("bm25s")
    names = list(documents)
    chinese = sum("一" <= character <= "鿿" for text in documents.values() for character in text[:200]) > len(
        names
    )
    if chinese and importlib.util.find_spec("jieba") is None:
        return None
    jieba = importlib.import_module("jieba") if chinese else None

    def tokens(texts: list[str]) -> Any:
        if jieba is not None:
            return [[word for word in jieba.cut(text) if word.strip()] for text in texts]
        return bm25s.tokenize(texts, stopwords="en", show_progress=False, return_ids=False)

    index = bm25s.BM25()
    index.index(tokens(list(documents.values())), show_progress=False)

    def search(query: str) -> list[str]:
        found, _ = index.retrieve(tokens([query]), k=min(10, len(names)), show_progress=False)
        return [names[number] for number in found[0]]

    return search


def grown(documents: Mapping[str, str], chunks: int) -> dict[str, str]:
    """Return ``chunks`` short documents made from the given ones, each marked so that no two are equal."""
    texts = list(documents.values())
    return {
        f"grown-{n:06d}": f"{texts[n % len(texts)][:500]} (copy {n // len(texts)})" for n in range(chunks)
    }


def main() -> None:
    """Measure each set with each ranker, then speed at size; print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / "retrieval")
    parser.add_argument("--queries", type=int, default=2000, help="queries per set at most")
    parser.add_argument("--rankers", nargs="+", default=["auto", "lexical", "vector", "hybrid", "rrf"])
    parser.add_argument("--embedding", help="source of the embedding model instead of the built-in one")
    parser.add_argument(
        "--weights", nargs="+", type=float, default=[], help="also these weights of the vectors"
    )
    parser.add_argument("--chunks", type=int, default=0, help="also measure speed over so many chunks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.data.glob("*/qrels.tsv"))
    if not folders:
        raise SystemExit(f"{options.data} holds no sets (folders with a qrels.tsv); give another --data")
    columns = ("set", "search", "nDCG@10", "recall@5", "recall@10", "MRR@10", "p50 ms", "indexing s")
    report = Report("Retrieval", columns)
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        model = None
        if options.embedding:
            model = call(f"{portico.url}/api/deployments", {"name": "e", "source": options.embedding})["name"]
        searches = {ranker: {"ranker": ranker} for ranker in options.rankers}
        searches |= {f"weight {weight:g}": {"vector_weight": weight} for weight in options.weights}
        sets = [read(folder, options.queries) for folder in folders]
        for data in sets:
            seconds = follow(portico.url, data.name, data.documents, Path(temporary) / data.name, model)
            for search, wanted in searches.items():
                measured = measure(data, searcher(portico.url, data.name, wanted))
                report.add(set=data.name, search=search, **measured, **{"indexing s": seconds})
            plain = baseline(data.documents)
            if plain is not None:
                report.add(set=data.name, search="bm25s", **measure(data, plain))
        if options.chunks:
            documents = grown(sets[0].documents, options.chunks)
            seconds = follow(portico.url, "grown", documents, Path(temporary) / "grown", model)
            some = Set("grown", documents, dict(list(sets[0].queries.items())[:200]), sets[0].relevant)
            timed = measure(some, searcher(portico.url, "grown", {}))["p50 ms"]
            row = {
                "set": f"{options.chunks:,} chunks",
                "search": "auto",
                "p50 ms": timed,
                "indexing s": seconds,
            }
            report.add(**row)
    report.show(options.json)


if __name__ == "__main__":
    main()
