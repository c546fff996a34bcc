"""The weights of answers by quotation: ``python bench/answer_weights.py --data FOLDER --hits FILE``.

Searches stores of the sets in FOLDER (see `answers.py`) once, saves the hits in FILE, trains on the articles of the
dev half and prints the weights for `portico_server/features/answers/weights.py` and the shares on both halves.
Sentences: a listwise softmax (which of a question's candidates contains the gold answer). Refusals: a logistic
regression (whether the article of the question was indexed), one for questions in Chinese and one for others, each
with one line for all sets. Every set has the same weight. All models are linear, in NumPy, and deterministic.

With ``--apart`` it also prints the shares of each set with weights that only sets of other families trained. The family
of a set is the beginning of its name, such as ``drcd`` of ``drcd-test``.

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
from typing import Any, TypeVar

import numpy as np
import wordllama
from answers import BROKEN_SHARE, DATA, Asked, Collection, is_dev, make_store, read_all, sample
from harness import call, daemon
from multihop import LANGUAGES, generate

from portico.wire import Passage
from portico_server.features.answers.chains import SentenceChain, sentence_chains
from portico_server.features.answers.judge import (
    LEAD_BONUS_SCORE,
    MAX_COMPARED_PASSAGES,
    SEARCH_RESULTS,
    stands_out,
)
from portico_server.features.answers.material import Material, SoftMatch
from portico_server.features.answers.weights import CHAIN
from portico_server.features.stores.name_walk import names_in

RIGHT_REFUSALS = 0.94
FALSE_REFUSALS = 0.04
"""Share of unanswerable questions that must score below the refusal line, and share of answerable questions that
may, as means over the sets.
"""

DOUBT_SHARE = 0.03
"""Share of all questions, half of which are answerable, that score between the lines: their answer shows the nearest
passages, labelled as such.
"""

Hits = Mapping[str, Sequence[tuple[str, float, str]]]
Rows = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Example:
    """The candidates of a question with an answer: their features, which contain the gold answer, and which of those
    are in the gold paragraph.
    """

    dev: bool
    rows: Rows
    holds: Any
    gold: Any


@dataclass(frozen=True, slots=True)
class Evidence:
    """The features of each question's passages, whether the documents contain its answer, and whether its article is
    in the dev half. ``bonus`` is added to the score of passages whose first one stands out.
    """

    rows: Rows
    has_answer: Any
    dev: Any
    bonus: Any


@dataclass(frozen=True, slots=True)
class RefusalModel:
    """Weights of the features of passages, their constant, and both lines."""

    weights: Any
    constant: float
    absent: float
    doubtful: float


def searched(sets: Sequence[Collection], path: Path) -> dict[str, dict[str, list[Any]]]:
    """Return, for each store (a whole set, and each half of its articles), the hits of each question of its
    language.
    """
    if path.is_file():
        stored_hits: dict[str, dict[str, list[Any]]] = json.loads(path.read_text(encoding="utf-8"))
        return stored_hits
    found: dict[str, dict[str, list[Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        for data in sets:
            for half in (0, 1):
                name = f"{data.name}-{half}"
                make_store(portico.url, name, data.half(half), Path(temporary) / name)
                found[name] = {}
                for question in data.questions:
                    body = {"query": question.text, "max_num_results": SEARCH_RESULTS}
                    hits = call(f"{portico.url}/api/stores/{name}/search", body)["data"]
                    found[name][question.id] = [(hit["filename"], hit["score"], hit["text"]) for hit in hits]
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


class Vectors:
    """The static vectors of texts, each computed once."""

    def __init__(self) -> None:
        folder = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        self._cache: dict[str, Any] = {}

    def of(self, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if new:
            self._cache.update(zip(new, self._model.embed(new), strict=True))
        return np.array([self._cache[text] for text in texts])


def material(question: Asked, hits: Sequence[Any]) -> Material:
    return Material(
        question.text,
        [Passage(rank, score, text, name, name) for rank, (name, score, text) in enumerate(hits, 1)],
    )


def example(question: Asked, own: Material, soft: SoftMatch | None) -> Example:
    holds = np.array([any(gold in c.text for gold in question.answers) for c in own.candidates], bool)
    is_own = [Path(own.passages[c.passage].filename).stem == question.document for c in own.candidates]
    rows = [dict(row) for row in own.of_candidates(soft)]
    return Example(is_dev(question.article), rows, holds, holds & np.array(is_own, bool))


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


def rank_weights(sets: Sequence[Sequence[Example]], names: Sequence[str], penalty: float = 3e-2) -> Any:
    """Return weights that rank the candidates with the answer first."""
    examples = [[item for item in own if item.dev and item.gold.any()] for own in sets]
    used = [item for own in examples for item in own]
    worth = np.concatenate([np.full(len(own), 1 / len(own) / len(sets)) for own in examples])
    every = np.concatenate([matrix(item.rows, names) for item in used])
    spread = every.std(axis=0) + 1e-6
    scaled = (every - every.mean(axis=0)) / spread
    gold = np.concatenate([item.gold for item in used]).astype(float)
    group = np.repeat(np.arange(len(used)), [len(item.rows) for item in used])

    def gradient(weights: Any) -> Any:
        scores = scaled @ weights
        highest = np.full(len(used), -1e9)
        np.maximum.at(highest, group, scores)
        power = np.exp(scores - highest[group])
        likely = power / np.bincount(group, power, len(used))[group]
        target = power * gold / np.maximum(np.bincount(group, power * gold, len(used)), 1e-30)[group]
        return scaled.T @ ((likely - target) * worth[group]) + penalty * weights

    return _descend(gradient, len(names)) / spread


def ranked(examples: Sequence[Example], names: Sequence[str], weights: Any) -> tuple[float, float]:
    """Return the share of questions whose answer is in the best candidate, and the share for the best two."""
    one = two = 0
    for item in examples:
        order: Any = np.argsort(-(matrix(item.rows, names) @ weights), kind="stable") if item.rows else []
        one += bool(len(order) and item.holds[order[0]])
        two += bool(len(order) and item.holds[order[:2]].any())
    return one / len(examples), two / len(examples)


def refusal_model(sets: Sequence[Evidence], names: Sequence[str], penalty: float = 1e-2) -> RefusalModel:
    """Return the log odds that the documents contain an answer, as trained on the dev half of ``sets``."""
    every = np.concatenate([matrix(own.rows, names)[own.dev] for own in sets])
    has_answer = np.concatenate([own.has_answer[own.dev] for own in sets])
    bonus = np.concatenate([own.bonus[own.dev] for own in sets])
    worth = np.concatenate([np.full(own.dev.sum(), 1 / own.dev.sum() / len(sets)) for own in sets])
    mean, spread = every.mean(axis=0), every.std(axis=0) + 1e-6
    scaled = np.c_[(every - mean) / spread, np.ones(len(every))]
    free = np.r_[np.ones(len(names)), 0.0]

    def gradient(weights: Any) -> Any:
        likely = 1 / (1 + np.exp(-scaled @ weights))
        return scaled.T @ (worth * (likely - has_answer)) + penalty * free * weights

    trained = _descend(gradient, len(names) + 1, 800)
    weights = trained[:-1] / spread
    constant = float(trained[-1] - mean @ weights)
    scores = every @ weights + constant
    absent = min(
        _quantile(scores + bonus, worth * (1 - has_answer), RIGHT_REFUSALS),
        _quantile(scores + bonus, worth * has_answer, FALSE_REFUSALS),
    )
    above = scores + bonus >= absent
    doubtful = _quantile(scores[above], worth[above], DOUBT_SHARE / worth[above].sum())
    return RefusalModel(weights, constant, absent, doubtful)


def _quantile(scores: Any, worth: Any, share: float) -> float:
    """Return the score below which lies ``share`` of the total ``worth``."""
    order = np.argsort(scores)
    total = np.cumsum(worth[order])
    return float(scores[order][np.searchsorted(total, share * total[-1])])


def refused(
    own: Evidence, names: Sequence[str], model: RefusalModel, *, dev: bool
) -> tuple[float, float, float]:
    """Return the shares of right refusals at `FALSE_REFUSALS`, and of right and false refusals at the line."""
    scores = (matrix(own.rows, names) @ model.weights + model.constant + own.bonus)[own.dev == dev]
    has_answer = own.has_answer[own.dev == dev] == 1
    at = float(np.quantile(scores[has_answer], FALSE_REFUSALS))
    return (
        float((scores[~has_answer] < at).mean()),
        float((scores[~has_answer] < model.absent).mean()),
        float((scores[has_answer] < model.absent).mean()),
    )


def _table(names: Sequence[str], weights: Any) -> str:
    return "{" + ", ".join(f'"{n}": {w:.3f}' for n, w in zip(names, weights, strict=True)) + "}"


class Trainer:
    """Examples and evidence of all sets."""

    def __init__(self, sets: Sequence[Collection], hits: Mapping[str, Hits], questions: int) -> None:
        vectors = Vectors()
        self.examples: dict[str, list[Example]] = {}
        self.evidence: dict[str, Evidence] = {}
        for data in sets:
            examples, rows, has_answer, dev = [], [], [], []
            for half in (0, 1):
                for question in sample(data.questions, questions):
                    own = material(question, hits[f"{data.name}-{half}"][question.id])
                    if not own.candidates:
                        continue
                    soft = own.soft(vectors.of(own.texts()))
                    rows.append(dict(own.of_passages(soft)))
                    has_answer.append(float(question.article % 2 == half))
                    dev.append(is_dev(question.article))
                    if question.article % 2 == half:
                        examples.append(example(question, own, soft))
            bonus = np.array([LEAD_BONUS_SCORE * stands_out(row) for row in rows])
            self.examples[data.name] = examples
            self.evidence[data.name] = Evidence(rows, np.array(has_answer), np.array(dev), bonus)

    def sentence_names(self) -> list[str]:
        return list(next(iter(self.examples.values()))[0].rows[0])

    def evidence_names(self, *, cjk: bool) -> list[str]:
        """Return the features of passages for questions in Chinese, or for others."""
        return list(next(iter(self.of_script(cjk=cjk).values())).rows[0])

    def of_script(self, *, cjk: bool) -> dict[str, Evidence]:
        """Return the evidence of the sets in Chinese, or of the others."""
        return {name: own for name, own in self.evidence.items() if ("chinese" in own.rows[0]) == cjk}

    def sentences(self, names: Sequence[str]) -> tuple[Any, dict[str, Sequence[float]]]:
        weights = rank_weights(list(self.examples.values()), names)
        return weights, {
            f"{name} {'dev' if dev else 'test'}": ranked(
                [item for item in own if item.dev == dev], names, weights
            )
            for name, own in self.examples.items()
            for dev in (True, False)
        }

    def sentences_apart(self, names: Sequence[str]) -> dict[str, Sequence[float]]:
        """Return the shares of each set with weights from the other families."""
        return {
            name: ranked(own, names, rank_weights(_apart(self.examples, name), names))
            for name, own in self.examples.items()
        }

    def refusals(self, names: Sequence[str], *, cjk: bool) -> tuple[RefusalModel, dict[str, Sequence[float]]]:
        sets = self.of_script(cjk=cjk)
        model = refusal_model(list(sets.values()), names)
        return model, {
            f"{name} {'dev' if dev else 'test'}": refused(own, names, model, dev=dev)
            for name, own in sets.items()
            for dev in (True, False)
        }

    def refusals_apart(self, names: Sequence[str], *, cjk: bool) -> dict[str, Sequence[float]]:
        """Return the shares of each set's test half with a model from the other families."""
        sets = self.of_script(cjk=cjk)
        return {
            name: refused(own, names, refusal_model(_apart(sets, name), names), dev=False)
            for name, own in sets.items()
        }


