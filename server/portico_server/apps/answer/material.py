"""A question and its passages as numbers: what each quotable unit, and the passages together, have to do with it.

Features are named; their weights stand in `portico_server.apps.answer.weights`. Words are weighted by their rarity
among the passages of the search. With vectors of words and sentences from a static model, words are also aligned
softly: each word of the question with the nearest word of a unit.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico.wire import Passage
from portico_server.apps.answer import expects
from portico_server.apps.answer.terms import characters, fold, has_cjk, stems, words
from portico_server.apps.answer.units import Unit, units

QUOTED_PASSAGES = 4
"""Passages of which units are taken; those behind them only tell how rare words are."""

MAX_UNITS = 80
MAX_UNIT_CHARACTERS = 1_200
MAX_QUESTION_TERMS = 64
"""Units, their characters and terms of the question that are compared; more say nothing new."""

CODE_SHARE = 0.08
"""Marks of code in each character from which a text is code."""

KNOWN_PASSAGES = 16
"""Passages over which the rarity of a word is told at least: of a store with fewer, the others lack every word."""

EARLIER = 0.5
"""What a word counts that only the question before has."""

_CODE_FILES = re.compile(
    r"\.(?:py|js|ts|c|h|cpp|cc|go|rs|java|rb|sh|json|ya?ml|toml|ini|css|sql)$", re.IGNORECASE
)
_QUOTED_CODE = re.compile(r"`[^`\n]+`|https?://\S+|\|")
_CODE_MARKS = re.compile(r"[(){}\[\]=_;<>]|\w\.\w|\"")
_SAID_QUESTION = re.compile(r"[?？][\"'”’]")
_NAME = re.compile(r"(?<=\s)[A-Z][\w’'-]+|\d[\d,.]*")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit of a passage. ``passage`` and ``place`` count from 0: which of the passages, which of its units."""

    passage: int
    place: int
    unit: Unit
    text: str
    words: tuple[str, ...]
    terms: frozenset[str]


