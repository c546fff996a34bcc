"""Similarity of two texts by their common short sequences of words and characters. Needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from portico_server.core.words import CJK_RUN
from portico_server.features.stores.search_candidate import SearchCandidate

_WORD = re.compile(r"[^\W_]+")

_SHINGLE_WORDS = 2


def shingles(text: str) -> frozenset[str]:
    """Return the words, pairs of words, and pairs of Chinese, Japanese and Korean characters of a text."""
    parts: set[str] = set()
    for run in CJK_RUN.findall(text):
        parts.update(run[i : i + 2] for i in range(max(1, len(run) - 1)))
    words = _WORD.findall(CJK_RUN.sub(" ", text).lower())
    parts.update(words)
    parts.update(" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(len(words) - _SHINGLE_WORDS + 1))
    return frozenset(parts)


def jaccard(shingle_set: frozenset[str], other_set: frozenset[str]) -> float:
    """Return the size of the intersection of two sets divided by the size of their union, in [0, 1]."""
    shared_count = len(shingle_set & other_set)
    return shared_count / (len(shingle_set) + len(other_set) - shared_count) if shared_count else 0.0


# Maximal marginal relevance: each next passage is as good as possible and as different from the previous
# passages as possible. Carbonell and Goldstein, SIGIR 1998. Similarity compares words, so it needs no
# vectors.


def diversify(candidates: Sequence[SearchCandidate], diversity: float, limit: int) -> list[SearchCandidate]:
    """Return at most ``limit`` candidates, ordered by ``(1 - diversity) · score - diversity · similarity``, where the
    similarity is that to the candidates chosen before.

    Only the order changes; the scores stay the same. ``diversity`` is in [0, 1].
    """
    remaining_candidates = list(candidates)
    texts = {item.row.id: shingles(item.row.text) for item in remaining_candidates}
    near = dict.fromkeys(texts, 0.0)
    search_candidates: list[SearchCandidate] = []
    while remaining_candidates and len(search_candidates) < limit:
        best = max(
            remaining_candidates,
            key=lambda item: ((1 - diversity) * item.score - diversity * near[item.row.id], -item.row.id),
        )
        remaining_candidates.remove(best)
        search_candidates.append(best)
        for item in remaining_candidates:
            near[item.row.id] = max(near[item.row.id], jaccard(texts[item.row.id], texts[best.row.id]))
    return search_candidates
