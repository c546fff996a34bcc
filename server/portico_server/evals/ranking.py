"""How well files were ranked, from 0 to 1: recall, precision, hit, reciprocal rank, nDCG. Pure.

A file stands where its best passage does; ``k`` counts files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest

Gains = Mapping[str, float]
"""What each relevant file is worth; 1 unless the item says more."""


def recall(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """The share of the relevant files that is among the first k."""
    return sum(gain > 0 for gain in gains[:k]) / len(relevant)


def precision(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """The share of the first k that is relevant."""
    return sum(gain > 0 for gain in gains[:k]) / k


def hit(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """1 if a relevant file is among the first k."""
    return float(any(gain > 0 for gain in gains[:k]))


def mrr(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """One over the rank of the first relevant file, 0 if it is not among the first k."""
    return next((1 / rank for rank, gain in enumerate(gains[:k], 1) if gain > 0), 0.0)


def ndcg(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Gains discounted by the logarithm of the rank, over the best order. Source: Järvelin and Kekäläinen 2002."""
    best = sorted(relevant.values(), reverse=True)
    return _dcg(gains[:k]) / _dcg(best[:k])


MEASURES: Final[Mapping[str, Callable[[Sequence[float], Gains, int], float]]] = {
    "recall": recall,
    "precision": precision,
    "hit": hit,
    "mrr": mrr,
    "ndcg": ndcg,
}
"""By the names that a criterion gives them."""


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def measure(metric: str, found: Sequence[Mapping[str, Any]], relevant: Any, k: int) -> float:
    """How well ``found`` ranks the relevant files, which are known by name or id.

    ``found``: passages in order, each with ``file_id`` and ``filename``. ``relevant``: a name, a list of them, or an
    object with what each is worth. Raises `InvalidRequest` if it is none of these.
    """
    wanted = gains_of(relevant)
    ranked: dict[str, float] = {}
    for passage in found:
        names = (str(passage["filename"]), str(passage["file_id"]))
        gain = max(wanted.get(name, 0.0) for name in names)
        ranked.setdefault(names[0] if names[0] in wanted else names[1], gain)
    return MEASURES[metric](list(ranked.values()), wanted, k)


def gains_of(relevant: Any) -> Gains:
    """What each relevant file is worth. Raises `InvalidRequest`."""
    if isinstance(relevant, str):
        relevant = [relevant]
    if isinstance(relevant, list) and all(isinstance(name, str) for name in relevant):
        relevant = dict.fromkeys(relevant, 1.0)
    if not isinstance(relevant, Mapping) or not all(
        isinstance(gain, int | float) and math.isfinite(gain) for gain in relevant.values()
    ):
        raise InvalidRequest(
            "An item names its relevant files by a list of names, or an object with a number for each.",
            code="no_relevant_files",
        )
    gains = {str(name): float(gain) for name, gain in relevant.items() if gain > 0}
    if not gains:
        raise InvalidRequest("An item has no relevant files.", code="no_relevant_files")
    return gains
