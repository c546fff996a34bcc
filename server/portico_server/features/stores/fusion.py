"""Fuses several rankings into one: pure functions of lists with scores. Equal scores are ordered by chunk id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

ScoredChunks: TypeAlias = Sequence[tuple[int, float]]
"""Pairs of (chunk id, score), best first, with each id once."""

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""


def best_first(scores: dict[int, float]) -> list[tuple[int, float]]:
    """Sort scores, best first, and equal scores by id, so that the same question always has the same results."""
    return [
        (chunk, -negative) for negative, chunk in sorted([(-score, chunk) for chunk, score in scores.items()])
    ]


def scale_scores(ranking: ScoredChunks, floor: float | None = None) -> list[tuple[int, float]]:
    """Scale scores to [0, 1]: the best score becomes 1, and ``floor`` (by default the worst score) becomes 0.

    If all scores are equal, all become 1.
    """
    if not ranking:
        return []
    values = [score for _, score in ranking]
    high = max(values)
    low = min(values) if floor is None else min(floor, high)
    if high <= low:
        return [(chunk, 1.0) for chunk, _ in ranking]
    return [(chunk, min(1.0, max(0.0, (score - low) / (high - low)))) for chunk, score in ranking]


def fuse_weighted(lexical: ScoredChunks, dense: ScoredChunks, weight: float) -> list[tuple[int, float]]:
    """Return the weighted sum of two lists scaled to [0, 1]. ``weight`` applies to ``dense``, and ``1 - weight`` to
    ``lexical``.

    A chunk that is missing from a list scores 0 in that list. If one list is empty, the other has the full weight.
    """
    if not dense or not lexical:
        return best_first(dict(lexical or dense))
    scores = {chunk: (1 - weight) * score for chunk, score in lexical}
    for chunk, score in dense:
        scores[chunk] = scores.get(chunk, 0.0) + weight * score
    return best_first(scores)


def fuse_reciprocal(rankings: Sequence[ScoredChunks]) -> list[tuple[int, float]]:
    """Return the reciprocal rank fusion, scaled so that a chunk ranked first in every list has the score 1."""
    lists = [ranking for ranking in rankings if ranking]
    scores: dict[int, float] = {}
    for ranking in lists:
        for rank, (chunk, _) in enumerate(ranking, start=1):
            scores[chunk] = scores.get(chunk, 0.0) + 1 / (RRF_K + rank)
    best = len(lists) / (RRF_K + 1)
    return best_first({chunk: score / best for chunk, score in scores.items()})


def fuse_best(rankings: Sequence[ScoredChunks]) -> list[tuple[int, float]]:
    """Merge several lists. Each chunk keeps its best score."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for chunk, score in ranking:
            scores[chunk] = max(score, scores.get(chunk, 0.0))
    return best_first(scores)
