"""Retries where they are safe, and fallback models where retries are not enough."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.models.engines.remote.provider import Answer, completion, serving

from portico.testing.model_fixture import ModelFixture, user
from portico_server.core.errors import (
    MAX_RETRY_AFTER_S,
    InvalidRequest,
    PorticoError,
    Unavailable,
    retry_after_s,
)
from portico_server.models.engines.remote.retries import MAX_PAUSE_S, pause_before
from portico_server.models.openai_wire import error_of
from portico_server.models.spec import ModelSpec

HI = {"messages": user("hi")}
AT_ONCE = {"Retry-After": "0"}


def busy(status: int = 429, **error: Any) -> Answer:
    return Answer({"error": {"message": "busy", **error}}, status, AT_ONCE)


def spec(name: str, url: str, **parameters: Any) -> ModelSpec:
    return ModelSpec(name, f"{url}/v1#far", parameters=parameters)


@pytest.mark.parametrize("status", [429, 502, 503, 504, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_busy_provider_is_asked_again(models: ModelFixture, status: int, stream: bool) -> None:
    frames = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    good = Answer(frames if stream else completion())
    async with serving(busy(status), busy(status), good) as provider:
        await models.models.add(spec("m", provider.url))
        relayed = await models.relay("m", {**HI, "stream": stream})
        assert b"".join([chunk async for chunk in relayed.chunks])
    assert len(provider.bodies) == 3


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (busy(), 3),
        (busy(400), 1),
        (busy(401), 1),
        (busy(500), 1),
        (busy(code="insufficient_quota"), 1),
        (Answer({"error": {"message": "later"}}, 429, {"Retry-After": "3600"}), 1),
    ],
)
async def test_only_temporary_overload_is_retried_a_limited_number_of_times(
    models: ModelFixture, answer: Answer, asked: int
) -> None:
    async with serving(answer) as provider:
        await models.models.add(spec("m", provider.url))
        with pytest.raises(PorticoError) as error_info:
            await models.relay("m", HI)
    assert len(provider.bodies) == asked
    assert error_info.value.status == (502 if answer.status == 500 else answer.status)
    if answer.headers["Retry-After"] == "3600":
        assert error_info.value.retry_after == 3600


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("7.5", 7.5),
        ("-3", 0),
        ("inf", MAX_RETRY_AFTER_S),
        ("1e999", MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 9998 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0),
        *((text, None) for text in ("", "nan", "soon", None)),
    ],
)
def test_retry_after_is_parsed_as_seconds_within_a_day(asked: str | None, kept: float | None) -> None:
    assert retry_after_s(asked) == kept


def test_retry_pauses_grow_with_jitter_up_to_a_maximum() -> None:
    error = Unavailable("busy")
    pauses = [pause_before(attempt, error, 1.0) for attempt in range(1, 9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, MAX_PAUSE_S, MAX_PAUSE_S]
    assert pause_before(1, error, 0.0) == 0.25
    assert pause_before(1, error_of(429, b"", "m", 7.0), 0.0) == 7.0
    assert pause_before(1, InvalidRequest("no"), 0.0) is None


async def test_the_next_model_answers_when_the_first_fails(models: ModelFixture) -> None:
    async with (
        serving(Answer(b"", 500)) as failing_server,
        serving(Answer(completion("from b"))) as working_server,
    ):
        await models.models.add(spec("b", working_server.url, fallback="a"))
        await models.models.add(spec("a", failing_server.url, fallback=["missing", "b"]))
        answer = await models.ask("a", HI)
        assert answer["choices"][0]["message"]["content"] == "from b"
        assert len(failing_server.bodies) == len(working_server.bodies) == 1


async def test_a_model_without_its_key_falls_back_to_a_local_one(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    await models.models.add(ModelSpec("local", "fake://"))
    await models.models.add(ModelSpec("far", "remote://openai/gpt-5", parameters={"fallback": "local"}))
    result = await models.stream("far", HI)
    assert result.text() and result.done and {d["model"] for d in result.documents} == {"local"}


@pytest.mark.parametrize(("status", "asked"), [(400, 0), (404, 1), (401, 1)])
async def test_the_fallback_is_tried_after_401_and_404_but_not_after_400(
    models: ModelFixture, status: int, asked: int
) -> None:
    async with serving(busy(status)) as first, serving(busy(503)) as second:
        await models.models.add(spec("b", second.url, retries=0))
        await models.models.add(spec("a", first.url, retries=0, fallback=["b"]))
        with pytest.raises(PorticoError) as error_info:
            await models.relay("a", HI)
    assert error_info.value.status == status, "the caller gets the error of the model that was named"
    assert len(second.bodies) == asked


async def test_an_embedding_model_with_a_fallback_is_refused(models: ModelFixture) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.add(
            ModelSpec("e", "http://127.0.0.1:9/v1#e", task="embedding", parameters={"fallback": "b"})
        )
    assert error_info.value.param == "parameters.fallback"
