"""Limits hold over several daemons on one PostgreSQL, and each daemon counts on its own without the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import cycle, islice

import pytest
from tests import postgres

from portico_server.core.errors import TooMany
from portico_server.core.limits import UsageLimits
from portico_server.db import usage_meters
from portico_server.db.database import Database
from portico_server.runs.quotas import Quotas, UsageMeter
from portico_server.runs.shared_usage import SharedUsage

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture(autouse=True)
def patient_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no daemon count on its own, or count as ended, because this machine is busy for some seconds."""
    monkeypatch.setattr(usage_meters, "STATEMENT_TIMEOUT_S", 60.0)
    monkeypatch.setattr(usage_meters, "SILENT_S", 60.0)


@pytest.fixture
def url(server: postgres.Server) -> str:
    return server.new()


@asynccontextmanager
async def daemon(url: str) -> AsyncIterator[Quotas]:
    """Yield the quotas of a daemon that is connected. The daemon disappears without a report, like a killed one."""
    database, quotas = Database(url), Quotas()
    assert database.postgres is not None
    shared_usage = SharedUsage(database.postgres, [quotas])
    task = asyncio.create_task(shared_usage.run())
    try:
        probe = quotas.limit("probe", "probe", UsageLimits(requests_per_minute=1_000_000))
        assert probe is not None
        await until(lambda: shared_usage.claim(probe, False))
        yield quotas
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        database.close()


def meter(quotas: Quotas, **limits: int) -> UsageMeter:
    quotas.change("key_1", "phone", UsageLimits(**limits))
    result = quotas.of("key_1")
    assert result is not None
    return result


async def is_admitted(meter: UsageMeter) -> bool:
    try:
        await meter.enter()
    except TooMany:
        return False
    return True


async def is_refused(meter: UsageMeter) -> bool:
    return not await is_admitted(meter)


async def admitted(count: int, *meters: UsageMeter) -> int:
    """Return how many of ``count`` calls the meters admit that are made at the same time, in turn at each."""
    return sum(await asyncio.gather(*map(is_admitted, islice(cycle(meters), count))))


async def takes_all(meter: UsageMeter, count: int) -> bool:
    """Return whether a meter admits ``count`` calls. If it does not, end those that it has admitted."""
    admitted_count = await admitted(count, meter)
    if admitted_count < count:
        for _ in range(admitted_count):
            meter.leave()
    return admitted_count == count


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110  # no event announces a connection or a report
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "limits",
    [{"requests_per_minute": 10}, {"concurrency": 10}, {"requests_per_minute": 10, "concurrency": 99}],
)
async def test_two_daemons_admit_exactly_the_limit(url: str, limits: dict[str, int]) -> None:
    async with daemon(url) as first, daemon(url) as second:
        assert await admitted(40, meter(first, **limits), meter(second, **limits)) == 10


async def test_calls_ended_at_one_daemon_free_concurrency_at_the_other(url: str) -> None:
    async with daemon(url) as first, daemon(url) as second:
        a, b = meter(first, concurrency=2), meter(second, concurrency=2)
        for _ in range(5):
            await until(lambda: takes_all(a, 2))
            with pytest.raises(TooMany, match="concurrent calls: limit 2, used 2"):
                await b.enter()
            a.leave()
            a.leave()
            await until(lambda: is_admitted(b))
            b.leave()


@pytest.mark.parametrize("limit", ["tokens_per_minute", "tokens_per_day"])
async def test_tokens_of_one_daemon_count_at_the_other(url: str, limit: str) -> None:
    async with daemon(url) as first, daemon(url) as second:
        a, b = meter(first, **{limit: 1_000}), meter(second, **{limit: 1_000})
        await a.enter()
        await b.enter()
        a.spend(700)
        b.spend(700)
        for limited_daemon in (a, b):
            await until(partial(is_refused, limited_daemon))
        assert a.spent == b.spent == 1_400


async def test_calls_of_a_daemon_that_disappears_stop_counting(url: str, server: postgres.Server) -> None:
    async with daemon(url) as second:
        b = meter(second, concurrency=2)
        async with daemon(url) as first:
            assert await admitted(2, meter(first, concurrency=2)) == 2
        assert not await is_admitted(b)
        # As if the silent daemon had passed the time after which it counts as ended.
        server.execute(
            "update usage_meters set calls = (select jsonb_object_agg(key, jsonb_build_array(value->0, 0)) "
            "from jsonb_each(calls)) where id = 'key_1'",
            url,
        )
        assert await admitted(4, b) == 2


async def test_usage_survives_changed_limits_and_is_shared_with_a_later_daemon(url: str) -> None:
    async with daemon(url) as first:
        a = meter(first, requests_per_minute=6, tokens_per_day=10_000)
        assert await admitted(4, a) == 4
        a.spend(9_000)
        async with daemon(url) as second:
            b = meter(second, requests_per_minute=9, tokens_per_day=9_000)
            with pytest.raises(TooMany, match="tokens per day: limit 9,000, used 9,000"):
                await b.enter()
            b = meter(second, requests_per_minute=9)
            assert await admitted(9, b, meter(first, requests_per_minute=9)) in (5, 6)


async def test_a_key_starts_with_zero_usage_after_its_limits_are_removed(
    url: str, server: postgres.Server
) -> None:
    async with daemon(url) as quotas:
        assert await admitted(3, meter(quotas, requests_per_minute=2)) == 2
        quotas.forget("key_1")

        async def is_removed() -> bool:
            return not server.execute("select 1 from usage_meters where id = 'key_1'", url)

        await until(is_removed)
        assert await admitted(3, meter(quotas, requests_per_minute=2)) == 2


@pytest.mark.parametrize(
    "accident",
    [
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'portico%'",
        "drop table usage_meters",
        "truncate usage_meters",
    ],
)
async def test_a_daemon_that_loses_its_database_still_enforces_limits(
    url: str, server: postgres.Server, accident: str
) -> None:
    async with daemon(url) as quotas:
        a = meter(quotas, requests_per_minute=10, concurrency=20)
        assert await admitted(4, a) == 4
        server.execute(accident, url)
        assert await admitted(20, a) == 6
        assert not await is_admitted(a)


async def test_a_cancelled_admission_claim_frees_its_concurrency(url: str) -> None:
    async with daemon(url) as quotas:
        a = meter(quotas, concurrency=3)
        for _ in range(20):
            calls = [asyncio.ensure_future(a.enter()) for _ in range(3)]
            await asyncio.sleep(0)  # the claims wait
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: is_admitted(a))
        a.leave()
        assert a.calls == 0
