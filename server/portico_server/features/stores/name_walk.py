"""Follows chains of names that passages mention, by searching for each name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import islice

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import says
from portico_server.db.links import FILE, REFERENCE, LinkRow
from portico_server.features.stores.index.vector_engine import Ranking
from portico_server.features.stores.links.follow import (
    HITS_WEIGHT,
    MAX_HITS_ROWS,
    LinkGraph,
    best_chains,
    fuse_chains,
    reach,
    start,
)

MAX_READ_PASSAGES = 10
"""Number of first passages that are searched for the names of the question."""


MAX_FAR_HITS = 2
"""Maximum number of passages unrelated to the question that may contain a name. A term in more of them is not a
name.
"""


MAX_NAMED_TERMS = 8
"""Maximum number of terms of a question at which chains begin."""


MAX_STEP_PASSAGES = 8
"""Maximum number of passages from which a step begins."""


MAX_PASSAGE_TERMS, MAX_STEP_TERMS = 8, 24
"""Maximum number of terms searched per passage, and per step."""


MAX_TERM_HITS = 24
"""Maximum number of passages that a search for a term returns. A term that reaches this number is not followed."""


FRESH_WEIGHT = 0.6
"""Value added to a passage that mentions a name no other passage mentions: the passage may be the last hop of a
chain.
"""


@dataclass(slots=True)
class _WalkedPassage:
    """A passage: its text, folded for comparing words, and the names in the passage with their worth, best first."""

    text: str
    terms: dict[str, int]


@dataclass(slots=True)
class NameWalk:
    """A walk from the names in a question. ``texts`` contains the texts of known passages, and the caller adds texts
    during the walk.
    """

    question: str
    ranking: Ranking
    texts: Mapping[int, str]
    far: Sequence[int]
    graph: LinkGraph = field(default_factory=LinkGraph)
    texts_of_terms: dict[int, str] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _weights: dict[int, int] = field(default_factory=dict)
    _passages: dict[int, _WalkedPassage] = field(default_factory=dict)
    _stepped: set[int] = field(default_factory=set)

    def named_terms(self) -> list[str]:
        """Return the terms that occur both in the question and in its first passages."""
        from portico_server.features.readers.analyse import fold

        folded_question = fold(self.question)
        weights: dict[str, int] = {}
        for chunk, _ in self.ranking[:MAX_READ_PASSAGES]:
            if chunk in self.texts:
                passage_terms = self._passage(chunk).terms
                weights |= {
                    text: weight for text, weight in passage_terms.items() if says(folded_question, text)
                }
        best = sorted(weights, key=lambda text: (-weights[text], -len(text), text))[:MAX_NAMED_TERMS]
        for text in best:
            self._number(text, weights[text])
        return best

    def rows(self, names: Sequence[str], rankings: Sequence[Ranking]) -> dict[int, list[LinkRow]]:
        """Return, for each name, links to the passages that contain the name. A name that occurs everywhere has no
        links.
        """
        rows: dict[int, list[LinkRow]] = {}
        for name, ranking in zip(names, rankings, strict=True):
            term = self._numbers[name]
            chunk_ids = [
                chunk for chunk, _ in ranking if chunk in self.texts and says(self._passage(chunk).text, name)
            ]
            if chunk_ids and len(chunk_ids) < MAX_TERM_HITS:
                rows[term] = [LinkRow(term, chunk, 1, self._weights[term]) for chunk in chunk_ids]
        return rows

    def begin(self, link_rows: dict[int, list[LinkRow]]) -> None:
        """Start at the passages that contain names of the question, and at the best hits of the search."""
        start(self.graph, link_rows, {term: self.texts_of_terms[term] for term in link_rows})
        for chunk, score in self.ranking[:MAX_HITS_ROWS]:
            if chunk in self.texts:
                self.graph.reached.setdefault(chunk, HITS_WEIGHT * score)
        self.graph.steps.append(list(self.graph.reached))

    def next_terms(self) -> dict[int, float]:
        """Return new terms in the passages that the last step reached, with their worth, best first."""
        prior = dict(self.ranking)
        chunk_values = self.graph.reached
        fresh = [chunk for chunk in chunk_values if chunk not in self._stepped]
        fresh.sort(key=lambda chunk: (-chunk_values[chunk] * (1 + prior.get(chunk, 0.0)), chunk))
        worth: dict[int, float] = {}
        for chunk in fresh[:MAX_STEP_PASSAGES]:
            self._stepped.add(chunk)
            remaining_terms = MAX_PASSAGE_TERMS
            for text, weight in self._passage(chunk).terms.items():
                if remaining_terms and text not in self._numbers and not self._is_common(text):
                    remaining_terms -= 1
                    worth[self._number(text, weight)] = chunk_values[chunk]
        best = sorted(worth, key=lambda term: (-self._weights[term], -worth[term], term))
        return {term: worth[term] for term in best[:MAX_STEP_TERMS]}

    def _is_common(self, text: str) -> bool:
        """Return whether more than `MAX_FAR_HITS` passages unrelated to the question contain the text."""
        hits = (chunk for chunk in self.far if chunk in self.texts and says(self._passage(chunk).text, text))
        return next(islice(hits, MAX_FAR_HITS, None), None) is not None

    def go(self, link_rows: dict[int, list[LinkRow]], worth: Mapping[int, float]) -> None:
        """Take one step to the passages that contain the terms in ``worth``."""
        reach(self.graph, link_rows, worth)

    def chains(self) -> Ranking:
        """Return the passages, each scored by the best chain that contains it."""
        seen_counts: dict[str, int] = {}
        for passage in self._passages.values():
            for text, weight in passage.terms.items():
                if weight > 1:
                    seen_counts[text] = seen_counts.get(text, 0) + 1
        for chunk in self.graph.reached:
            walked_passage = self._passage(chunk)
            if any(
                weight > 1 and seen_counts[text] == 1 and not says(self.question_folded, text)
                for text, weight in walked_passage.terms.items()
            ):
                self.graph.extra[chunk] = FRESH_WEIGHT
        return best_chains(self.graph, self.ranking)

    @property
    def question_folded(self) -> str:
        from portico_server.features.readers.analyse import fold

        return fold(self.question)

    def fused(self, ranking: Ranking) -> Ranking:
        """Return ``ranking`` merged with the passages that chains reach."""
        return fuse_chains(ranking, self.chains())

    def _number(self, text: str, weight: int) -> int:
        number = self._numbers.setdefault(text, len(self._numbers) + 1)
        self.texts_of_terms[number] = text
        self._weights[number] = weight
        return number

    def _passage(self, chunk: int) -> _WalkedPassage:
        walked_passage = self._passages.get(chunk)
        if walked_passage is None:
            from portico_server.features.readers.analyse import fold

            text = self.texts[chunk]
            walked_passage = self._passages[chunk] = _WalkedPassage(fold(text), names_in(text))
        return walked_passage


def names_in(text: str) -> dict[str, int]:
    """Return the names that a passage mentions, folded, each with its worth, best first."""
    from portico_server.features.stores.links.rules import LinkSource, short_names, terms

    weights = {
        term.text: term.weight for term in terms(LinkSource(text)) if term.kind not in (REFERENCE, FILE)
    }
    for name in short_names(weights):
        weights.setdefault(name, 1)
    return weights
