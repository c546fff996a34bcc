"""A deployment: loading on first use, calls in flight, crashes and unloading, with real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.children import children

from portico.testing.model_fixture import ModelFixture, Script, Streamed, model_fixture, user
from portico.wire import Delta, Progressed, ToolCalled, Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat, ChatReply, Embed, Search, Vectors
from portico_server.models import deployment
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec


async def add(models: ModelFixture, *replies: Any, name: str = "m", **parameters: Any) -> None:
    script: Script = list(replies)
    await models.models.add(ModelSpec(name, "fake://", parameters={"script": script, **parameters}))


def child_of(models: ModelFixture) -> ServerProcess:
    model_deployment = models.registry.get("m")
    assert isinstance(model_deployment, deployment.Deployment)
    assert model_deployment.running is not None and model_deployment.running.process is not None
    return model_deployment.running.process


async def test_a_model_is_cold_until_its_first_call(models: ModelFixture) -> None:
    await add(models)
    assert models.models.get("m").state == "cold"
    answer = await models.ask("m", {"messages": user("hello")})
    assert answer["choices"][0]["message"]["content"] == "hello"
    info = models.models.get("m")
    assert info.state == "ready" and info.pid and info.memory_bytes and info.loaded_at


async def test_callers_at_the_same_time_share_one_start(models: ModelFixture) -> None:
    await add(models)
    await asyncio.gather(*(models.ask("m", {"messages": user("hi")}) for _ in range(8)))
    first = models.models.get("m").pid
    assert first is not None
    pids = [child.pid for child in children()]
    assert pids == [first]


@pytest.mark.process
async def test_a_crash_in_mid_stream_is_one_error_frame_and_the_next_call_works(models: ModelFixture) -> None:
    await add(models, {"match": "crash", "content": "one two three", "crash": 2})
    result = await models.stream("m", {"messages": user("crash")})
    assert result.text() == "one two"
    assert isinstance(result.error, EngineFailed)
    assert [document["error"]["code"] for document in result.documents if "error" in document] == [
        "engine_crashed"
    ]
    assert "SIGKILL" in result.documents[-1]["error"]["message"] and not result.done
    assert (await models.ask("m", {"messages": user("again")}))["choices"][0]["message"]["content"] == "again"


async def test_a_crash_before_the_first_byte_is_a_real_status(models: ModelFixture) -> None:
    await add(models, {"content": "one", "crash": 0})
    with pytest.raises(EngineFailed) as error_info:
        await models.ask("m", {"messages": user("x")})
    assert error_info.value.status == 502 and error_info.value.code == "engine_crashed"


@pytest.mark.process
async def test_a_process_killed_while_idle_is_replaced(models: ModelFixture) -> None:
    await add(models)
    await models.models.load("m")
    first = models.models.get("m").pid
    assert first is not None
    child = child_of(models)
    os.kill(first, signal.SIGKILL)
    await child.wait()
    await models.ask("m", {"messages": user("x")})
    assert models.models.get("m").pid not in (None, first)


async def test_an_engine_that_keeps_crashing_is_given_a_rest(models: ModelFixture) -> None:
    await add(models, {"content": "x", "crash": 0})
    for _ in range(2):
        with pytest.raises(EngineFailed):
            await models.ask("m", {"messages": user("x")})
    with pytest.raises(Unavailable) as error_info:
        await models.ask("m", {"messages": user("x")})
    assert error_info.value.status == 503 and 0 < (error_info.value.retry_after or 0) <= 1


async def test_upstream_errors_keep_their_status_code_and_retry_after(models: ModelFixture) -> None:
    error = {
        "status": 429,
        "message": "slow down",
        "type": "rate_limit_error",
        "code": "busy",
        "retry_after": 3,
    }
    await add(models, {"error": error})
    for stream in (False, True):
        with pytest.raises(PorticoError) as error_info:
            await models.relay("m", {"messages": user("x"), "stream": stream})
        body = error_info.value.body()
        assert (error_info.value.status, body.type, body.code, error_info.value.retry_after) == (
            429,
            "rate_limit_error",
            "busy",
            3,
        )


async def test_closing_a_stream_ends_the_work_and_the_call(models: ModelFixture) -> None:
    await add(models, {"content": "one two three", "hang": 1})
    relayed = await models.relay("m", {"messages": user("x"), "stream": True})
    async for chunk in relayed.chunks:
        if b"one" in chunk:
            break
    await relayed.chunks.aclose()  # type: ignore[attr-defined]
    await models.models.unload("m")  # would wait for a call in flight
    assert models.models.get("m").state == "cold"


async def test_unloading_waits_for_the_call_in_flight(models: ModelFixture) -> None:
    await add(models, {"match": "slow", "content": "one two three", "interval": 0.05})
    relayed = await models.relay("m", {"messages": user("slow"), "stream": True})
    unloading = asyncio.create_task(models.models.unload("m"))
    result = await Streamed.of(relayed)
    assert result.text() == "one two three" and result.done
    assert (await unloading).state == "cold"


async def test_a_call_during_an_unload_restarts_the_model(models: ModelFixture) -> None:
    await add(models, {"match": "slow", "content": "one two three", "interval": 0.05})
    relayed = await models.relay("m", {"messages": user("slow"), "stream": True})
    first = models.models.get("m").pid
    unloading = asyncio.create_task(models.models.unload("m"))
    second_call = asyncio.create_task(models.ask("m", {"messages": user("me too")}))
    assert (await Streamed.of(relayed)).done
    await unloading
    assert (await second_call)["choices"][0]["message"]["content"] == "me too"
    assert models.models.get("m").pid != first


async def test_stopping_ends_calls_in_flight_with_an_error_frame(tmp_path: Path) -> None:
    async with model_fixture(tmp_path) as daemon:
        await add(daemon, {"content": "one two", "hang": 1})
        relayed = await daemon.relay("m", {"messages": user("x"), "stream": True})
        reading = asyncio.create_task(Streamed.of(relayed))
    result = await reading
    assert result.documents[-1]["error"]["code"] == "engine_stopped"
    assert children() == []


async def test_a_model_that_is_not_used_is_unloaded(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, keep_alive=0.05) as daemon:
        await add(daemon)
        await daemon.ask("m", {"messages": user("x")})
        await child_of(daemon).wait()
        assert daemon.models.get("m").state == "cold"


async def test_a_slow_start_begins_a_stream_with_comments(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "COMMENT_INTERVAL_S", 0.01)
    await add(models)
    result = await models.stream("m", {"messages": user("hello")})
    assert result.frames[0].startswith(b": loading m") and result.text() == "hello" and result.done
    assert result.usage == Usage(1, 1)


async def test_a_slow_start_that_fails_is_an_error_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "COMMENT_INTERVAL_S", 0.0)
    async with model_fixture(tmp_path, load_timeout=0.01) as daemon:
        await add(daemon)
        result = await daemon.stream("m", {"messages": user("hello")})
        assert result.frames[0].startswith(b": ") and not result.done
        assert result.documents[-1]["error"]["code"] == "load_timeout" and result.error is not None
        assert children() == []


async def test_a_model_that_cannot_be_loaded_says_why_and_is_not_the_callers_fault(
    models: ModelFixture,
) -> None:
    await models.models.add(ModelSpec("m", "/nowhere/model.gguf"), is_here=False)
    with pytest.raises(Unavailable) as error_info:
        await models.ask("m", {"messages": user("x")})
    assert ". model.gguf does not exist." in error_info.value.message  # only admins see the path
    info = models.models.get("m")
    assert info.state == "failed" and "/nowhere/model.gguf does not exist." in str(info.error)


async def test_a_damaged_model_file_returns_503_with_its_name(models: ModelFixture, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    await models.models.add(ModelSpec("m", str(path)))
    with pytest.raises(PorticoError) as error_info:
        await models.ask("m", {"messages": user("x")})
    assert error_info.value.status == 503 and "bad.gguf" in error_info.value.message


async def test_a_call_sends_events_and_returns_the_reply(models: ModelFixture) -> None:
    call = {"name": "lookup", "arguments": {"word": "\\1"}}
    await add(models, {"match": "define (\\w+)", "tool_calls": [call]})
    run = await models.runner.start("chat", "m", Chat(tuple(user("define port"))), LOCAL)
    reply = await models.runner.wait(run)
    assert isinstance(reply, ChatReply) and reply.finish_reason == "tool_calls"
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [("lookup", '{"word":"port"}')]
    events = [event async for _, event in run.log.follow()]
    assert [type(event) for event in events[:3]] == [Progressed, ToolCalled, Usage]
    assert events[0] == Progressed("load", "m"), "a cold start is seen in the run"
    run = await models.runner.start("chat", "m", Chat(tuple(user("two words"))), LOCAL)
    assert (await models.runner.wait(run)).content == "two words"
    assert [e.text async for _, e in run.log.follow() if isinstance(e, Delta)] == ["two", " words"]


async def test_a_model_refuses_what_it_does_not_do(models: ModelFixture) -> None:
    await add(models)
    with pytest.raises(InvalidRequest) as error_info:
        await models.ask("m", {"input": "x"}, "embeddings")
    assert error_info.value.code == "model_lacks_capability"
    with pytest.raises(InvalidRequest):
        await models.runner.call("search", "m", Search("x"), LOCAL)
    with pytest.raises(InvalidRequest):
        await models.runner.call("embed", "m", Embed(("x",)), LOCAL)


async def test_embedding_keeps_order_and_shortens(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("e", "fake://", task="embedding", parameters={"dimensions": 16}))
    vectors = await models.runner.call("embed", "e", Embed(("alpha", "beta")), LOCAL)
    beta = await models.runner.call("embed", "e", Embed(("beta",)), LOCAL)
    short = await models.runner.call("embed", "e", Embed(("beta",), dimensions=4), LOCAL)
    assert isinstance(vectors, Vectors) and isinstance(beta, Vectors) and isinstance(short, Vectors)
    assert vectors.dimensions == 16 and vectors.data[1] == beta.data[0] != vectors.data[0]
    assert short.dimensions == 4 and len(short.data[0]) == 16
