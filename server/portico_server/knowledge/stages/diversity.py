"""Maximal marginal relevance: each passage as good as possible and as unlike the better ones as possible.

Carbonell and Goldstein, SIGIR 1998. Likeness is that of words, so that it needs no vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.knowledge.stages.candidate import Candidate
from portico_server.knowledge.stages.likeness import jaccard, shingles


def spread(candidates: Sequence[Candidate], diversity: float, limit: int) -> list[Candidate]:
    """At most ``limit`` candidates in the order of ``(1 - diversity) · score - diversity · likeness to those before``.

    Scores stay what they were: it is the order that changes. ``diversity`` is in [0, 1].
    """
    left = list(candidates)
    texts = {item.row.id: shingles(item.row.text) for item in left}
    near = dict.fromkeys(texts, 0.0)
    taken: list[Candidate] = []
    while left and len(taken) < limit:
        best = max(
            left,
            key=lambda item: ((1 - diversity) * item.score - diversity * near[item.row.id], -item.row.id),
        )
        left.remove(best)
        taken.append(best)
        for item in left:
            near[item.row.id] = max(near[item.row.id], jaccard(texts[item.row.id], texts[best.row.id]))
    return taken
