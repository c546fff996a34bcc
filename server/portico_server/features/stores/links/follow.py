"""Follows the links of a store for a search: from the terms of the question to the passages that mention them, and
from there to further passages.

The score of a passage is that of the best chain that contains the passage. In a chain, each passage mentions a term of
the previous passage, and the first passage mentions a term of the question. Evidence for a multi-hop question
therefore ranks together, ahead of passages that only mention the same terms. Personalised PageRank over the same
graph, which HippoRAG 2 (Gutiérrez et al. 2025) uses, found less in a first comparison, because its scores weaken with
each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any

from portico_server.core.dataclass import dataclass
from portico_server.db import chunks, links
from portico_server.db.links import LinkRow
from portico_server.features.stores.fusion import best_first
from portico_server.features.stores.index.vector_engine import Ranking

if TYPE_CHECKING:
    from portico_server.features.stores.links.phrases import Passages, SharedPhrases, Token

MAX_TOKEN_PASSAGES = 100
"""Maximum number of passages that contain a word or a pair of characters of a phrase. More frequent tokens are
ignored.
"""

MAX_HOPS_NUMBER = 4
"""Maximum number of passages in a chain."""

MAX_FRONTIER_ROWS = 32
"""Maximum number of passages from which a step starts."""

MAX_PHRASE_ROWS = 8
"""Maximum number of passages of a step whose phrases are looked up in the lexical index."""

MAX_STEP_ROWS = 96
"""Maximum number of new passages reached in a step."""

MAX_START_ROWS = 200
"""Maximum number of passages, each mentioning a term of the question, from which chains start."""

MAX_HITS_ROWS = 3
"""Number of best hits of the search from which chains also start."""

HITS_WEIGHT = 0.3
"""Weight of the best hit as the start of a chain, relative to a passage that mentions the best term of the question."""

HALF_WORTH_COUNT = 20
"""Number of passages that halve the worth of a term: a term mentioned by so many passages is worth half as much as a
rare term.
"""

WEAK_WEIGHT = 0.6
"""Worth of a term that may be a name; a definite name has the worth 1."""

PART_WEIGHT = 0.5
"""Factor for the worth of a name in the question that is part of a longer name in the question."""

PASSAGE_WEIGHT = 1.5
"""Value that each passage adds to a chain, in addition to the passage's own search score."""

LINKS_WEIGHT = 0.85
"""Weight of the chains in the final score; the search score has the remaining weight."""


@dataclass(slots=True)
class LinkGraph:
    """The part of a store's link graph that a walk has read."""

    terms: dict[int, list[LinkRow]] = field(default_factory=dict)
    """Links by term."""
    of: dict[int, list[LinkRow]] = field(default_factory=dict)
    """Links by passage."""
    named: dict[int, float] = field(default_factory=dict)
    """Terms of the question, by lookup key, with their worth. The most significant term has the worth 1."""
    reached: dict[int, float] = field(default_factory=dict)
    """Reached passages, each with the certainty, from 0 to 1, that the passage is relevant."""
    steps: list[list[int]] = field(default_factory=list)
    """The passages that each step has reached for the first time. Item 0 contains the start passages."""
    extra: dict[int, float] = field(default_factory=dict)
    """Values that certain passages add to a chain, in addition to `PASSAGE_WEIGHT` and the search score."""

    def add(self, term: int, rows: Sequence[LinkRow]) -> None:
        self.terms[term] = list(rows)
        for row in rows:
            self.of.setdefault(row.chunk_id, []).append(row)


def term_worth(passages: int) -> float:
    """Return the worth of a term mentioned by ``passages`` passages, from 0 to 1."""
    return 1 / (1 + (passages / HALF_WORTH_COUNT) ** 2)


def _link_worth(row: LinkRow) -> float:
    return WEAK_WEIGHT if row.weight < links.NAME_WEIGHT else 1.0


