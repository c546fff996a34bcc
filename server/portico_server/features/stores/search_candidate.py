"""A ranked chunk on its way through the stages of a search."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.core.dataclass import dataclass
from portico_server.db.hits import HitRow


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """A chunk, possibly with the text of neighbouring chunks, and its current score in [0, 1]."""

    row: HitRow
    score: float


def candidate_scores(candidates: Iterable[SearchCandidate]) -> list[tuple[int, float]]:
    """Return the candidates as pairs (id, score) for a trace."""
    return [(item.row.id, item.score) for item in candidates]


def order_candidates(candidates: Iterable[SearchCandidate]) -> list[SearchCandidate]:
    """Sort candidates, best first, and equal scores by id, so that the same question always has the same results."""
    return sorted(candidates, key=lambda item: (-item.score, item.row.id))
