"""Budgets that refill over time."""

from __future__ import annotations

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.limits import UsageLimits
from portico_server.core.rate_bucket import RateBucket


def test_a_bucket_refills_evenly_and_never_exceeds_its_capacity() -> None:
    bucket = RateBucket(60, 60, now=0)
    bucket.take(60, now=0)
    assert (bucket.level(0), bucket.level(15), bucket.level(600)) == (0, 15, 60)
    assert bucket.full(600) == 0


def test_an_overdrawn_bucket_must_refill_its_debt_first() -> None:
    bucket = RateBucket(60, 60, now=0)
    bucket.take(90, now=0)
    assert bucket.level(0) == -30
    assert bucket.full(0) == 90
    assert bucket.wait(1, now=0) == 31 and bucket.wait(1, now=31) == 0


def test_a_request_above_the_capacity_waits_for_a_full_bucket() -> None:
    bucket = RateBucket(10, 60, now=0)
    assert bucket.wait(500, now=0) == 0
    bucket.take(500, now=0)
    assert bucket.wait(500, now=0) == 3_000


def test_returned_tokens_do_not_exceed_the_bucket_capacity() -> None:
    bucket = RateBucket(10, 60, now=0)
    bucket.take(3, now=0)
    bucket.take(-9, now=0)
    assert bucket.level(0) == 10


def test_a_backwards_clock_does_not_change_the_bucket_level() -> None:
    bucket = RateBucket(10, 10, now=100)
    bucket.take(5, now=100)
    assert bucket.level(90) == 5 and bucket.level(101) == 6


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"token_per_day": 5}, "limits.token_per_day"),
        ({"tokens_per_day": 0}, "limits.tokens_per_day"),
        ({"tokens_per_day": "5"}, "limits.tokens_per_day"),
        ({"concurrency": True}, "limits.concurrency"),
        ({"concurrency": 10**15}, "limits.concurrency"),
    ],
)
def test_a_wrong_limit_is_named(given: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        UsageLimits.parse(given)
    assert error_info.value.param == param


def test_limits_that_are_not_set_are_not_written() -> None:
    assert UsageLimits.parse({"concurrency": 2, "tokens_per_day": None}).to_json() == {"concurrency": 2}
    assert UsageLimits.parse(None) == UsageLimits()
