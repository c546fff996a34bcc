"""The decision that a canary's rules make from the counts."""

from __future__ import annotations

import pytest

from portico_server.db.canaries import CanaryCounts, Outcome, SideCounts
from portico_server.features.canaries.spec import parse
from portico_server.features.canaries.verdict import decide

PROMOTE = {"after": 10, "min_samples": 4, "min_score": 0.8, "max_drop": 0.1, "max_error_rate": 0.2}
ROLLBACK = {"after": 5, "min_samples": 4, "max_error_rate": 0.5, "max_drop": 0.3, "max_latency_ratio": 2}


@pytest.mark.parametrize(
    ("baseline", "canary", "outcome", "says"),
    [
        (SideCounts(), SideCounts(), None, "canary calls: 0 of 10"),
        (SideCounts(9, 0, 900, 0, 4, 4), SideCounts(10, 2, 1000, 0, 4, 3.6), "promoted", "10 canary calls"),
        # Errors, a worse score and slowness roll it back; the reason contains the figure.
        (SideCounts(9, 0, 900, 0, 4, 4), SideCounts(5, 3, 500), "rolled_back", "60.00%"),
        (SideCounts(9, 0, 900, 0, 4, 4), SideCounts(5, 0, 500, 0, 4, 2.6), "rolled_back", "0.350 below"),
        (SideCounts(5, 0, 500), SideCounts(5, 0, 1500), "rolled_back", "3.00 times"),
        # Too few data.
        (SideCounts(4, 0, 400), SideCounts(5, 0, 1500), None, "judged answers of the canary: 0 of 4"),
        (SideCounts(9), SideCounts(4, 4, 400), None, "canary calls: 4 of 10"),
        (SideCounts(9, 0, 900, 0, 3, 3), SideCounts(10, 0, 1000, 0, 4, 4), None, "of the baseline: 3 of 4"),
        # A better score is never a drop, and one unmet condition keeps the canary.
        (SideCounts(9, 0, 900, 0, 4, 0), SideCounts(10, 0, 1000, 0, 4, 4), "promoted", "above"),
        (SideCounts(9, 0, 900, 0, 4, 3), SideCounts(10, 0, 1000, 0, 4, 3), None, "at least 0.8"),
    ],
)
def test_rollback_rules_precede_promotion_and_both_wait_for_enough_samples(
    baseline: SideCounts, canary: SideCounts, outcome: Outcome | None, says: str
) -> None:
    spec = parse({"target": "b", "weight": 0.1, "eval": "polite", "promote": PROMOTE, "rollback": ROLLBACK})
    verdict = decide(spec, CanaryCounts(baseline, canary))
    reason = "; ".join(verdict.waits_for) if verdict.decision is None else verdict.decision.reason
    assert (verdict.decision.outcome if verdict.decision else None) == outcome
    assert says in reason