def read_graph(
    connection: Any,
    question_text: str,
    question: Mapping[int, str],
    ranking: Ranking,
    files: AbstractSet[str] | None,
    phrases: SharedPhrases,
) -> LinkGraph:
    """Return the graph around the terms of the question (``question`` maps lookup keys to texts), its phrases, and the
    best hits of ``ranking``. With ``files``, only their passages are included.
    """
    graph = LinkGraph()
    prior = dict(ranking)
    name_rows = _naming(connection, list(question), files)
    phrase_texts, phrase_rows = phrases.of_question(question_text)
    certain_rows = _certain_phrases(phrase_rows, phrase_texts, [question[term] for term in name_rows])
    start(graph, {**certain_rows, **name_rows}, {**phrase_texts, **question})
    for chunk, score in ranking[:MAX_HITS_ROWS]:
        graph.reached.setdefault(chunk, HITS_WEIGHT * score)
    graph.steps.append(list(graph.reached))
    seen_terms = set(question)
    visited_chunks: set[int] = set()
    while len(graph.steps) < MAX_HOPS_NUMBER:
        fresh = (chunk for chunk in graph.reached if chunk not in visited_chunks)
        frontier = sorted(
            fresh, key=lambda chunk: (-graph.reached[chunk] * (1 + prior.get(chunk, 0.0)), chunk)
        )
        frontier = frontier[:MAX_FRONTIER_ROWS]
        if not frontier:
            break
        visited_chunks.update(frontier)
        worth: dict[int, float] = {}
        sources: dict[int, list[int]] = {}
        for row in links.of_chunks(connection, frontier):
            if row.term not in seen_terms:
                surely = graph.reached[row.chunk_id] * _link_worth(row)
                worth[row.term] = max(worth.get(row.term, 0.0), surely)
                sources.setdefault(row.term, []).append(row.chunk_id)
        link_rows = {
            term: [
                row
                for row in rows
                if row.chunk_id in sources[term]
                or any(row.chunk_id not in phrases.parallels(chunk) for chunk in sources[term])
            ]
            for term, rows in _naming(connection, list(worth), files).items()
        }
        for term, rows in phrases.of_passages(frontier[:MAX_PHRASE_ROWS]).items():
            if term not in seen_terms and term not in link_rows:
                link_rows[term] = rows
                worth[term] = max(graph.reached.get(row.chunk_id, 0.0) * _link_worth(row) for row in rows)
        seen_terms.update(worth)
        reach(graph, link_rows, worth)
    return graph


def _certain_phrases(
    phrase_rows: Mapping[int, list[LinkRow]], texts: Mapping[int, str], names: Sequence[str]
) -> Mapping[int, list[LinkRow]]:
    """Return the phrases of a question that may be names: those around or in one of ``names``, otherwise those of
    several words, otherwise all.
    """
    if names:
        chosen_terms = {
            term for term in phrase_rows if any(name in texts[term] or texts[term] in name for name in names)
        }
    else:
        chosen_terms = {
            term for term, rows in phrase_rows.items() if rows[0].weight >= links.NAME_WEIGHT
        } or set(phrase_rows)
    return {term: phrase_rows[term] for term in chosen_terms}


def _naming(
    connection: Any, terms: Sequence[int], files: AbstractSet[str] | None
) -> dict[int, list[LinkRow]]:
    """Return the links of those of the given terms that are certainly names and can connect passages, by term. With
    ``files``, only links of their passages are returned.
    """
    link_rows: dict[int, list[LinkRow]] = {}
    if terms:
        for row in links.naming(connection, terms, with_files=files is not None):
            if files is None or row.file_id in files:
                link_rows.setdefault(row.term, []).append(row)
    # A word that is certainly a name in one passage is a name in all, also at the beginning of a sentence. A term
    # that is nowhere certain is left to `SharedPhrases`, which knows how rare it is.
    return {
        term: [row._replace(weight=weight) for row in rows]
        for term, rows in link_rows.items()
        if (weight := max(row.weight for row in rows)) >= links.NAME_WEIGHT
    }


def start(graph: LinkGraph, link_rows: Mapping[int, list[LinkRow]], question: Mapping[int, str]) -> None:
    """Start at the passages that mention terms of the question. Rare terms, and terms that are not part of another
    term, count most.
    """
    texts = {term: question[term] for term in link_rows}
    for term, rows in link_rows.items():
        text = texts[term]
        part = any(text in other_text and text != other_text for other_text in texts.values())
        graph.named[term] = term_worth(len(rows)) ** 1.5 * (PART_WEIGHT if part else 1.0)
    best = max(graph.named.values(), default=1.0)
    for term in sorted(graph.named, key=lambda term: (-graph.named[term], term)):
        graph.named[term] /= best
        if len(graph.reached) + len(link_rows[term]) > MAX_START_ROWS and graph.reached:
            del graph.named[term]
            continue
        graph.add(term, link_rows[term])
        for row in link_rows[term]:
            graph.reached[row.chunk_id] = max(graph.reached.get(row.chunk_id, 0.0), graph.named[term])


def reach(graph: LinkGraph, link_rows: Mapping[int, list[LinkRow]], worth: Mapping[int, float]) -> None:
    """Reach the passages that mention terms of the previous step's passages. The most valuable terms come first, until
    `MAX_STEP_ROWS` passages are reached.
    """
    values = {term: worth[term] * term_worth(len(rows)) for term, rows in link_rows.items() if len(rows) > 1}
    chunk_values: dict[int, float] = {}
    for term in sorted(values, key=lambda term: (-values[term], term)):
        rows = link_rows[term]
        new = [row for row in rows if row.chunk_id not in graph.reached and row.chunk_id not in chunk_values]
        if len(chunk_values) + len(new) > MAX_STEP_ROWS:
            continue
        graph.add(term, rows)
        for row in rows:
            if row.chunk_id not in graph.reached:
                surely = values[term] * _link_worth(row)
                chunk_values[row.chunk_id] = max(chunk_values.get(row.chunk_id, 0.0), surely)
    graph.reached |= chunk_values
    graph.steps.append(list(chunk_values))


