"""The fields of a canary."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.features.canaries.spec import parse

JUDGED = {"target": "b", "weight": 0.1, "eval": "polite"}


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ([], "canary", "an object"),
        ({"weight": 0.1}, "target", "Missing"),
        ({"target": 7, "weight": 0.1}, "target", "a string"),
        ({"target": "b"}, "weight", "Missing"),
        ({"target": "b", "weight": 0}, "weight", "no call would reach the canary"),
        ({"target": "b", "weight": 1.5}, "weight", "from 0 to 1"),
        ({"target": "b", "weight": -0.1}, "weight", "from 0 to 1"),
        ({"target": "b", "weight": float("nan")}, "weight", "from 0 to 1"),
        ({"target": "b", "weight": True}, "weight", "a number"),
        ({"target": "b", "wieght": 0.1}, "wieght", "'weight'"),
        ({"target": "b", "keys": "ada"}, "keys", "a list"),
        ({"target": "b", "keys": ["ada", ""]}, "keys[1]", "1 to 200"),
        ({"target": "b", "weight": 0.1, "sticky": "user"}, "sticky", "session, caller, request"),
        ({"target": "b", "weight": 0.1, "sample": 0.5}, "sample", "needs an 'eval'"),
        ({"target": "b", "weight": 0.1, "min_confidence": 2}, "min_confidence", "from 0 to 1"),
        (
            {
                "target": "b",
                "weight": 0.1,
                "min_confidence": 0.9,
                "sample": 0.5,
                "rollback": {"max_drop": 0.1},
            },
            "rollback.max_drop",
            "'eval'",
        ),
        ({**JUDGED, "sample": 0}, "sample", "would judge no answers"),
        ({**JUDGED, "promote": {}}, "promote.after", "Missing"),
        ({**JUDGED, "promote": {"after": 0}}, "promote.after", "from 1"),
        ({**JUDGED, "promote": {"after": 1, "max_dorp": 1}}, "promote.max_dorp", "'max_drop'"),
        ({**JUDGED, "rollback": {"after": 5}}, "rollback", "contains no condition"),
        ({**JUDGED, "rollback": {"max_error_rate": 2}}, "rollback.max_error_rate", "from 0 to 1"),
        ({**JUDGED, "weight": 1, "promote": {"after": 1, "max_drop": 0}}, "promote.max_drop", "compares"),
        (
            {"target": "b", "weight": 1, "promote": {"after": 1, "min_score": 1}},
            "promote.min_score",
            "'eval'",
        ),
    ],
)
def test_an_invalid_canary_setting_is_refused_with_its_place(given: Any, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        parse(given)
    assert caught.value.param == param


def test_a_stored_canary_spec_is_parsed_back_unchanged() -> None:
    document = {
        "target": "b",
        "weight": 0.25,
        "keys": ["ada", "ada", "bob"],
        "sticky": "caller",
        "eval": "polite",
        "promote": {"after": 200, "min_score": 0.8, "max_drop": 0.02, "max_error_rate": 0.02},
        "rollback": {"max_error_rate": 0.1, "max_latency_ratio": 2},
    }
    spec = parse(document)
    assert spec.keys == ("ada", "bob") and spec.sample == 0.2
    assert parse({"target": "b", **spec.document()}) == spec
