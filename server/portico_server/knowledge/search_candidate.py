"""A ranked chunk on its way through the stages."""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.core.dataclass import dataclass
from portico_server.db.hits import HitRow


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """A chunk, perhaps grown by its neighbours, and its score so far, in [0, 1]."""

    row: HitRow
    score: float


def candidate_scores(candidates: Iterable[SearchCandidate]) -> list[tuple[int, float]]:
    """As a trace shows them."""
    return [(item.row.id, item.score) for item in candidates]


def order_candidates(candidates: Iterable[SearchCandidate]) -> list[SearchCandidate]:
    """Best first; equal scores by id, so that the same question always has the same answer."""
    return sorted(candidates, key=lambda item: (-item.score, item.row.id))
