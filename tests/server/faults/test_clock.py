"""The system's clock jumps forward and back while the daemon works: nothing is done or delivered twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.core.context import Context
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import SYSTEM
from portico_server.db import runs

LIMIT = 60
"""Seconds after which a test gives up."""

HOUR = 3_600.0
DAY = 24 * HOUR
ASK = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}

Clock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a function that moves the clock by some seconds, forward or back."""
    real = time.time

    def put(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return put


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        server.add(RelayModel("teller", b'{"object":"chat.completion"}'))
        yield server


async def call(daemon: ApiServer, secret: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    return await daemon.client.post("/v1/chat/completions", json=ASK, headers=headers)


@pytest.mark.parametrize("step", [DAY, 400 * DAY, -DAY])
async def test_the_daily_token_quota_is_not_reset_when_the_clock_returns(
    daemon: ApiServer, set_clock: Clock, step: float
) -> None:
    _row, secret = await daemon.auth.create("phone", ["chat"], UsageLimits(tokens_per_day=5))
    assert (await call(daemon, secret)).status_code == 200  # each call costs five tokens
    assert (await call(daemon, secret)).status_code == 429
    set_clock(step)
    assert (await call(daemon, secret)).status_code == 200  # another day
    assert (await call(daemon, secret)).status_code == 429
    set_clock(0)
    refusal = await call(daemon, secret)
    assert refusal.status_code == 429
    assert refusal.json()["error"]["code"] == "rate_limit_exceeded"


async def test_the_per_minute_quota_ignores_changes_of_the_system_clock(
    daemon: ApiServer, set_clock: Clock
) -> None:
    _row, secret = await daemon.auth.create("phone", ["chat"], UsageLimits(requests_per_minute=1))
    assert (await call(daemon, secret)).status_code == 200
    for step in (HOUR, -HOUR):
        set_clock(step)
        assert (await call(daemon, secret)).status_code == 429


@pytest.mark.parametrize("step", [HOUR, 365 * DAY, -HOUR])
async def test_a_running_job_is_not_restarted_when_the_clock_changes(
    daemon: ApiServer, set_clock: Clock, step: float
) -> None:
    scheduler = daemon.services.scheduler
    started_names: list[str] = []
    running, may = asyncio.Event(), asyncio.Event()

    async def work(payload: Mapping[str, Any], _context: Context) -> str:
        started_names.append(str(payload["name"]))
        if payload["name"] == "long":
            running.set()
            await may.wait()
        return "done"

    scheduler.handle("work", work, concurrency=4, is_shared=True)

    async def done(name: str) -> None:
        run = await daemon.services.runner.arrival(
            await scheduler.ensure("work", name, {"name": name}), LIMIT
        )
        assert run is not None and run.task is not None
        await run.task

    await done("before")  # the queue is open
    long = await scheduler.begin("work", "long", {"name": "long"}, SYSTEM)
    async with asyncio.timeout(LIMIT):
        await running.wait()
        set_clock(step)
        claim = partial(runs.claim, shared_kinds=["work"], living_here={long.id})
        assert await daemon.services.database.write(claim, ["work"], scheduler.holder, LIMIT) is None
        await done("after")  # the queue was checked
        may.set()
        assert long.task is not None
        assert await long.task == "done"
        await scheduler.wait_for_end(long.id)
    assert started_names == ["before", "long", "after"]
    run_record = (await daemon.client.get(f"/api/runs/{long.id}")).json()
    assert run_record["status"] == "completed"


async def test_a_call_is_not_cut_off_by_a_clock_that_is_set(daemon: ApiServer, set_clock: Clock) -> None:
    hold = asyncio.Event()
    daemon.add(slow := RelayModel("slow", b'data: {"choices":[]}\n\n', hold=hold))
    body = {**ASK, "model": "slow", "stream": True}
    async with daemon.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async with asyncio.timeout(LIMIT):
            await slow.began.wait()
            for step in (DAY, -DAY):
                set_clock(step)
                daemon.server.connections.sweep()
            hold.set()
            assert "choices" in (await answer.aread()).decode()
