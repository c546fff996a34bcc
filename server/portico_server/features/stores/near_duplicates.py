"""Removes near-duplicates from search results."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.features.stores.search_candidate import SearchCandidate
from portico_server.features.stores.similarity import jaccard, shingles


def drop_near_duplicates(candidates: Sequence[SearchCandidate], share: float) -> list[SearchCandidate]:
    """Return the candidates that are not near-duplicates of a better candidate: those that share less than ``share``
    of their shingles with each of these. ``share`` is in (0, 1].
    """
    kept_items: list[tuple[SearchCandidate, frozenset[str]]] = []
    for item in candidates:
        item_shingles = shingles(item.row.text)
        if all(
            jaccard(item_shingles, other_shingles) < share and item.row.text != better.row.text
            for better, other_shingles in kept_items
        ):
            kept_items.append((item, item_shingles))
    return [item for item, _ in kept_items]


def drop_overlapping(candidates: Sequence[SearchCandidate]) -> list[SearchCandidate]:
    """Drop candidates more than half of which lies within a better candidate. Such overlaps occur because groups chunk
    the same text several times.
    """
    search_candidates: list[SearchCandidate] = []
    for item in candidates:
        if not any(_overlaps(item, better) for better in search_candidates):
            search_candidates.append(item)
    return search_candidates


def _overlaps(search_candidate: SearchCandidate, other: SearchCandidate) -> bool:
    if search_candidate.row.file_id != other.row.file_id:
        return False
    a, b = search_candidate.row.place, other.row.place
    common = min(a.end, b.end) - max(a.start, b.start)
    return common * 2 > min(a.end - a.start, b.end - b.start)
