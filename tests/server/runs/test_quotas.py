"""Limits of keys: what remains, which requests are refused, and when the quota returns."""

from __future__ import annotations

import asyncio

import pytest

from portico_server.core.errors import TooLarge, TooMany
from portico_server.core.limits import UsageLimits
from portico_server.db import files
from portico_server.db.usage import DAY_S
from portico_server.runs.quotas import (
    SUM_BUDGET_S,
    SUM_PAUSE_RATIO,
    Quotas,
    StorageQuota,
    UsageMeter,
    span,
)


class Time:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.today = 10.0 * DAY_S

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.today += seconds


def meter(time: Time, **limits: int) -> UsageMeter:
    limit_meter = Quotas(lambda: time.now, lambda: time.today).limit("key_1", "phone", UsageLimits(**limits))
    assert limit_meter is not None
    return limit_meter


async def refused(one: UsageMeter) -> TooMany:
    with pytest.raises(TooMany) as error_info:
        await one.enter()
    assert (error_info.value.status, error_info.value.code) == (429, "rate_limit_exceeded")
    assert "phone" in error_info.value.message and error_info.value.retry_after is not None
    return error_info.value


def test_a_key_without_limits_has_no_meter() -> None:
    quotas = Quotas()
    assert quotas.limit("key_1", "phone", UsageLimits()) is None and quotas.of("key_1") is None


async def test_usage_is_retained_when_the_limits_change() -> None:
    time = Time()
    quotas = Quotas(lambda: time.now, lambda: time.today)
    assert quotas.change("key_1", "phone", UsageLimits(concurrency=2, requests_per_minute=4))
    key_meter = quotas.of("key_1")
    assert key_meter is not None
    for _ in range(2):
        await key_meter.enter()
    key_meter.spend(70)
    assert not quotas.change("key_1", "phone", UsageLimits(concurrency=3, requests_per_minute=3))
    assert quotas.of("key_1") is key_meter
    await key_meter.enter()
    assert "concurrent calls: limit 3, used 3" in (await refused(key_meter)).message
    key_meter.leave()
    assert "requests per minute: limit 3" in (await refused(key_meter)).message
    quotas.change("key_1", "phone", UsageLimits(requests_per_minute=1, tokens_per_day=71))
    assert (await refused(key_meter)).retry_after == 60  # usage above the new limit is not carried over
    time.pass_(60)
    await key_meter.enter()
    key_meter.spend(1)
    time.pass_(60)
    assert "tokens per day: limit 71, used 71" in (await refused(key_meter)).message
    quotas.change("key_1", "phone", UsageLimits())
    assert quotas.of("key_1") is None
    await key_meter.enter()


async def test_calls_of_models_wait_for_a_limit_that_is_changed() -> None:
    key_meter = meter(Time(), concurrency=1)
    began: asyncio.Queue[int] = asyncio.Queue()
    free = asyncio.Event()

    async def call(number: int) -> None:
        async with key_meter.turn():
            began.put_nowait(number)
            await free.wait()

    async with asyncio.TaskGroup() as calls, asyncio.timeout(60):
        for number in range(4):
            calls.create_task(call(number))
        assert await began.get() == 0 and began.empty()
        key_meter.change(UsageLimits(concurrency=3))
        assert [await began.get() for _ in range(2)] == [1, 2] and began.empty()
        key_meter.change(UsageLimits())
        assert await began.get() == 3
        free.set()


async def test_concurrent_calls_beyond_the_limit_are_refused() -> None:
    key_meter = meter(Time(), concurrency=2)
    await key_meter.enter()
    await key_meter.enter()
    assert "concurrent calls: limit 2, used 2" in (await refused(key_meter)).message
    key_meter.leave()
    await key_meter.enter()


async def test_requests_per_minute_come_back_one_by_one() -> None:
    time = Time()
    key_meter = meter(time, requests_per_minute=2)
    for _ in range(2):
        await key_meter.enter()
        key_meter.leave()
    assert (await refused(key_meter)).retry_after == 30
    time.pass_(30)
    await key_meter.enter()
    await refused(key_meter)


async def test_tokens_may_overdraw_the_minute_which_then_recovers() -> None:
    time = Time()
    key_meter = meter(time, tokens_per_minute=600)
    await key_meter.enter()
    key_meter.spend(900)
    error = await refused(key_meter)
    assert error.retry_after is not None and 30 < error.retry_after < 31 and "used 900" in error.message
    time.pass_(error.retry_after)
    await key_meter.enter()


async def test_tokens_of_a_day_come_back_at_midnight() -> None:
    time = Time()
    time.pass_(DAY_S - 100)
    key_meter = meter(time, tokens_per_day=50)
    await key_meter.enter()
    key_meter.spend(50)
    assert (await refused(key_meter)).retry_after == 100
    time.pass_(101)
    await key_meter.enter()


async def test_usage_before_the_daemon_start_counts_against_the_quota() -> None:
    time = Time()
    key_meter = meter(time, tokens_per_day=100, requests_per_minute=5, tokens_per_minute=1_000)
    key_meter.resume(requests=5, tokens=20, spent_tokens=40)
    assert (await refused(key_meter)).retry_after == 12
    assert key_meter.spent == 40


async def test_remaining_quota_is_reported_in_openai_rate_limit_headers() -> None:
    time = Time()
    key_meter = meter(time, requests_per_minute=60, tokens_per_minute=6_000)
    await key_meter.enter()
    key_meter.spend(7_000)
    assert dict(key_meter.headers()) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"1m10s",
    }


def test_headers_report_daily_tokens_when_no_minute_limit_is_set() -> None:
    key_meter = meter(Time(), tokens_per_day=100)
    key_meter.spend(30)
    assert dict(key_meter.headers())[b"x-ratelimit-remaining-tokens"] == b"70"
    assert meter(Time(), concurrency=1).headers() == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0121, "13ms"),
        (1.5, "1.5s"),
        (59.99, "59.99s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (86_341, "23h59m1s"),
    ],
)
def test_durations_are_formatted_as_openai_formats_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_repeated_storage_refusals_do_not_recompute_the_stored_size_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time, sums, stored_mb = Time(), [], 10

    def stored(_connection: object, _owner: str) -> int:
        sums.append(stored_mb)
        time.now += 0.1
        return stored_mb

    monkeypatch.setattr(files, "stored_bytes", stored)
    quota = StorageQuota(lambda: time.now)
    quota.limit_of = lambda _owner: 10
    for _ in range(100):
        with pytest.raises(TooLarge):
            quota.require(None, "key_1", 1)
        with pytest.raises(TooLarge):
            quota.look(None, "key_1", 1)
    assert len(sums) <= SUM_BUDGET_S / 0.1 + 1
    stored_mb = 0
    time.now += SUM_PAUSE_RATIO * 0.1
    quota.require(None, "key_1", 1)  # detects a limit removed in the meantime
