"""Limits towards a provider: which calls wait, which are refused, and that a caller who leaves loses nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.models.engines.remote.provider import Answer, completion, serving

from portico.testing.model_fixture import ModelFixture, user
from portico_server.core.errors import InvalidRequest, TooMany
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.models.engines.remote import pacing
from portico_server.models.engines.remote.pacing import PacedClient, reserved_tokens
from portico_server.models.engines.remote.target import find_target
from portico_server.models.spec import ModelSpec

HI = {"messages": user("hi")}


def spec(url: str, **parameters: Any) -> ModelSpec:
    return ModelSpec("m", f"{url}/v1#far", parameters={"retries": 0, **parameters})


async def test_calls_within_the_limit_do_not_wait(models: ModelFixture) -> None:
    async with serving(Answer(completion())) as provider:
        await models.models.add(spec(provider.url, requests_per_minute=3, wait_limit=0))
        for _ in range(3):
            await models.ask("m", HI)
        with pytest.raises(TooMany) as error_info:
            await models.ask("m", HI)
    assert len(provider.bodies) == 3
    assert error_info.value.code == "provider_limit" and 15 < (error_info.value.retry_after or 0) <= 20


async def test_a_call_beyond_the_limit_waits_for_its_turn(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "MINUTE_S", 0.2)
    async with serving(Answer(completion())) as provider:
        await models.models.add(spec(provider.url, requests_per_minute=2))
        answers = await asyncio.gather(*(models.ask("m", HI) for _ in range(6)))
    assert len(answers) == len(provider.bodies) == 6


async def test_tokens_are_counted_as_they_were_really_used(models: ModelFixture) -> None:
    usage = {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100}
    async with serving(Answer({**completion(), "usage": usage})) as provider:
        await models.models.add(spec(provider.url, tokens_per_minute=100, wait_limit=0))
        await models.ask("m", HI)  # its estimate was a few tokens
        with pytest.raises(TooMany):
            await models.ask("m", HI)
    assert len(provider.bodies) == 1


async def test_a_call_that_failed_took_no_tokens(models: ModelFixture) -> None:
    failure = Answer({"error": {"message": "no"}}, 400)
    async with serving(failure, Answer(completion())) as provider:
        await models.models.add(spec(provider.url, tokens_per_minute=100, wait_limit=0))
        with pytest.raises(Exception, match="no"):
            await models.ask("m", {**HI, "max_tokens": 99})
        await models.ask("m", {**HI, "max_tokens": 90})
    assert len(provider.bodies) == 2


class Willing:
    """A `Speaker` that answers everything."""

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        return RelayResponse("application/json", single_chunk(b"{}"))


async def test_a_caller_who_leaves_while_waiting_gives_the_turn_back() -> None:
    paced = PacedClient(Willing(), "m", requests=1, tokens=None, max_wait_s=90)
    request = Relay("chat/completions", {})
    await paced.relay(request, None)
    for _ in range(3):  # each call waits for the next minute; the minute after that would be too late
        call = asyncio.create_task(paced.relay(request, None))
        await asyncio.sleep(0)
        assert not call.done()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()


async def test_a_model_with_no_wait_limit_falls_back_when_rate_limited(models: ModelFixture) -> None:
    async with serving(Answer(completion("near"))) as near, serving(Answer(completion("far"))) as far:
        await models.models.add(ModelSpec("other", f"{near.url}/v1#x"))
        await models.models.add(spec(far.url, requests_per_minute=1, wait_limit=0, fallback="other"))
        contents = [(await models.ask("m", HI))["choices"][0]["message"]["content"] for _ in range(2)]
    assert contents == ["far", "near"]


def test_the_token_estimate_covers_messages_and_maximum_output() -> None:
    body = {"messages": [{"role": "user", "content": "x" * 392}], "max_tokens": 50, "model": "y" * 1000}
    assert reserved_tokens(body) == 1 + (392 + 4) // 4 + 50


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_invalid_rate_limits_are_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        find_target(ModelSpec("m", "http://h/v1#x", parameters={name: value}))
    assert error_info.value.param == f"parameters.{name}"