Part = TypeVar("Part")


def _apart(sets: Mapping[str, Part], name: str) -> list[Part]:
    """Return the sets of other families than the set ``name``. Raise `SystemExit` if there are none."""
    others = [own for other, own in sets.items() if _family(other) != _family(name)]
    if not others:
        raise SystemExit(f"{name}: --apart needs sets of another family; add them to --data")
    return others


def _family(name: str) -> str:
    return name.partition("-")[0]


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
        stored_questions: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        return stored_questions
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:

        def row(store: str, text: str, evidence: Sequence[str], *, has_answer: bool) -> dict[str, Any]:
            body = {"query": text, "max_num_results": SEARCH_RESULTS, "steps": "auto"}
            hits = call(f"{portico.url}/api/stores/{store}/search", body)["data"]
            rows = [(hit["filename"], hit["score"], hit["text"]) for hit in hits]
            return {"text": text, "evidence": list(evidence), "has_answer": has_answer, "hits": rows}

        for language in LANGUAGES:
            made = generate(language, "tuned", 1, TRAINED_CHAIN_COUNT, BROKEN_SHARE)
            make_store(portico.url, language, made.passages, Path(temporary) / language)
            found[language] = [
                row(language, item.text, item.evidence, has_answer=item.answerable) for item in made.questions
            ]
        for data in sets:
            make_store(portico.url, data.name, data.half(0), Path(temporary) / data.name)
            found[data.name] = [
                row(data.name, question.text, [question.document], has_answer=question.article % 2 == 0)
                for question in data.questions
                if is_dev(question.article)
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
        (chain, row["has_answer"] and sorted(own) == sorted(row["evidence"]))
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
        (
            matrix([chain.features for chain, _ in found], names),
            [right for _, right in found],
            has_answer,
            chained,
        )
        for part, chained in ((of_chains, True), (plain, False))
        for has_answer, found in part
        if found
    ]
    every = np.concatenate([rows for rows, *_ in used])
    mean, spread = every.mean(axis=0), every.std(axis=0) + 1e-6
    weights = np.zeros(len(names) + 1)
    free = np.r_[np.ones(len(names)), 0.0]
    for turn in range(6):
        rows, labels, worth = [], [], []
        for own, rights, has_answer, chained in used:
            scores = ((own - mean) / spread) @ weights[:-1] if turn else own[:, 0]
            if has_answer and not any(rights):
                continue
            rows.append(own[rights.index(True)] if has_answer else own[int(np.argmax(scores))])
            labels.append(float(has_answer))
            worth.append(
                (1.0 if chained else PLAIN_WEIGHT) if has_answer else BROKEN_WEIGHT if chained else 1.0
            )
        scaled = np.c_[(np.array(rows) - mean) / spread, np.ones(len(rows))]
        there, share = np.array(labels), np.array(worth)
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
            for has_answer, found in part
            if not has_answer
        ]
        return float(np.quantile(best, 1 - wrongly))

    doubtful = line(plain, WRONGLY_TOGETHER_SHARE, several=True)
    sure = max(doubtful, line(of_chains, WRONGLY_SURE_SHARE, several=True))
    return names, own, constant, [doubtful, sure, line(plain, WRONGLY_ALONE_SHARE, several=False)]


