"""Sentences that only together answer a question: each sentence contains a name from the previous sentence."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import says
from portico_server.features.answers.material import Material, SoftMatch, context_of
from portico_server.features.answers.terms import fold

MAX_CHAIN_PASSAGES = 8
"""Number of passages in which the sentences of a chain are searched for."""

MAX_CHAIN_SENTENCES = 4
"""Maximum number of sentences in a chain: one per hop."""

MAX_CHAINS = 2_000
"""Maximum number of chains that are compared."""

COMMON_SHARE, MIN_COMMON_PASSAGES = 0.5, 2
"""A name does not link sentences if it occurs in more than this share of the passages and in more than this number of
passages.
"""

MIN_STRONG_COSINE = 0.55
"""Minimum cosine at which two words count as the same."""


@dataclass(frozen=True, slots=True)
class SentenceChain:
    """A chain of candidates, given by their numbers. The first candidate contains a name from the question.
    ``features``: see `weights.CHAIN`.
    """

    candidates: tuple[int, ...]
    features: Mapping[str, float]


def sentence_chains(
    material: Material, names: Sequence[Sequence[str]], soft: SoftMatch
) -> list[SentenceChain]:
    """Return the chains of sentences in ``material``, shortest first. ``names`` are the folded names in each
    passage.
    """
    graph = _ChainGraph(material, names)
    if not graph.asked or not graph.relation:
        return []
    return [SentenceChain(path, graph.features(path, soft)) for path in graph.paths()]


class _ChainGraph:
    """The names in the sentences of passages. ``relation`` are the numbers of the question's words that are not part
    of a name.
    """

    def __init__(self, material: Material, names: Sequence[Sequence[str]]) -> None:
        question = fold(material.question)
        counts = Counter(name for own_value in names for name in set(own_value))
        asked_names = {name for name in counts if says(question, name)}
        self.asked = {
            name
            for name in asked_names
            if not any(name != other_name and name in other_name for other_name in asked_names)
        }
        self.relation = [
            number
            for number, word in enumerate(material.question_words)
            if not any(word in name for name in self.asked)
        ]
        max_passages = max(COMMON_SHARE * len(names), MIN_COMMON_PASSAGES)
        self._material = material
        self._names: list[frozenset[str]] = []
        for candidate in material.candidates:
            passage = material.passages[candidate.passage]
            text = f"{fold(context_of(passage))}\n{candidate.folded}"
            passage_names = names[candidate.passage]
            self._names.append(
                frozenset(name for name in passage_names if counts[name] <= max_passages and says(text, name))
            )

    def paths(self) -> list[tuple[int, ...]]:
        """Return paths of candidates. Each candidate contains a name from the previous candidate, the first candidate
        a name from the question.
        """
        candidates = [
            number
            for number, candidate in enumerate(self._material.candidates)
            if candidate.passage < MAX_CHAIN_PASSAGES
        ]
        chains: list[tuple[int, ...]] = []
        pending: deque[tuple[int, ...]] = deque((number,) for number in candidates if self._begins(number))
        while pending and len(chains) < MAX_CHAINS:
            path = pending.popleft()
            chains.append(path)
            if len(path) == MAX_CHAIN_SENTENCES:
                continue
            used_passages = {self._material.candidates[number].passage for number in path}
            leads = self._new(path)
            for number in candidates:
                if (
                    self._material.candidates[number].passage not in used_passages
                    and leads & self._names[number]
                ):
                    pending.append((*path, number))
        return chains

    def _begins(self, number: int) -> bool:
        text = self._material.candidates[number].folded
        return bool(self._names[number] & self.asked) or any(says(text, name) for name in self.asked)

    def _new(self, path: Sequence[int]) -> frozenset[str]:
        """Return the names in the last sentence of a path that occur neither in the question nor in an earlier
        sentence.
        """
        before = self.asked.union(*(self._names[number] for number in path[:-1]))
        return frozenset(
            name
            for name in self._names[path[-1]] - before
            if not any(name in other_name for other_name in self.asked)
        )

    def features(self, path: Sequence[int], soft: SoftMatch) -> Mapping[str, float]:
        """Return the features of a path: how much of the question it covers, with which of its sentences, and whether
        its last sentence contains a new name.
        """
        import numpy as np

        column = soft.aligned[:, self.relation]
        path_values = column[list(path)]
        coverage = path_values.max(axis=0)
        usual = np.sort(column, axis=0)[len(column) // 2]
        rare = soft.weights[self.relation]
        quote_candidates = [self._material.candidates[number] for number in path]
        before = "\n".join(candidate.folded for candidate in quote_candidates[:-1])
        fresh = [
            name
            for name in self._new(path)
            if says(quote_candidates[-1].folded, name) and not says(before, name)
        ]
        asked_count = sum(
            any(says(candidate.folded, name) for candidate in quote_candidates) for name in self.asked
        )
        words_of_hop = math.log(len(self.relation) / len(path))
        return {
            "cover": float(coverage.mean()),
            "cover_rare": float(coverage @ rare / (rare.sum() + 1e-9)),
            "strong": float((coverage > MIN_STRONG_COSINE).mean()),
            "more": float((coverage - usual).mean()),
            "hop_low": float(path_values.max(axis=1).min()),
            "last": float(path_values[-1].max()),
            "cosine": float(soft.cosine[list(path)].mean()),
            "fresh": float(bool(fresh)),
            "type": float(self._material.holds(quote_candidates[-1].text)),
            "asked": asked_count / len(self.asked),
            "one": float(len(path) == 1),
            "words_of_hop": words_of_hop,
            "words_square": words_of_hop**2,
            "least": float(coverage.min()),
        }
