"""Limits of keys as a client meets them: 429, what to do, OpenAI's headers, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.porch import Porch, Teller, porch

from portico_server.config import KeySpec
from portico_server.core.limits import Limits

ASK = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Porch]:
    async with porch(tmp_path) as served:
        served.add(Teller("teller", b"{}"))
        yield served


async def key(house: Porch, **limits: int) -> str:
    body = {"name": "phone", "scopes": ["chat"], "limits": limits}
    made = (await house.client.post("/api/keys", json=body)).json()
    assert made["limits"] == limits
    return str(made["key"])


async def ask(house: Porch, key: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return await house.client.post("/v1/chat/completions", json={**ASK, **more}, headers=headers)


def refused(response: httpx.Response, what: str) -> None:
    assert response.status_code == 429
    error = response.json()["error"]
    assert error["code"] == "rate_limit_exceeded" and what in error["message"]
    assert int(response.headers["retry-after"]) >= 1


async def test_requests_per_minute(house: Porch) -> None:
    secret = await key(house, requests_per_minute=2)
    first = await ask(house, secret)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert (await ask(house, secret)).status_code == 200
    third = await ask(house, secret)
    refused(third, "requests per minute")
    assert third.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    "more", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]
)
async def test_tokens_count_whether_or_not_a_stream_tells_them(house: Porch, more: dict[str, Any]) -> None:
    secret = await key(house, tokens_per_day=5)  # one call takes five
    assert (await ask(house, secret, **more)).status_code == 200
    last = await ask(house, secret)
    refused(last, "tokens per day: limit 5, used 5")
    assert last.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_calls_at_the_same_time(house: Porch) -> None:
    hold = asyncio.Event()
    slow = Teller("slow", b"data: x\n\n", hold=hold)
    house.add(slow)
    secret = await key(house, concurrency=1)
    first = asyncio.create_task(ask(house, secret, model="slow", stream=True))
    await slow.began.wait()
    refused(await ask(house, secret), "concurrent calls: limit 1")
    hold.set()
    assert (await first).status_code == 200
    assert (await ask(house, secret)).status_code == 200


async def test_a_client_that_leaves_gives_its_place_back(house: Porch) -> None:
    slow = Teller("slow", b"data: x\n\n", hold=asyncio.Event())
    house.add(slow)
    secret = await key(house, concurrency=1)
    first = asyncio.create_task(ask(house, secret, model="slow", stream=True))
    await slow.began.wait()
    (run,) = (run for run in house.parts.runner.list() if not run.ended)
    first.cancel()
    assert [event async for event in run.log.follow()], "it goes on until the run has ended"
    assert (await ask(house, secret)).status_code == 200


async def test_other_keys_and_the_operator_are_not_held_to_it(house: Porch) -> None:
    secret = await key(house, requests_per_minute=1)
    free = await key(house)
    for _ in range(2):
        response = await ask(house, free)
        assert response.status_code == 200 and "x-ratelimit-limit-requests" not in response.headers
    assert (await ask(house, secret)).status_code == 200
    refused(await ask(house, secret), "requests per minute")
    assert (await house.client.post("/v1/chat/completions", json=ASK)).status_code == 200


async def test_what_was_used_counts_after_a_restart(tmp_path: Path) -> None:
    given = [KeySpec("app", "secret-of-the-app", ("chat",), Limits(tokens_per_day=9))]
    for expected in ([200, 200], [429, 429]):
        async with porch(tmp_path, given=given) as served:
            served.add(Teller("teller", b"{}"))
            answers = [(await ask(served, "secret-of-the-app")).status_code for _ in expected]
            assert answers == expected


async def test_a_limit_that_does_not_exist_is_named(house: Porch) -> None:
    body = {"name": "x", "scopes": ["chat"], "limits": {"token_per_day": 5}}
    response = await house.client.post("/api/keys", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "limits.token_per_day" and "tokens_per_day" in error["message"]


async def test_limits_are_listed(house: Porch) -> None:
    await key(house, tokens_per_minute=500)
    listed = (await house.client.get("/api/keys")).json()["data"]
    assert [one["limits"] for one in listed] == [{"tokens_per_minute": 500}]
