"""A search's walk over the links of its store: from what the question names to what those passages name, and so on.

A passage counts by the best chain on which it lies: passages of which each names something that the one before it
names, the first one something of the question. So all evidence of a question of several hops stands together, and what
only says something else of the same thing stands behind it. Personalised PageRank over the same part of the graph,
which HippoRAG 2 (Gutiérrez et al. 2025) ranks by, found less in a first comparison: it thins out with each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.db import links
from portico_server.db.links import LinkRow
from portico_server.knowledge.fusion import best_first
from portico_server.knowledge.index.handle import Ranking

MAX_HOPS_NUMBER = 4
"""Passages of a chain."""

MAX_FRONTIER_ROWS = 32
"""Passages from which one step begins."""

MAX_STEP_ROWS = 96
"""Further passages that one step reaches."""

MAX_START_ROWS = 200
"""Passages that name something of the question."""

MAX_HITS_ROWS = 3
"""Best passages of the search itself at which chains begin too …"""

HITS_WEIGHT = 0.3
"""… and what the best of them counts beside one that names what the question does."""

HALF_WORTH_COUNT = 20
"""Passages that name a term of half the worth of one that only two passages name."""

WEAK_WEIGHT = 0.6
"""Worth of a term that may be a name, where one that is counts 1."""

PART_WEIGHT = 0.5
"""Worth of a name in the question that is a part of a longer one there."""

PASSAGE_WEIGHT = 1.5
"""What a passage adds to a chain, where the search's own score of it adds as much as it is."""

LINKS_WEIGHT = 0.85
"""Of the chains in the score; the rest is the search's own."""


@dataclass(slots=True)
class LinkGraph:
    """The part of a store's graph that a walk has read."""

    terms: dict[int, list[LinkRow]] = field(default_factory=dict)
    """Links by term."""
    of: dict[int, list[LinkRow]] = field(default_factory=dict)
    """The same by passage."""
    named: dict[int, float] = field(default_factory=dict)
    """Terms of the question, with the worth of each; the most telling one 1."""
    reached: dict[int, float] = field(default_factory=dict)
    """Passages with how surely they are reached, from 0 to 1."""
    steps: list[list[int]] = field(default_factory=list)
    """The same by the number of steps, from 0."""
    extra: dict[int, float] = field(default_factory=dict)
    """What a passage adds to a chain beyond what each does."""

    def add(self, term: int, rows: Sequence[LinkRow]) -> None:
        self.terms[term] = list(rows)
        for row in rows:
            self.of.setdefault(row.chunk_id, []).append(row)


def term_worth(passages: int) -> float:
    """What a term is worth that so many passages name, from 0 to 1."""
    return 1 / (1 + (passages / HALF_WORTH_COUNT) ** 2)


def _link_worth(row: LinkRow) -> float:
    return WEAK_WEIGHT if row.weight < links.NAME_WEIGHT else 1.0


def read_graph(
    connection: Any, question: Mapping[int, str], ranking: Ranking, files: AbstractSet[str] | None
) -> LinkGraph:
    """The graph around what the question names (texts by key) and the best of ``ranking``; of ``files``, if given."""
    graph = LinkGraph()
    prior = dict(ranking)
    start(graph, _naming(connection, list(question), files), question)
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
        for row in links.of_chunks(connection, frontier):
            if row.term not in seen_terms:
                surely = graph.reached[row.chunk_id] * _link_worth(row)
                worth[row.term] = max(worth.get(row.term, 0.0), surely)
        seen_terms.update(worth)
        reach(graph, _naming(connection, list(worth), files), worth)
    return graph


def _naming(
    connection: Any, terms: Sequence[int], files: AbstractSet[str] | None
) -> dict[int, list[LinkRow]]:
    """The links of those terms that may link anything, by term; of ``files``, if given."""
    link_rows: dict[int, list[LinkRow]] = {}
    if terms:
        for row in links.naming(connection, terms, with_files=files is not None):
            if files is None or row.file_id in files:
                link_rows.setdefault(row.term, []).append(row)
    return link_rows


def start(graph: LinkGraph, link_rows: Mapping[int, list[LinkRow]], question: Mapping[int, str]) -> None:
    """Begin with what the question names: rare terms count most, and those that are not a part of another."""
    texts = {term: question[term] for term in link_rows}
    for term, rows in link_rows.items():
        text = texts[term]
        part = any(text in other and text != other for other in texts.values())
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
    """Reach the passages that name what those before name, as many as there is room for, by the best terms first."""
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
    """Passages with the value of the best chain on which each lies, the best of all 1, best first.

    A chain's value is the sum over its passages, thinned out by the worth of the terms that lead from one to the next.
    """
    prior = dict(ranking)
    adds = {
        chunk: PASSAGE_WEIGHT + prior.get(chunk, 0.0) + graph.extra.get(chunk, 0.0) for chunk in graph.reached
    }
    worth = {term: term_worth(len(rows)) for term, rows in graph.terms.items()}
    behind: dict[int, float] = {}  # the best of a chain that begins with a passage
    follows: dict[int, float] = {}  # … that begins with a passage of the next step that names a term
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
    ] = {}  # how surely, and with what sum, a term is led to by the step before
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
    """The search's own scores and those of chains in one list, scores in [0, 1], the best one as good as it was."""
    if not chains:
        return list(ranking)
    scores = {chunk: (1 - weight) * score for chunk, score in ranking}
    for chunk, share in chains:
        scores[chunk] = scores.get(chunk, 0.0) + weight * share
    scale = max((score for _, score in ranking), default=1.0) / max(scores.values())
    return best_first({chunk: min(1.0, score * scale) for chunk, score in scores.items()})


def follow_links(
    connection: Any, store_id: str, question: str, ranking: Ranking, files: AbstractSet[str] | None
) -> tuple[list[tuple[int, float]], str]:
    """``ranking`` with the passages that chains lead to, and a note on it; run by `Database.read`."""
    from portico_server.knowledge.links.rules import question_terms

    graph = read_graph(connection, question_terms(question, store_id), ranking, files)
    note = (
        f"{len(graph.named)} terms of the question, {len(graph.terms)} in all, {len(graph.reached)} passages"
    )
    return fuse_chains(ranking, best_chains(graph, ranking)), note
