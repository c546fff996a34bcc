"""The confidence from which a small model may answer alone, chosen and measured on held-back calls. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """A held-back call: the confidence of the small model's answer, and its agreement with the stored answer."""

    confidence: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Measure:
    """What a threshold achieves. ``local_share`` is the share of calls that the small model answers alone, and
    ``agreement`` the mean agreement of these answers; ``None`` if there are none.
    """

    calls: int
    local_share: float
    agreement: float | None


def choose_threshold(calls: Sequence[JudgedCall], min_agreement: float) -> float | None:
    """Return the lowest confidence above which the answers agree at least this much on average; ``None`` if there is
    none.
    """
    threshold = None
    total = 0.0
    ranked_calls = sorted(calls, key=lambda call: -call.confidence)
    for count, call in enumerate(ranked_calls, 1):
        total += call.agreement
        is_last = count == len(ranked_calls) or ranked_calls[count].confidence < call.confidence
        if is_last and total >= min_agreement * count:
            threshold = call.confidence
    return threshold


def measure(calls: Sequence[JudgedCall], threshold: float) -> Measure:
    """Return what a threshold achieves on calls that did not choose it."""
    agreements = [call.agreement for call in calls if call.confidence >= threshold]
    return Measure(
        len(calls),
        len(agreements) / len(calls) if calls else 0.0,
        sum(agreements) / len(agreements) if agreements else None,
    )
