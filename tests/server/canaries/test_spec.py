"""What a canary may be, and what its rules make of what was counted."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.canaries.spec import parse
from portico_server.canaries.verdict import decide
from portico_server.core.errors import InvalidRequest
from portico_server.db.canaries import CanaryCounts, Outcome, SideCounts

JUDGED = {"target": "b", "weight": 0.1, "eval": "polite"}


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ([], "canary", "an object"),
        ({"weight": 0.1}, "target", "Missing"),
        ({"target": 7, "weight": 0.1}, "target", "a string"),
        ({"target": "b"}, "weight", "Missing"),
        ({"target": "b", "weight": 0}, "weight", "nobody would get"),
        ({"target": "b", "weight": 1.5}, "weight", "from 0 to 1"),
        ({"target": "b", "weight": -0.1}, "weight", "from 0 to 1"),
        ({"target": "b", "weight": float("nan")}, "weight", "from 0 to 1"),
        ({"target": "b", "weight": True}, "weight", "a number"),
        ({"target": "b", "wieght": 0.1}, "wieght", "'weight'"),
        ({"target": "b", "keys": "ada"}, "keys", "a list"),
        ({"target": "b", "keys": ["ada", ""]}, "keys[1]", "1 to 200"),
        ({"target": "b", "weight": 0.1, "sticky": "user"}, "sticky", "session, caller, request"),
        ({"target": "b", "weight": 0.1, "sample": 0.5}, "sample", "needs an 'eval'"),
        ({**JUDGED, "sample": 0}, "sample", "judge nothing"),
        ({**JUDGED, "promote": {}}, "promote.after", "Missing"),
        ({**JUDGED, "promote": {"after": 0}}, "promote.after", "from 1"),
        ({**JUDGED, "promote": {"after": 1, "max_dorp": 1}}, "promote.max_dorp", "'max_drop'"),
        ({**JUDGED, "rollback": {"after": 5}}, "rollback", "names no condition"),
        ({**JUDGED, "rollback": {"max_error_rate": 2}}, "rollback.max_error_rate", "from 0 to 1"),
        ({**JUDGED, "weight": 1, "promote": {"after": 1, "max_drop": 0}}, "promote.max_drop", "compares"),
        (
            {"target": "b", "weight": 1, "promote": {"after": 1, "min_score": 1}},
            "promote.min_score",
            "'eval'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(given: Any, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        parse(given)
    assert caught.value.param == param


def test_what_is_kept_of_one_reads_as_it_was_written() -> None:
    given = {
        "target": "b",
        "weight": 0.25,
        "keys": ["ada", "ada", "bob"],
        "sticky": "caller",
        "eval": "polite",
        "promote": {"after": 200, "min_score": 0.8, "max_drop": 0.02, "max_error_rate": 0.02},
        "rollback": {"max_error_rate": 0.1, "max_latency_ratio": 2},
    }
    spec = parse(given)
    assert spec.keys == ("ada", "bob") and spec.sample == 0.2
    assert parse({"target": "b", **spec.document()}) == spec


PROMOTE = {"after": 10, "min_samples": 4, "min_score": 0.8, "max_drop": 0.1, "max_error_rate": 0.2}
ROLLBACK = {"after": 5, "min_samples": 4, "max_error_rate": 0.5, "max_drop": 0.3, "max_latency_ratio": 2}


@pytest.mark.parametrize(
    ("baseline", "canary", "outcome", "says"),
    [
        (SideCounts(), SideCounts(), None, "calls of the canary: 0 of 10"),
        (SideCounts(9, 0, 900, 0, 4, 4), SideCounts(10, 2, 1000, 0, 4, 3.6), "promoted", "10 calls"),
        # Errors, a worse score and slowness take it back; the reason has the figure.
        (SideCounts(9, 0, 900, 0, 4, 4), SideCounts(5, 3, 500), "rolled_back", "60.00%"),
        (SideCounts(9, 0, 900, 0, 4, 4), SideCounts(5, 0, 500, 0, 4, 2.6), "rolled_back", "0.350 below"),
        (SideCounts(5, 0, 500), SideCounts(5, 0, 1500), "rolled_back", "3.00 times"),
        # Too little is known.
        (SideCounts(4, 0, 400), SideCounts(5, 0, 1500), None, "judged answers of the canary: 0 of 4"),
        (SideCounts(9), SideCounts(4, 4, 400), None, "calls of the canary: 4 of 10"),
        (SideCounts(9, 0, 900, 0, 3, 3), SideCounts(10, 0, 1000, 0, 4, 4), None, "of the baseline: 3 of 4"),
        # Better is never a drop, and one condition that does not hold keeps it.
        (SideCounts(9, 0, 900, 0, 4, 0), SideCounts(10, 0, 1000, 0, 4, 4), "promoted", "above"),
        (SideCounts(9, 0, 900, 0, 4, 3), SideCounts(10, 0, 1000, 0, 4, 3), None, "at least 0.8"),
    ],
)
def test_rules_take_back_before_they_promote_and_wait_for_enough(
    baseline: SideCounts, canary: SideCounts, outcome: Outcome | None, says: str
) -> None:
    spec = parse({**JUDGED, "promote": PROMOTE, "rollback": ROLLBACK})
    verdict = decide(spec, CanaryCounts(baseline, canary))
    found = "; ".join(verdict.waits_for) if verdict.decision is None else verdict.decision.reason
    assert (verdict.decision.outcome if verdict.decision else None) == outcome
    assert says in found
