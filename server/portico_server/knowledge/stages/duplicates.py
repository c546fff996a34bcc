"""Leaving out what says the same again."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.knowledge.stages.candidate import Candidate
from portico_server.knowledge.stages.likeness import jaccard, shingles


def collapse(candidates: Sequence[Candidate], share: float) -> list[Candidate]:
    """Those that share less than ``share`` of their shingles with every better one. ``share`` is in (0, 1]."""
    kept: list[tuple[Candidate, frozenset[str]]] = []
    for item in candidates:
        own = shingles(item.row.text)
        if all(jaccard(own, other) < share and item.row.text != better.row.text for better, other in kept):
            kept.append((item, own))
    return [item for item, _ in kept]


def apart(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of which no better one holds more than half: groups cut the same text more than once."""
    kept: list[Candidate] = []
    for item in candidates:
        if not any(_overlap(item, better) for better in kept):
            kept.append(item)
    return kept


def _overlap(one: Candidate, other: Candidate) -> bool:
    if one.row.file_id != other.row.file_id:
        return False
    a, b = one.row.place, other.row.place
    common = min(a.end, b.end) - max(a.start, b.start)
    return common * 2 > min(a.end - a.start, b.end - b.start)