class Material:
    """``passages`` in their order; the first `QUOTED_PASSAGES` give the candidates.

    ``earlier`` is the question that this one follows up, whose words count half.
    """

    def __init__(self, question: str, passages: Sequence[Passage], earlier: str = "") -> None:
        self.question = question
        self.passages = passages
        folded = fold(f"{question}\n{earlier}")
        self.asked_words = list(dict.fromkeys(words(folded)))[:MAX_QUESTION_TERMS]
        in_order = stems(self.asked_words)
        self.asked = list(dict.fromkeys(in_order))
        self.characters = characters(folded)
        self.kind = expects.kind(question)
        self._holds = expects.holds(self.kind, question)
        self.candidates = self._candidates()
        self._context = [
            frozenset(stems(words(fold(" ".join((*passage.place.heading, _stem_of(passage.filename)))))))
            for passage in passages[:QUOTED_PASSAGES]
        ]
        everywhere = [frozenset(stems(words(fold(passage.text)))) for passage in passages]
        counts = Counter(term for found in everywhere for term in found)
        self._everywhere = everywhere
        now = frozenset(stems(words(fold(question)))) if earlier else frozenset(self.asked)
        self.rarity = {
            term: _rarity(counts[term], max(len(passages), KNOWN_PASSAGES))
            * (1.0 if term in now else EARLIER)
            for term in self.asked
        }

    def _candidates(self) -> list[Candidate]:
        found: list[Candidate] = []
        seen: set[str] = set()
        for number, passage in enumerate(self.passages[:QUOTED_PASSAGES]):
            parts = units(passage.text, code=_is_code(passage), headings=passage.place.heading)
            for place, unit in enumerate(parts):
                text = passage.text[unit.start : unit.end]
                if text in seen or len(found) == MAX_UNITS:
                    continue
                seen.add(text)
                compared = words(fold(text[:MAX_UNIT_CHARACTERS]))
                found.append(
                    Candidate(number, place, unit, text, tuple(compared), frozenset(stems(compared)))
                )
        return found

    def is_echo(self, candidate: Candidate) -> bool:
        """Whether a candidate is a question, or holds the very words of the question."""
        asked = self.question.strip().rstrip("?？ ").casefold()
        text = candidate.text.casefold()
        if text.endswith(("?", "？")) or (len(asked) > 8 and asked in text):
            return True
        return candidate.unit.kind == "code" and _SAID_QUESTION.search(text) is not None

    def is_bare_code(self, candidate: Candidate) -> bool:
        """Whether a candidate is code without a sentence that introduces it, also where its fence was cut off."""
        text = candidate.text.lstrip()
        if _is_code(self.passages[candidate.passage]) or text.startswith(("```", "~~~")):
            return True
        prose = _QUOTED_CODE.sub("", text)
        return len(_CODE_MARKS.findall(prose)) > CODE_SHARE * len(text)

    def texts(self) -> tuple[str, ...]:
        """What vectors are wanted of: the question, each candidate, then each word (`vocabulary`)."""
        said = (candidate.text[:MAX_UNIT_CHARACTERS] for candidate in self.candidates)
        return (self.question, *said, *self.vocabulary())

    def vocabulary(self) -> list[str]:
        """The words of the question and of the candidates, each once."""
        return list(dict.fromkeys((*self.asked_words, *(w for c in self.candidates for w in c.words))))

    def soft(self, vectors: Any) -> Soft:
        """Likeness from ``vectors``: a matrix with a row of any length for each of `texts`."""
        import numpy as np

        matrix = np.asarray(vectors, dtype=np.float32)
        matrix = matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-9)
        count = len(self.candidates)
        place = {word: number for number, word in enumerate(self.vocabulary(), count + 1)}
        asked = matrix[[place[word] for word in self.asked_words]]
        aligned = np.zeros((count, max(len(self.asked_words), 1)), dtype=np.float32)
        for number, candidate in enumerate(self.candidates):
            own = [place[word] for word in dict.fromkeys(candidate.words)]
            if own and len(asked):
                aligned[number] = (asked @ matrix[own].T).max(axis=1)
        weights = np.array([self.rarity[term] for term in stems(self.asked_words)] or [1.0], dtype=np.float32)
        return Soft(matrix[1 : count + 1] @ matrix[0], aligned, weights / (weights.sum() + 1e-9))

    # --- features -----------------------------------------------------------------------------------------

    def of_candidates(self, soft: Soft | None) -> list[Mapping[str, float]]:
        """The features of each candidate."""
        local = Counter(term for candidate in self.candidates for term in candidate.terms)
        near = {term: _rarity(local[term], len(self.candidates)) for term in self.asked}
        both = {term: near[term] * self.rarity[term] for term in self.asked}
        return [
            self._of(number, candidate, near, both, soft) for number, candidate in enumerate(self.candidates)
        ]

    def _of(
        self,
        number: int,
        candidate: Candidate,
        near: Mapping[str, float],
        both: Mapping[str, float],
        soft: Soft | None,
    ) -> Mapping[str, float]:
        own = candidate.terms
        passage = self.passages[candidate.passage]
        before = self._neighbour(number, -1)
        after = self._neighbour(number, 1)
        if candidate.unit.lead is not None:
            start, end = candidate.unit.lead
            before |= frozenset(stems(words(fold(passage.text[start:end]))))
        above = self._above(number)
        right = self._holds(candidate.text)
        features = {
            "cov": _share(self.rarity, own),
            "near": _share(near, own),
            "both": _share(both, own),
            "prev": _share(self.rarity, before),
            "union": _share(self.rarity, before - own),
            "above": _share(self.rarity, above - own),
            "after": _share(self.rarity, after - own),
            "passage": _share(self.rarity, self._everywhere[candidate.passage]),
            "score": passage.score,
            "chars": len(self.characters & characters(fold(candidate.text))) / (len(self.characters) + 1),
            "run": _longest_run(self.asked_words, candidate.words) / (len(self.asked_words) + 1),
            "length": math.log(len(candidate.text) * (2.2 if has_cjk(candidate.text) else 1.0)),
            "new": math.log1p(sum(term not in self.rarity for term in own)),
            "last": float(bool(self.asked) and self.asked[-1] in own),
            "first": float(bool(self.asked) and self.asked[0] in own),
            "type": float(right),
        }
        for kind in ("count", "date", "person", "place"):
            features[f"type_{kind}"] = float(right and self.kind == kind)
        if soft is not None:
            row = soft.aligned[number]
            features["soft"] = float(row @ soft.weights)
            features["soft_plain"] = float(row.mean())
            features["soft_more"] = float((row - soft.aligned.mean(axis=0)) @ soft.weights)
            features["cosine"] = float(soft.cosine[number])
        return features

    def of_passages(self, soft: Soft | None) -> Mapping[str, float]:
        """The features by which an answer is in the passages, or is not."""
        count = min(len(self.passages), QUOTED_PASSAGES)
        held = [self._everywhere[number] | self._context[number] for number in range(count)]
        named = frozenset(stems([word.lower() for word in _NAME.findall(self.question)]))
        scores = [passage.score for passage in self.passages]
        shares = [_share(self.rarity, found) for found in held]
        pairs = [_share(self.rarity, c.terms | self._neighbour(n, -1)) for n, c in enumerate(self.candidates)]
        plain = [sum(term in found for term in self.asked) / max(len(self.asked), 1) for found in held]
        features = {
            "passage": max(shares, default=0.0),
            "plain": max(plain, default=0.0),
            "unit": max((_share(self.rarity, c.terms) for c in self.candidates), default=0.0),
            "pair": max(pairs, default=0.0),
            "all": _share(self.rarity, frozenset[str]().union(*self._everywhere)),
            "missing": math.log1p(min((len(set(self.asked) - found) for found in held), default=0)),
            "named": max((len(named & found) for found in held), default=0) / len(named) if named else 0.7,
            "gap": scores[0] - (scores[1] if len(scores) > 1 else 0.0) if scores else 0.0,
            "gap_5": scores[0] - (scores[4] if len(scores) > 4 else 0.0) if scores else 0.0,
            "terms": math.log(max(len(self.asked), 1)),
            "type": float(any(self._holds(candidate.text) for candidate in self.candidates)),
            "cjk": float(has_cjk(self.question)),
        }
        if soft is not None and self.candidates:
            import numpy as np

            of = np.array([candidate.passage for candidate in self.candidates])
            best = [soft.aligned[of == number].max(axis=0) for number in range(count) if (of == number).any()]
            features["soft"] = max(float(row @ soft.weights) for row in best)
            features["soft_plain"] = max(float(row.mean()) for row in best)
            features["cosine"] = float(soft.cosine.max())
        return features

    def _neighbour(self, number: int, step: int) -> frozenset[str]:
        """The terms of the candidate before or behind one in its passage."""
        other = number + step
        if 0 <= other < len(self.candidates):
            found = self.candidates[other]
            if found.passage == self.candidates[number].passage:
                return found.terms
        return frozenset()

    def _above(self, number: int) -> frozenset[str]:
        """The terms of all that stands before a candidate in its passage, of its headings and its file's name."""
        candidate = self.candidates[number]
        found = set(self._context[candidate.passage])
        for other in reversed(self.candidates[:number]):
            if other.passage != candidate.passage:
                break
            found |= other.terms
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Soft:
    """NumPy arrays: ``cosine`` of each candidate with the question; ``aligned``, for each candidate and each word of
    the question the cosine of the nearest word; ``weights`` of these words, which add up to 1.
    """

    cosine: Any
    aligned: Any
    weights: Any

    @property
    def nearest(self) -> float:
        """How near the words of the question are to those of the nearest candidate."""
        return float((self.aligned @ self.weights).max()) if len(self.aligned) else 0.0


def _is_code(passage: Passage) -> bool:
    """Whether a passage is source code or data as a whole."""
    return passage.place.symbol is not None or _CODE_FILES.search(passage.filename) is not None


def _share(weights: Mapping[str, float], terms: frozenset[str]) -> float:
    """The part of the question's weight that ``terms`` hold."""
    return sum(weight for term, weight in weights.items() if term in terms) / (sum(weights.values()) + 0.5)


def _longest_run(asked: Sequence[str], said: Sequence[str]) -> int:
    """The most neighbouring words of the question that stand as neighbours."""
    best = 0
    before = [0] * (len(asked) + 1)
    known = set(asked)
    for word in said:
        if word not in known:
            before = [0] * (len(asked) + 1)
            continue
        now = [0] + [before[i] + 1 if word == other else 0 for i, other in enumerate(asked)]
        best = max(best, *now)
        before = now
    return best


def _rarity(holders: int, count: int) -> float:
    return math.log(1 + (count - holders + 0.5) / (holders + 0.5))


def _stem_of(filename: str) -> str:
    return re.sub(r"[/._-]+", " ", filename.rsplit(".", 1)[0])