def print_chains(sets: Sequence[Collection], path: Path) -> None:
    """Train for both scripts, and print the weights."""
    vectors = Vectors()
    rows = {
        name: [(row["has_answer"], chains_of(row, vectors)) for row in own]
        for name, own in searched_chains(sets, path).items()
    }
    for script, language in (("", "en"), ("_CJK", "zh")):
        plain = [row for data in sets if data.name.endswith(language) for row in rows[data.name]]
        names, own, constant, (doubtful, sure, one) = train_chains(rows[language], plain)
        print(f"CHAIN{script} = {_table(names, own)}")
        print(f"CHAIN{script}_LINES = DecisionLines({constant:.3f}, {doubtful:.3f}, {sure:.3f})")
        print(f"CHAIN{script}_ONE_SCORE = {one:.3f}")


def main() -> None:
    """Train with and without vectors; print the weights and their shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--hits", type=Path, help="where the hits are kept between runs")
    parser.add_argument("--chains", type=Path, metavar="FILE", help="train chains, whose hits FILE keeps")
    parser.add_argument("--questions", type=int, default=2000, help="at most, for each set")
    parser.add_argument("--ablate", action="store_true", help="also print the shares without each feature")
    parser.add_argument("--apart", action="store_true", help="also train without each set and its family")
    options = parser.parse_args()
    sets = read_all(options.data)
    if options.chains:
        print_chains(sets, options.chains)
        return
    if not options.hits:
        parser.error("give --hits, or --chains")
    trainer = Trainer(sets, searched(sets, options.hits), options.questions)
    lines = []
    for title, is_used in (("", lambda name: True), ("_WITHOUT_VECTORS", _is_plain)):
        names = [name for name in trainer.sentence_names() if is_used(name)]
        weights, shares = trainer.sentences(names)
        lines.append(f"SENTENCE{title} = {_table(names, weights)}")
        print(f"# sentences{title} (one, two):", _shown(shares))
        if options.apart:
            print("#   apart:", _shown(trainer.sentences_apart(names)))
        for name in names if options.ablate else ():
            rest = [other for other in names if other != name]
            print(f"#   without {name}:", _shown(trainer.sentences(rest)[1]))
        for script, cjk in (("", False), ("_CJK", True)):
            names = [name for name in trainer.evidence_names(cjk=cjk) if is_used(name)]
            model, shares = trainer.refusals(names, cjk=cjk)
            numbers = f"{model.constant:.3f}, {model.absent:.3f}, {model.doubtful:.3f}"
            lines.append(f"EVIDENCE{script}{title} = {_table(names, model.weights)}")
            lines.append(f"EVIDENCE{script}{title}_LINES = DecisionLines({numbers})")
            print(
                f"# refusals{script}{title} (right at {FALSE_REFUSALS} false, right at the line, false at the line):",
                _shown(shares),
            )
            if options.apart:
                print("#   apart, test half:", _shown(trainer.refusals_apart(names, cjk=cjk)))
            for name in names if options.ablate else ():
                rest = [other for other in names if other != name]
                print(f"#   without {name}:", _shown(trainer.refusals(rest, cjk=cjk)[1]))
    print("\n".join(lines))


def _is_plain(name: str) -> bool:
    """Return whether a feature needs no vectors."""
    return not name.startswith(("soft", "cosine"))


def _shown(shares: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name} {'/'.join(f'{share:.3f}' for share in row)}" for name, row in shares.items())


if __name__ == "__main__":
    main()
