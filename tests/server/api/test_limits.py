"""Limits of keys as a client meets them: 429, what to do, OpenAI's headers, and after a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico.wire import Usage
from portico_server.config import KeySpec
from portico_server.core.context import Context
from portico_server.core.limits import UsageLimits
from portico_server.core.request import Reply, Request, Result
from portico_server.core.servable import Card

ASK = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as served:
        served.add(RelayModel("teller", b"{}"))
        yield served


async def key(daemon: ApiServer, **limits: int) -> str:
    body = {"name": "phone", "scopes": ["chat"], "limits": limits}
    made = (await daemon.client.post("/api/keys", json=body)).json()
    assert made["limits"] == limits
    return str(made["key"])


async def ask(daemon: ApiServer, key: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return await daemon.client.post("/v1/chat/completions", json={**ASK, **more}, headers=headers)


def refused(response: httpx.Response, what: str) -> None:
    assert response.status_code == 429
    error = response.json()["error"]
    assert error["code"] == "rate_limit_exceeded" and what in error["message"]
    assert int(response.headers["retry-after"]) >= 1


async def test_requests_per_minute(daemon: ApiServer) -> None:
    secret = await key(daemon, requests_per_minute=2)
    first = await ask(daemon, secret)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert (await ask(daemon, secret)).status_code == 200
    third = await ask(daemon, secret)
    refused(third, "requests per minute")
    assert third.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    "more", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]
)
async def test_tokens_count_whether_or_not_a_stream_tells_them(
    daemon: ApiServer, more: dict[str, Any]
) -> None:
    secret = await key(daemon, tokens_per_day=5)  # one call takes five
    assert (await ask(daemon, secret, **more)).status_code == 200
    last = await ask(daemon, secret)
    refused(last, "tokens per day: limit 5, used 5")
    assert last.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_calls_at_the_same_time(daemon: ApiServer) -> None:
    hold = asyncio.Event()
    slow = RelayModel("slow", b"data: x\n\n", hold=hold)
    daemon.add(slow)
    secret = await key(daemon, concurrency=1)
    first = asyncio.create_task(ask(daemon, secret, model="slow", stream=True))
    await slow.began.wait()
    refused(await ask(daemon, secret), "concurrent calls: limit 1")
    hold.set()
    assert (await first).status_code == 200
    assert (await ask(daemon, secret)).status_code == 200


async def test_a_client_that_leaves_gives_its_place_back(daemon: ApiServer) -> None:
    slow = RelayModel("slow", b"data: x\n\n", hold=asyncio.Event())
    daemon.add(slow)
    secret = await key(daemon, concurrency=1)
    first = asyncio.create_task(ask(daemon, secret, model="slow", stream=True))
    await slow.began.wait()
    (run,) = (run for run in daemon.services.runner.list() if not run.ended)
    first.cancel()
    assert [event async for event in run.log.follow()], "it goes on until the run has ended"
    assert (await ask(daemon, secret)).status_code == 200


async def test_other_keys_and_the_operator_are_not_held_to_it(daemon: ApiServer) -> None:
    secret = await key(daemon, requests_per_minute=1)
    free = await key(daemon)
    for _ in range(2):
        response = await ask(daemon, free)
        assert response.status_code == 200 and "x-ratelimit-limit-requests" not in response.headers
    assert (await ask(daemon, secret)).status_code == 200
    refused(await ask(daemon, secret), "requests per minute")
    assert (await daemon.client.post("/v1/chat/completions", json=ASK)).status_code == 200


async def test_what_was_used_counts_after_a_restart(tmp_path: Path) -> None:
    given = [KeySpec("app", "secret-of-the-app", ("chat",), UsageLimits(tokens_per_day=9))]
    for expected in ([200, 200], [429, 429]):
        async with api_server(tmp_path, given=given) as served:
            served.add(RelayModel("teller", b"{}"))
            answers = [(await ask(served, "secret-of-the-app")).status_code for _ in expected]
            assert answers == expected


async def test_a_limit_that_does_not_exist_is_named(daemon: ApiServer) -> None:
    body = {"name": "x", "scopes": ["chat"], "limits": {"token_per_day": 5}}
    response = await daemon.client.post("/api/keys", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "limits.token_per_day" and "tokens_per_day" in error["message"]


async def test_limits_are_listed(daemon: ApiServer) -> None:
    await key(daemon, tokens_per_minute=500)
    listed = (await daemon.client.get("/api/keys")).json()["data"]
    assert [one["limits"] for one in listed] == [{"tokens_per_minute": 500}]


FLOW = {
    "portico_flow": 1,
    "name": "many",
    "step": {
        "op": "warp",
        "name": "w",
        "concurrency": 1,
        "over": {"$ref": "input"},
        "step": {"op": "llm", "name": "m", "model": "voice"},
    },
}


class Voice:
    """A model that says a word, and counts how often and how many times at once it was asked."""

    def __init__(self) -> None:
        self.card = Card("voice", "model", capabilities=frozenset({"chat"}))
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0

    async def call(self, request: Request, context: Context) -> Result:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return Reply("word", usage=Usage(10, 10), model="voice")


async def flow(daemon: ApiServer, secret: str, items: int, **more: Any) -> list[dict[str, Any]]:
    """The events of a run of `FLOW`."""
    given = {"flow": {**FLOW, **more}, "input": ["x"] * items}
    headers = {"authorization": f"Bearer {secret}"}
    answer = await daemon.client.post("/api/flows/run", json=given, headers=headers)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines] or [{"type": "failed", **answer.json()}]


async def test_a_flow_counts_as_many_requests_as_its_calls_of_models(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, requests_per_minute=3)
    events = await flow(daemon, secret, 40)
    assert events[-1]["type"] == "failed"
    assert events[-1]["error"]["code"] == "rate_limit_exceeded"
    assert voice.asked == 3


async def test_the_first_call_of_a_model_is_the_request_that_began_the_run(daemon: ApiServer) -> None:
    daemon.add(Voice())
    secret = await key(daemon, requests_per_minute=2)
    assert (await flow(daemon, secret, 1))[-1]["type"] == "finished"
    assert (await flow(daemon, secret, 1))[-1]["type"] == "finished"
    assert (await flow(daemon, secret, 1))[-1]["type"] == "failed"


async def test_tokens_of_a_flow_count_while_it_runs(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, tokens_per_day=50)
    events = await flow(daemon, secret, 40)
    assert "tokens per day" in events[-1]["error"]["message"]
    assert voice.asked == 3  # 20 tokens each, and the third overdraws


async def test_tokens_are_counted_once(daemon: ApiServer) -> None:
    daemon.add(Voice())
    secret = await key(daemon, tokens_per_day=1_000)
    await flow(daemon, secret, 4)
    answer = await ask(daemon, secret)
    # Four calls of twenty tokens, and this one's five, which are counted when it has ended.
    assert answer.headers["x-ratelimit-remaining-tokens"] in ("920", "915")


async def test_calls_of_models_at_the_same_time_are_as_many_as_the_key_may_make(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, concurrency=2)
    warp = {**FLOW["step"], "concurrency": 20}
    assert (await flow(daemon, secret, 20, step=warp))[-1]["type"] == "finished"
    assert (voice.asked, voice.most_at_once) == (20, 2)


async def test_a_durable_flow_waits_for_its_limit_and_loses_nothing(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, requests_per_minute=1_200)  # twenty a second come back
    (made,) = (await daemon.client.get("/api/keys")).json()["data"]
    meter = daemon.services.runner.quotas.of(made["id"])
    assert meter is not None
    for _call in range(1_199):
        meter.add_request()
    events = asyncio.create_task(flow(daemon, secret, 3, durability="normal"))
    assert (await events)[-1]["type"] == "finished"
    assert voice.asked == 3