def best_chains(graph: LinkGraph, ranking: Ranking) -> list[tuple[int, float]]:
    """Return passages, each with the value of the best chain that contains it, scaled to a maximum of 1, best first.

    The value of a chain is the sum of the values of its passages, reduced at each step by the worth of the terms that
    connect the passages.
    """
    prior = dict(ranking)
    adds = {
        chunk: PASSAGE_WEIGHT + prior.get(chunk, 0.0) + graph.extra.get(chunk, 0.0) for chunk in graph.reached
    }
    worth = {term: term_worth(len(rows)) for term, rows in graph.terms.items()}
    behind: dict[int, float] = {}  # for each passage, the best value of a chain that begins with the passage
    # For each term, the best value of a chain that begins with a passage of the next step that mentions the
    # term.
    follows: dict[int, float] = {}
    for step in reversed(graph.steps):
        chain_values: dict[int, float] = {}
        for chunk in step:
            following_value = 0.0
            for row in graph.of.get(chunk, ()):
                following_value = max(
                    following_value, follows.get(row.term, 0.0) * worth[row.term] * _link_worth(row)
                )
            value = behind[chunk] = adds[chunk] + following_value
            for row in graph.of.get(chunk, ()):
                chain_values[row.term] = max(chain_values.get(row.term, 0.0), value * _link_worth(row))
        follows = chain_values
    totals: dict[int, float] = {}
    leads: dict[
        int, tuple[float, float]
    ] = {}  # for each term, the certainty and the sum of the best chain that leads to the term
    for number, step in enumerate(graph.steps):
        next_leads: dict[int, tuple[float, float]] = {}
        for chunk in step:
            surely, before = 0.0, 0.0
            if number == 0:
                surely = max(
                    (graph.named.get(row.term, 0.0) for row in graph.of.get(chunk, ())), default=0.0
                ) or (HITS_WEIGHT * prior.get(chunk, 0.0))
            for row in graph.of.get(chunk, ()) if number else ():
                lead_value, total = leads.get(row.term, (0.0, 0.0))
                lead_value *= worth[row.term] * _link_worth(row)
                if lead_value * (total + behind[chunk]) > surely * (before + behind[chunk]):
                    surely, before = lead_value, total
            totals[chunk] = surely * (before + behind[chunk])
            before += adds[chunk]
            for row in graph.of.get(chunk, ()):
                on = surely * _link_worth(row)
                known_lead = next_leads.get(row.term, (0.0, 0.0))
                if on * (before + 1) > known_lead[0] * (known_lead[1] + 1):
                    next_leads[row.term] = (on, before)
        leads = next_leads
    best = max(totals.values(), default=0.0)
    return best_first({chunk: total / best for chunk, total in totals.items() if total > 0}) if best else []


def fuse_chains(ranking: Ranking, chains: Ranking, weight: float = LINKS_WEIGHT) -> list[tuple[int, float]]:
    """Merge the search scores with the scores of the chains into one list with scores in [0, 1]. The highest score
    stays as it was.
    """
    if not chains:
        return list(ranking)
    scores = {chunk: (1 - weight) * score for chunk, score in ranking}
    for chunk, share in chains:
        scores[chunk] = scores.get(chunk, 0.0) + weight * share
    scale = max((score for _, score in ranking), default=1.0) / max(scores.values())
    return best_first({chunk: min(1.0, score * scale) for chunk, score in scores.items()})


def follow_links(
    connection: Any,
    store_id: str,
    question: str,
    ranking: Ranking,
    files: Sequence[str] | None,
    postings: Callable[[Sequence[Token], int, Sequence[str] | None], Sequence[Passages]],
) -> tuple[list[tuple[int, float]], str]:
    """Return ``ranking`` merged with the passages that chains reach, and a note for the trace. Called through
    `Database.read`.
    """
    from portico_server.features.stores.links.phrases import SharedPhrases
    from portico_server.features.stores.links.rules import question_terms

    phrases = SharedPhrases(
        store_id,
        lambda tokens: postings(tokens, MAX_TOKEN_PASSAGES, files),
        partial(chunks.texts, connection),
    )
    among = None if files is None else frozenset(files)
    graph = read_graph(connection, question, question_terms(question, store_id), ranking, among, phrases)
    note = (
        f"{len(graph.named)} terms of the question, {len(graph.terms)} terms in total, {len(graph.reached)} "
        "passages"
    )
    return fuse_chains(ranking, best_chains(graph, ranking)), note
