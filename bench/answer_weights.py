"""The weights of answers by quotation: ``python bench/answer_weights.py --data FOLDER --hits FILE``.

Searches stores of the sets in FOLDER (see `answers.py`) once, saves the hits in FILE, trains on the articles of the
dev half and prints `portico_server/apps/answer/weights.py` with the value of each feature on both halves. Sentences: a
listwise softmax (which of a question's candidates contains the gold answer). Refusals: a logistic regression (whether
the article of the question was indexed), one for questions in Chinese and one for others. All models are linear, in
NumPy, and deterministic.

With ``--chains FILE`` it trains the combination of passages instead, on the questions of `multihop.py` (templates
``tuned``), of which three chains in five lack a passage, and on the dev half. All are searched in steps; FILE stores
their hits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import wordllama
from answers import BROKEN_SHARE, DATA, Asked, Collection, is_dev, make_store, read_all
from harness import call, daemon
from multihop import LANGUAGES, generate

from portico.wire import Passage
from portico_server.apps.answer.chains import SentenceChain, sentence_chains
from portico_server.apps.answer.judge import MAX_COMPARED_PASSAGES, SEARCH_RESULTS
from portico_server.apps.answer.material import Material
from portico_server.apps.answer.weights import CHAIN
from portico_server.knowledge.name_walk import names_in

RIGHT_REFUSALS = 0.94
FALSE_REFUSALS = 0.05
"""Share of unanswerable questions that must score below the refusal line, and share of answerable questions that
may.
"""

DOUBT_SHARE = 0.03
"""Share of all questions, half of which are answerable, that score between the lines: their answer shows the nearest
passages, labelled as such.
"""

Hits = Mapping[str, Sequence[tuple[str, float, str]]]
Rows = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Example:
    """A question's candidates: their features, which contain the gold answer, and which of those are in the gold
    paragraph.
    """

    dev: bool
    rows: Rows
    holds: Any
    gold: Any


def searched(sets: Sequence[Collection], path: Path) -> dict[str, dict[str, list[Any]]]:
    """Return, for each store (a whole set, and each half of its articles), the hits of each question of its
    language.
    """
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, dict[str, list[Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        for data in sets:
            for half in (0, 1):
                name = f"{data.name}-{half}"
                make_store(portico.url, name, data.half(half), Path(temporary) / name)
                found[name] = {}
                for asked in data.questions:
                    body = {"query": asked.text, "max_num_results": SEARCH_RESULTS}
                    hits = call(f"{portico.url}/api/stores/{name}/search", body)["data"]
                    found[name][asked.id] = [(hit["filename"], hit["score"], hit["text"]) for hit in hits]
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


class Vectors:
    """The static vectors of texts, each computed once."""

    def __init__(self) -> None:
        folder = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        self._known: dict[str, Any] = {}

    def of(self, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._model.embed(new), strict=True))
        return np.array([self._known[text] for text in texts])


def material(asked: Asked, hits: Sequence[Any]) -> Material:
    return Material(
        asked.text,
        [Passage(rank, score, text, name, name) for rank, (name, score, text) in enumerate(hits, 1)],
    )


def example(asked: Asked, hits: Sequence[Any], vectors: Vectors | None) -> Example:
    given = material(asked, hits)
    soft = given.soft(vectors.of(given.texts())) if vectors else None
    holds = np.array([any(gold in c.text for gold in asked.answers) for c in given.candidates], bool)
    right = [Path(given.passages[c.passage].filename).stem == asked.document for c in given.candidates]
    rows = [dict(row) for row in given.of_candidates(soft)]
    return Example(is_dev(asked.article), rows, holds, holds & np.array(right, bool))


def matrix(rows: Rows, names: Sequence[str]) -> Any:
    return np.array([[row[name] for name in names] for row in rows])


def _descend(gradient: Any, size: int, steps: int = 500, rate: float = 0.05) -> Any:
    """Return the weights that Adam finds, starting from zero."""
    weights, mean, square = np.zeros(size), np.zeros(size), np.zeros(size)
    for step in range(1, steps + 1):
        slope = gradient(weights)
        mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        weights = weights - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
    return weights


def rank_weights(examples: Sequence[Example], names: Sequence[str], penalty: float = 3e-2) -> Any:
    """Return weights that rank the candidates with the answer first."""
    used = [example for example in examples if example.dev and example.gold.any()]
    every = np.concatenate([matrix(example.rows, names) for example in used])
    spread = every.std(axis=0) + 1e-6
    scaled = (every - every.mean(axis=0)) / spread
    gold = np.concatenate([example.gold for example in used]).astype(float)
    group = np.repeat(np.arange(len(used)), [len(example.rows) for example in used])

    def gradient(weights: Any) -> Any:
        scores = scaled @ weights
        highest = np.full(len(used), -1e9)
        np.maximum.at(highest, group, scores)
        power = np.exp(scores - highest[group])
        likely = power / np.bincount(group, power, len(used))[group]
        wanted = power * gold / np.maximum(np.bincount(group, power * gold, len(used)), 1e-30)[group]
        return scaled.T @ (likely - wanted) / len(used) + penalty * weights

    return _descend(gradient, len(names)) / spread


def ranked(examples: Sequence[Example], names: Sequence[str], weights: Any) -> tuple[float, float]:
    """Return the share of questions whose answer is in the best candidate, and the share for the best two."""
    one = two = 0
    for item in examples:
        order = np.argsort(-(matrix(item.rows, names) @ weights), kind="stable") if item.rows else []
        one += bool(len(order) and item.holds[order[0]])
        two += bool(len(order) and item.holds[order[:2]].any())
    return one / len(examples), two / len(examples)


def refusal_weights(rows: Rows, known: Any, names: Sequence[str], penalty: float = 1e-2) -> tuple[Any, float]:
    """Return the weights and the constant of the log odds that the documents contain an answer."""
    every = matrix(rows, names)
    mean, spread = every.mean(axis=0), every.std(axis=0) + 1e-6
    scaled = np.c_[(every - mean) / spread, np.ones(len(every))]
    free = np.r_[np.ones(len(names)), 0.0]

    def gradient(weights: Any) -> Any:
        likely = 1 / (1 + np.exp(-scaled @ weights))
        return scaled.T @ (likely - known) / len(known) + penalty * free * weights

    found = _descend(gradient, len(names) + 1, 800)
    weights = found[:-1] / spread
    return weights, float(found[-1] - mean @ weights)


def pruned(names: Sequence[str], worth: Any, least: float = 0.0) -> list[str]:
    """Return ``names`` without the features whose removal, one at a time, does not worsen the result on the dev
    half.
    """
    kept = list(names)
    best = worth(kept)
    for name in list(names):
        tried = [other for other in kept if other != name]
        found = worth(tried)
        if found >= best - least:
            kept, best = tried, found
    return kept


def _table(names: Sequence[str], weights: Any) -> str:
    return "{" + ", ".join(f'"{n}": {w:.3f}' for n, w in zip(names, weights, strict=True)) + "}"


class Trainer:
    """Examples of all sets, with or without vectors."""

    def __init__(self, sets: Sequence[Collection], hits: Mapping[str, Hits], vectors: Vectors | None) -> None:
        self.candidates: dict[str, list[Example]] = {}
        self.rows: dict[str, tuple[Rows, Any, Any]] = {}
        for data in sets:
            self.candidates[data.name] = [
                example(asked, hits[f"{data.name}-{asked.article % 2}"][asked.id], vectors)
                for asked in data.questions
            ]
            rows, known, dev = [], [], []
            for half in (0, 1):
                for asked in data.questions:
                    given = material(asked, hits[f"{data.name}-{half}"][asked.id])
                    soft = given.soft(vectors.of(given.texts())) if vectors else None
                    rows.append(dict(given.of_passages(soft)))
                    known.append(float(asked.article % 2 == half))
                    dev.append(is_dev(asked.article))
            self.rows[data.name] = rows, np.array(known), np.array(dev)

    def sentences(self, names: Sequence[str]) -> tuple[Any, dict[str, tuple[float, float]]]:
        every = [item for found in self.candidates.values() for item in found]
        weights = rank_weights(every, names)
        shares = {
            f"{name} {'dev' if dev else 'test'}": ranked(
                [item for item in found if item.dev == dev], names, weights
            )
            for name, found in self.candidates.items()
            for dev in (True, False)
        }
        return weights, shares

    def evidence_names(self, *, cjk: bool) -> list[str]:
        """Return the features of passages for questions in Chinese, or for others."""
        return list(next(rows[0] for rows, _k, _d in self.rows.values() if ("chinese" in rows[0]) == cjk))

    def refusals(self, names: Sequence[str], *, cjk: bool) -> tuple[Any, float, float, float, dict[str, Any]]:
        """Return the weights, the constant, both lines, and for each set and half the shares of right and false
        refusals.

        They are: right refusals at 0.05 false ones, and right and false refusals at the line.
        """
        own_sets = {name: kept for name, kept in self.rows.items() if ("chinese" in kept[0][0]) == cjk}
        rows = [r for rows, _k, dev in own_sets.values() for r, d in zip(rows, dev, strict=True) if d]
        known = np.concatenate([known[dev] for _rows, known, dev in own_sets.values()])
        weights, constant = refusal_weights(rows, known, names)
        scores = matrix(rows, names) @ weights + constant
        line = float(
            min(
                np.quantile(scores[known == 0], RIGHT_REFUSALS),
                np.quantile(scores[known == 1], FALSE_REFUSALS),
            )
        )
        share = np.where(known == 1, 0.5 / (known == 1).sum(), 0.5 / (known == 0).sum())
        above = np.argsort(scores)[np.sort(scores) >= line]
        doubt = float(scores[above[np.searchsorted(np.cumsum(share[above]), DOUBT_SHARE)]])
        shares = {}
        for name, (rows, known, dev) in own_sets.items():
            for half in (True, False):
                own = (matrix(rows, names) @ weights + constant)[dev == half]
                there = known[dev == half] == 1
                at = float(np.quantile(own[there], 0.05))
                shares[f"{name} {'dev' if half else 'test'}"] = (
                    float((own[~there] < at).mean()),
                    float((own[~there] < line).mean()),
                    float((own[there] < line).mean()),
                )
        return weights, constant, line, doubt, shares


TRAINED_CHAIN_COUNT = 50
"""Number of chains in each language that are used for training."""

BROKEN_WEIGHT = 0.5
"""Weight of a question with a missing passage; a question about something else counts 1 …"""

PLAIN_WEIGHT = 0.3
"""… and weight of a question that a single passage answers; a question about a chain counts 1."""

WRONGLY_TOGETHER_SHARE, WRONGLY_ALONE_SHARE, WRONGLY_SURE_SHARE = 0.03, 0.01, 0.1
"""Shares of unanswerable questions that may score above each of the three lines."""


def searched_chains(sets: Sequence[Collection], path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the questions about chains of each language, and the dev-half questions of each set, with their hits."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:

        def row(store: str, text: str, evidence: Sequence[str], *, known: bool) -> dict[str, Any]:
            body = {"query": text, "max_num_results": SEARCH_RESULTS, "steps": "auto"}
            hits = call(f"{portico.url}/api/stores/{store}/search", body)["data"]
            rows = [(hit["filename"], hit["score"], hit["text"]) for hit in hits]
            return {"text": text, "evidence": list(evidence), "known": known, "hits": rows}

        for language in LANGUAGES:
            made = generate(language, "tuned", 1, TRAINED_CHAIN_COUNT, BROKEN_SHARE)
            make_store(portico.url, language, made.passages, Path(temporary) / language)
            found[language] = [
                row(language, item.text, item.evidence, known=item.answerable) for item in made.questions
            ]
        for data in sets:
            make_store(portico.url, data.name, data.half(0), Path(temporary) / data.name)
            found[data.name] = [
                row(data.name, asked.text, [asked.document], known=asked.article % 2 == 0)
                for asked in data.questions
                if is_dev(asked.article)
            ]
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def chains_of(row: Mapping[str, Any], vectors: Vectors) -> list[tuple[SentenceChain, bool]]:
    """Return the chains for a question, and whether each is exactly its evidence."""
    passages = [
        Passage(rank, score, text, name, name) for rank, (name, score, text) in enumerate(row["hits"], 1)
    ]
    given = Material(row["text"], passages, "", MAX_COMPARED_PASSAGES)
    if not given.candidates:
        return []
    names = [tuple(names_in(passage.text)) for passage in passages]
    found = sentence_chains(given, names, given.soft(vectors.of(given.texts())))
    files = [[Path(passages[given.candidates[n].passage].filename).stem for n in c.candidates] for c in found]
    return [
        (chain, row["known"] and sorted(own) == sorted(row["evidence"]))
        for chain, own in zip(found, files, strict=True)
    ]


def train_chains(of_chains: Sequence[Any], plain: Sequence[Any]) -> tuple[list[str], Any, float, list[float]]:
    """Return the names and weights of the features, their constant, and the lines: several doubtful, several sure, one
    doubtful.

    Each question gives one row: its evidence, or the chain that scores best with the current weights. Training repeats
    this six times.
    """
    names = list(CHAIN)
    used = [
        (matrix([chain.features for chain, _ in found], names), [right for _, right in found], known, chained)
        for part, chained in ((of_chains, True), (plain, False))
        for known, found in part
        if found
    ]
    every = np.concatenate([rows for rows, *_ in used])
    mean, spread = every.mean(axis=0), every.std(axis=0) + 1e-6
    weights = np.zeros(len(names) + 1)
    free = np.r_[np.ones(len(names)), 0.0]
    for turn in range(6):
        rows, known, worth = [], [], []
        for own, rights, is_known, chained in used:
            scores = ((own - mean) / spread) @ weights[:-1] if turn else own[:, 0]
            if is_known and not any(rights):
                continue
            rows.append(own[rights.index(True)] if is_known else own[int(np.argmax(scores))])
            known.append(float(is_known))
            worth.append(
                (1.0 if chained else PLAIN_WEIGHT) if is_known else BROKEN_WEIGHT if chained else 1.0
            )
        scaled = np.c_[(np.array(rows) - mean) / spread, np.ones(len(rows))]
        there, share = np.array(known), np.array(worth)
        share[there == 1] *= share[there == 0].sum() / share[there == 1].sum()

        def gradient(weights: Any, scaled: Any = scaled, there: Any = there, share: Any = share) -> Any:
            likely = 1 / (1 + np.exp(-scaled @ weights))
            return scaled.T @ (share * (likely - there)) / share.sum() + 1e-2 * free * weights

        weights = _descend(gradient, len(names) + 1, 600)
    own = weights[:-1] / spread
    constant = float(weights[-1] - mean @ own)

    def line(part: Sequence[Any], wrongly: float, *, several: bool) -> float:
        best = [
            max(
                (
                    float(matrix([chain.features], names)[0] @ own) + constant
                    for chain, _ in found
                    if (len(chain.candidates) > 1) == several
                ),
                default=-99.0,
            )
            for known, found in part
            if not known
        ]
        return float(np.quantile(best, 1 - wrongly))

    doubtful = line(plain, WRONGLY_TOGETHER_SHARE, several=True)
    sure = max(doubtful, line(of_chains, WRONGLY_SURE_SHARE, several=True))
    return names, own, constant, [doubtful, sure, line(plain, WRONGLY_ALONE_SHARE, several=False)]


def print_chains(sets: Sequence[Collection], path: Path) -> None:
    """Train for both scripts, and print the weights."""
    vectors = Vectors()
    rows = {
        name: [(row["known"], chains_of(row, vectors)) for row in own]
        for name, own in searched_chains(sets, path).items()
    }
    for script, language in (("", "en"), ("_CJK", "zh")):
        plain = [row for data in sets if data.name.endswith(language) for row in rows[data.name]]
        names, own, constant, (doubtful, sure, one) = train_chains(rows[language], plain)
        print(f"CHAIN{script} = {_table(names, own)}")
        print(f"CHAIN{script}_LINES = DecisionLines({constant:.3f}, {doubtful:.3f}, {sure:.3f})")
        print(f"CHAIN{script}_ONE_SCORE = {one:.3f}")


def main() -> None:
    """Train with and without vectors; print the module and the value of each feature."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--hits", type=Path, help="where the hits are kept between runs")
    parser.add_argument("--chains", type=Path, metavar="FILE", help="train chains, whose hits FILE keeps")
    parser.add_argument("--ablate", action="store_true", help="also print the shares without each feature")
    options = parser.parse_args()
    sets = read_all(options.data)
    if options.chains:
        print_chains(sets, options.chains)
        return
    if not options.hits:
        parser.error("give --hits, or --chains")
    hits = searched(sets, options.hits)
    lines = []
    for title, vectors in (("", Vectors()), ("_WITHOUT_VECTORS", None)):
        trainer = Trainer(sets, hits, vectors)
        first = next(item.rows[0] for found in trainer.candidates.values() for item in found if item.rows)
        names = list(first)
        weights, shares = trainer.sentences(names)
        lines.append(f"SENTENCE{title} = {_table(names, weights)}")
        print(f"# sentences{title} (one, two):", _shown(shares))
        if options.ablate:
            for name in names:
                rest = [other for other in names if other != name]
                print(f"#   without {name}:", _shown(trainer.sentences(rest)[1]))
        for script, cjk in (("", False), ("_CJK", True)):
            given = trainer.evidence_names(cjk=cjk)
            ours, constant, line, doubt, right = trainer.refusals(given, cjk=cjk)
            lines.append(f"EVIDENCE{script}{title} = {_table(given, ours)}")
            lines.append(
                f"EVIDENCE{script}{title}_LINES = DecisionLines({constant:.3f}, {line:.3f}, {doubt:.3f})"
            )
            print(
                f"# refusals{script}{title} (right at 0.05 false, right at the line, false at the line):",
                _shown(right),
            )
            if options.ablate:
                for name in given:
                    rest = [other for other in given if other != name]
                    print(f"#   without {name}:", _shown(trainer.refusals(rest, cjk=cjk)[-1]))
    print("\n".join(lines))


def _shown(shares: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name} {'/'.join(f'{share:.3f}' for share in row)}" for name, row in shares.items())


if __name__ == "__main__":
    main()
