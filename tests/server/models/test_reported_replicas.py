"""Two servers of one model, one of which fails as public reports of comparable systems describe."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import PorticoError
from portico_server.core.relay import Operation
from portico_server.models.deployment import Deployment
from portico_server.models.replicas import ReplicaPool
from portico_server.models.spec import ModelSpec

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CALLS = 8


class Server:
    """A server with OpenAI's API that answers with its name, unless ``failing`` is set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failing: Handler | None = None
        self.calls = 0
        self.called = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        self.called.set()
        if self.failing is not None:
            return await self.failing(request)
        body = await request.json()
        if "embeddings" in request.path:
            return web.json_response({"object": "list", "data": [{"index": 0, "embedding": [1.0, 0.0]}]})
        field = (
            {"message": {"role": "assistant", "content": self.name}}
            if "chat" in request.path
            else {"text": self.name}
        )
        if not body.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", **field}
            return web.json_response({"id": "a", "object": "x", "created": 1, "choices": [choice]})
        piece = {"delta": {"content": self.name}} if "chat" in request.path else {"text": self.name}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in ({"index": 0, **piece}, {"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}):
            await response.write(b"data: " + orjson.dumps({"id": "a", "choices": [part]}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[Server]:
    server = Server(name)
    application = web.Application()
    application.router.add_post("/v1/{tail:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1#m"
    try:
        yield server
    finally:
        await runner.cleanup()


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Break the connection after the headers."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100"})
    await response.prepare(request)
    assert request.transport is not None
    request.transport.abort()
    return response


async def empty(_request: web.Request) -> web.StreamResponse:
    return web.Response(content_type="application/json")


def status(number: int) -> Handler:
    async def respond(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "not now", "code": str(number)}}, status=number)

    return respond


async def hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


@asynccontextmanager
async def two_servers(
    home: Path, **fields: Any
) -> AsyncIterator[tuple[ModelFixture, ReplicaPool, Server, Server]]:
    async with AsyncExitStack() as stack:
        bad = await stack.enter_async_context(serving("bad"))
        good = await stack.enter_async_context(serving("good"))
        daemon = await stack.enter_async_context(model_fixture(home))
        await daemon.models.add(ModelSpec("m", bad.url, replicas=(good.url,), **fields), keep=False)
        await daemon.models.load("m")
        model = daemon.registry.get("m")
        assert isinstance(model, Deployment)
        yield daemon, model.pool, bad, good


async def call(daemon: ModelFixture, text: str, operation: Operation, *, stream: bool = False) -> str:
    """Return the text of an answer; of embeddings, the name of the server that answers."""
    if operation == "embeddings":
        answer = await daemon.ask("m", {"input": text}, operation)
        return "good" if answer["data"] else ""
    body: dict[str, Any] = {"messages": user(text)} if operation == "chat/completions" else {"prompt": text}
    if stream:
        streamed = await daemon.stream("m", body, operation)
        assert streamed.error is None and streamed.done
        return streamed.text()
    choice = (await daemon.ask("m", body, operation))["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


REPORTS: dict[str, Handler] = {
    "vllm-project/production-stack#15 session of a pod that went away": reset,
    "vllm-project/production-stack#382 engine error before the first byte": status(503),
    "BerriAI/litellm#27610 unreachable server is not left out": cut,
    "BerriAI/litellm#34836 server answers 500 for ever": status(500),
    "BerriAI/litellm#8668 server refuses by its rate limit": status(429),
    "BerriAI/litellm#32574 failure of a later attempt is not counted": status(502),
    "vllm-project/vllm-ascend#13140 status 200 with an empty body": empty,
    "vllm-project/router#158 gateway of a worker answers 504": status(504),
    "sozu-proxy/sozu#1442 connection closed by a stopped server": reset,
    "cloudfoundry/routing-release#132 killed instance costs 502": status(502),
    "BerriAI/litellm#871 server without the key": status(401),
    "hipache/hipache#48 server without the model": status(404),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("failing", REPORTS.values(), ids=REPORTS.keys())
async def test_no_call_is_lost_while_one_of_two_servers_fails(
    tmp_path: Path, failing: Handler, stream: bool
) -> None:
    async with two_servers(tmp_path) as (daemon, _pool, bad, _good):
        bad.failing = failing
        for operation in ("chat/completions", "completions"):
            one_after_another = [
                await call(daemon, f"{number}", operation, stream=stream) for number in range(CALLS)
            ]
            one_conversation = [await call(daemon, "same", operation, stream=stream) for _ in range(CALLS)]
            together = await asyncio.gather(
                *(call(daemon, f"p{number}", operation, stream=stream) for number in range(CALLS))
            )
            assert {*one_after_another, *one_conversation, *together} == {"good"}
        assert bad.calls > 0


@pytest.mark.parametrize("failing", [reset, status(503), cut], ids=["reset", "503", "cut"])
async def test_embeddings_move_to_the_other_server(tmp_path: Path, failing: Handler) -> None:
    async with two_servers(tmp_path, task="embedding", parameters={"dimensions": 2}) as (
        daemon,
        _pool,
        bad,
        _good,
    ):
        bad.failing = failing
        answers = [await call(daemon, f"{number}", "embeddings") for number in range(CALLS)]
        assert answers == ["good"] * CALLS and bad.calls == 1


async def test_a_failed_server_pauses_for_longer_each_time_and_returns(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (daemon, pool, bad, _good):
        seconds = 1_000.0
        health = pool.processes[0].health
        health.clock = lambda: seconds
        bad.failing = status(503)
        for pause in (1.0, 2.0, 4.0):
            calls = bad.calls
            for number in range(4):
                await call(daemon, f"{pause} {number}", "completions")
            assert bad.calls == calls + 1
            seconds += pause
        bad.failing = None
        answers = [await call(daemon, f"{number}", "completions") for number in range(4)]
        assert sorted(set(answers)) == ["bad", "good"], (
            "one call succeeded, so the server gets its share again"
        )
        assert health.error is None


async def test_the_first_chat_of_a_daemon_moves_from_a_failed_server(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (daemon, pool, bad, _good):
        bad.failing = reset
        for number in range(CALLS):
            await pool.unload(drain=0)
            assert await call(daemon, f"{number}", "chat/completions") == "good"


async def test_the_last_servers_are_called_although_they_failed(tmp_path: Path) -> None:
    async with two_servers(tmp_path, parameters={"retries": 0}) as (daemon, _pool, bad, good):
        bad.failing = good.failing = status(503)
        for number in range(3):
            with pytest.raises(PorticoError) as error_info:
                await call(daemon, f"{number}", "chat/completions")
            assert error_info.value.status == 503
        assert bad.calls == good.calls == 3, "each call tries each server once"
        good.failing = None
        assert await call(daemon, "again", "chat/completions") == "good"


async def test_a_request_that_every_server_refuses_leaves_none_out(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (daemon, pool, bad, good):
        bad.failing = good.failing = status(500)
        with pytest.raises(PorticoError):
            await call(daemon, "poison", "chat/completions")
        assert [process.health.error for process in pool.processes] == [None, None]
        bad.failing = status(400)
        calls = good.calls
        while bad.calls < 2:
            with pytest.raises(PorticoError) as error_info:
                await call(daemon, "invalid", "chat/completions")
            assert error_info.value.status in (400, 502)
        assert good.calls <= calls + 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_calls_of_a_frozen_server_move_to_the_other_one(tmp_path: Path, stream: bool) -> None:
    """vllm-project/production-stack#749, ray-project/ray#61263."""
    async with two_servers(tmp_path) as (daemon, pool, bad, _good):
        bad.failing = hang
        pool.processes[0].health.silence_s = 0.05
        calls = [call(daemon, f"{number}", "chat/completions", stream=stream) for number in range(CALLS)]
        assert await asyncio.gather(*calls) == ["good"] * CALLS
        call_count = bad.calls
        assert await call(daemon, "later", "chat/completions", stream=stream) == "good"
        assert bad.calls >= call_count > 1, "the server was asked for one token"


@pytest.mark.process
async def test_a_frozen_process_is_ended_and_its_calls_move(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("m", "fake://", replicas=2), keep=False)
    await models.models.load("m")
    model = models.registry.get("m")
    assert isinstance(model, Deployment)
    frozen = model.pool.processes[0]
    pid = frozen.pid
    assert pid is not None
    frozen.health.silence_s = 0.05
    os.kill(pid, signal.SIGSTOP)
    answers = await asyncio.gather(*(models.ask("m", {"messages": user(str(n))}) for n in range(CALLS)))
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == [
        str(n) for n in range(CALLS)
    ]
    assert frozen.pid != pid
