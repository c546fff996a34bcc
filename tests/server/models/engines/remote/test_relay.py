"""The engine `remote` against a local server whose answers the test dictates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from portico.testing.model_fixture import ModelFixture, user
from portico.wire import Usage
from portico_server.core.errors import DeadlineExceeded, EngineFailed, InvalidRequest, PorticoError
from portico_server.models.spec import ModelSpec
from portico_server.runs.runner import Runner
from portico_server.runs.usage import UsageLog

HI = {"messages": user("hi")}


class Upstream:
    """A server that sends ``pieces`` unchanged and records the requests."""

    def __init__(self, *pieces: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.pieces, self.status, self.headers = pieces, status, headers or {}
        self.asked: list[dict[str, Any]] = []
        self.sent: list[dict[str, str]] = []
        self.refuses = b""
        self.breaks = False
        self.hangs: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(orjson.loads(body))
        self.sent.append(dict(request.headers))
        if self.refuses and self.refuses in body:
            text = f'{{"error": {{"message": "unknown field {self.refuses.decode()}", "code": 400}}}}'
            return web.Response(status=400, text=text)
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
        if self.hangs is not None:
            await self.hangs.wait()
        if self.breaks:
            assert request.transport is not None
            request.transport.abort()
        return response


@asynccontextmanager
async def serving(models: ModelFixture, upstream: Upstream, **spec: Any) -> AsyncIterator[Upstream]:
    app = web.Application()
    app.router.add_post("/v1/{tail:.*}", upstream.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        spec["parameters"] = {"retries": 0, **spec.get("parameters", {})}
        await models.models.add(ModelSpec("m", f"http://127.0.0.1:{port}/v1#far/model", **spec))
        yield upstream
    finally:
        await runner.cleanup()


def frame(
    text: str | None, *, created: int = 5, finish: str | None = None, role: str | None = None, **more: Any
) -> bytes:
    delta = {} if text is None else {"content": text}
    if role is not None:
        delta = {"role": role, **delta}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "x", "object": "chat.completion.chunk", "created": created, "model": "far/model"}
    document = {**head, "choices": choices, **more}
    return b"data: " + orjson.dumps(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
}
USAGE_FRAME = b"data: " + orjson.dumps({"id": "x", "created": 5, "choices": [], "usage": USAGE}) + b"\n\n"


async def test_the_body_goes_through_with_the_upstreams_name_and_key(models: ModelFixture) -> None:
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "x", "object": "chat.completion", "created": 5, "model": "far/model"}
    document = orjson.dumps({**head, "choices": [choice], "odd": {"field": 1}, "usage": USAGE})
    async with serving(
        models, Upstream(document), api_key="secret-key", parameters={"headers": {"X-Org": "a"}}
    ) as up:
        relayed = await models.relay("m", {**HI, "odd_option": [1, 2]})
        assert b"".join([chunk async for chunk in relayed.chunks]) == document
    assert up.asked == [{"model": "far/model", **HI, "odd_option": [1, 2]}]
    assert up.sent[0]["Authorization"] == "Bearer secret-key" and up.sent[0]["X-Org"] == "a"
    assert relayed.usage == Usage(3, 2, 1)
    assert "secret-key" not in repr(models.models.get("m")) + repr(
        ModelSpec("m", "fake://", api_key="secret-key")
    )


async def test_frames_go_through_as_they_are(models: ModelFixture) -> None:
    texts = [frame(text) for text in ("llo", "", 'a "quote"\n', "o", "\u00e9\u4f60", "!")]
    frames = [frame("he", role="assistant", odd=1), *texts, frame(None, finish="stop"), DONE]
    async with serving(models, Upstream(*frames)):
        relayed = await models.relay("m", {**HI, "stream": True})
        assert b"".join([chunk async for chunk in relayed.chunks]) == b"".join(frames)


async def test_usage_is_counted_but_only_shown_to_those_who_asked(models: ModelFixture) -> None:
    upstream = Upstream(frame("a"), frame(None, finish="stop"), USAGE_FRAME, DONE)
    async with serving(models, upstream):
        result = await models.stream("m", HI)
        assert result.usage == Usage(3, 2, 1) and all(d["choices"] for d in result.documents) and result.done
        result_with_usage = await models.stream("m", {**HI, "stream_options": {"include_usage": True}})
        assert result_with_usage.documents[-1]["usage"] == USAGE and result_with_usage.usage == Usage(3, 2, 1)
    assert upstream.asked[0]["stream_options"] == {"include_usage": True}


async def test_stream_options_are_dropped_for_a_server_that_refuses_them(
    models: ModelFixture,
) -> None:
    upstream = Upstream(frame("a", finish="stop"), DONE)
    upstream.refuses = b"stream_options"
    async with serving(models, upstream):
        assert (await models.stream("m", HI)).text() == "a"
        assert (await models.stream("m", HI)).text() == "a"
        with pytest.raises(PorticoError) as error_info:
            await models.stream("m", {**HI, "stream_options": {"include_usage": True}})
    assert error_info.value.status == 400 and error_info.value.code != "400"
    assert ["stream_options" in body for body in upstream.asked] == [True, False, False, True]


async def test_created_is_one_value_and_chunks_without_choices_are_dropped(models: ModelFixture) -> None:
    empty = b'data: {"id":"x","created":1,"choices":[],"prompt_filter_results":[]}\n\n'
    decoy_frame = frame('a "created":7', created=2)
    async with serving(
        models,
        Upstream(empty, frame("b", created=1), decoy_frame, frame(None, created=3, finish="stop"), DONE),
    ):
        result = await models.stream("m", HI)
    assert len({d["created"] for d in result.documents}) == 1
    assert result.text() == 'ba "created":7' and all(d["choices"] for d in result.documents)


@pytest.mark.parametrize("at_once", [False, True])
async def test_usage_and_irregular_frames_are_handled_among_ordinary_frames(
    models: ModelFixture, at_once: bool
) -> None:
    empty = b'data: {"id":"x","created":5,"choices":[],"prompt_filter_results":[]}\n\n'
    content_frames = [frame("a"), frame('"usage":{} "error":{}'), empty, frame("b", created=6), frame("c")]
    frames = [*content_frames, frame(None, finish="stop", usage=USAGE)]
    async with serving(models, Upstream(*([b"".join(frames)] if at_once else frames))):
        result = await models.stream("m", HI)
    assert result.text() == 'a"usage":{} "error":{}bc' and result.done and result.error is None
    assert result.usage == Usage(3, 2, 1)
    assert all(d["choices"] and d["created"] == 5 for d in result.documents)


async def test_frames_are_parsed_across_arbitrary_splits_and_crlf_line_ends(models: ModelFixture) -> None:
    data = b": ping\n\n" + frame("héllo") + frame("x", finish="stop") + DONE
    data = data.replace(b"\n", b"\r\n")
    async with serving(models, Upstream(*(data[i : i + 3] for i in range(0, len(data), 3)))):
        result = await models.stream("m", HI)
    assert result.text() == "hélloх".replace("х", "x") and result.done


async def test_a_missing_done_is_added_after_a_finish(models: ModelFixture) -> None:
    async with serving(models, Upstream(frame("a"), frame(None, finish="stop"))):
        result = await models.stream("m", HI)
    assert result.done and result.error is None


@pytest.mark.parametrize("breaks", [True, False])
async def test_an_answer_that_breaks_off_is_an_error_frame(models: ModelFixture, breaks: bool) -> None:
    upstream = Upstream(frame("a"), frame("b"))
    upstream.breaks = breaks
    async with serving(models, upstream):
        result = await models.stream("m", HI)
    assert isinstance(result.error, EngineFailed) and not result.done
    assert set(result.documents[-1]["error"]) == {"message", "type", "param", "code"}


async def test_a_stream_that_does_not_end_is_cut_off(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.models.transport.MAX_BODY_BYTES", 2_000_000)
    async with serving(models, Upstream(*[frame("x" * 50_000)] * 100)):
        result = await models.stream("m", HI)
    assert isinstance(result.error, EngineFailed) and not result.done
    assert "cut off" in result.documents[-1]["error"]["message"] and len(result.text()) <= 2_000_000


async def test_an_error_in_mid_stream_ends_it(models: ModelFixture) -> None:
    failure = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    async with serving(models, Upstream(frame("a"), failure, frame("b"), DONE)):
        result = await models.stream("m", HI)
    assert "out of memory" in result.documents[-1]["error"]["message"] and result.text() == "a"
    assert (
        result.error is not None
        and not result.done
        and isinstance(result.documents[-1]["error"]["code"], str)
    )


async def test_an_error_as_the_first_frame_is_a_real_status(models: ModelFixture) -> None:
    failure = b'data: {"error": {"message": "bad tool", "type": "x", "param": "tools", "code": 400}}\n\n'
    async with serving(models, Upstream(failure)):
        with pytest.raises(PorticoError) as error_info:
            await models.relay("m", {**HI, "stream": True})
    assert (error_info.value.status, error_info.value.param, error_info.value.code) == (400, "tools", None)


@pytest.mark.parametrize(
    ("status", "body", "ours", "message"),
    [
        (422, b'{"detail": "no such field"}', 422, "no such field"),
        (400, b'{"error": "just a text"}', 400, "just a text"),
        (401, b'{"error": {"message": "wrong key", "code": "invalid_api_key"}}', 401, "wrong key"),
        (502, b"<html>Bad gateway</html>", 502, "no reason"),
        (503, b"overloaded", 503, "overloaded"),
        (302, b"", 502, "no reason"),
    ],
)
async def test_error_bodies_of_all_kinds_become_openais(
    models: ModelFixture, status: int, body: bytes, ours: int, message: str
) -> None:
    async with serving(models, Upstream(body, status=status, headers={"Retry-After": "7"})):
        with pytest.raises(PorticoError) as error_info:
            await models.relay("m", HI)
    assert error_info.value.status == ours and message in error_info.value.message


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"error": {"message": "no such model", "code": 404}}', 404, "no such model"),
        (b'{"error": {"message": "overloaded", "type": "server_error"}}', 502, "overloaded"),
        (b'{"code": 20012, "message": "the model is disabled", "data_": null}', 502, "the model is disabled"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_under_status_200_is_an_error(
    models: ModelFixture, body: bytes, status: int, message: str, stream: bool
) -> None:
    async with serving(models, Upstream(body)):
        with pytest.raises(PorticoError) as error_info:
            await models.relay("m", {**HI, "stream": stream})
    assert error_info.value.status == status
    assert message in error_info.value.message or stream


async def test_half_a_line_at_the_end_is_one_error_and_never_passed_on(models: ModelFixture) -> None:
    half = frame("lost", finish="stop")[:40]
    async with serving(models, Upstream(frame("a"), half)):
        result = await models.stream("m", HI)
    assert result.text() == "a" and not result.done
    assert result.error is not None and "middle of a line" in result.error.message
    assert [d for d in result.documents if "error" in d] == result.documents[-1:]


async def test_a_page_instead_of_a_stream_is_refused(models: ModelFixture) -> None:
    async with serving(models, Upstream(b"<html>\n\nhello</html>\n\n")):
        with pytest.raises(EngineFailed, match="something other than a stream"):
            await models.relay("m", {**HI, "stream": True})


async def test_silence_in_mid_stream_is_one_error(models: ModelFixture) -> None:
    upstream = Upstream(frame("a"))
    upstream.hangs = asyncio.Event()
    async with serving(models, upstream, parameters={"stall_timeout": 0.5}):
        result = await models.stream("m", HI)
        upstream.hangs.set()
    assert result.text() == "a" and not result.done
    assert result.error is not None and "no data arrived for 0.5 s" in result.error.message


@pytest.mark.slow
async def test_silence_until_the_deadline_is_one_error(models: ModelFixture) -> None:
    upstream = Upstream(frame("a"))
    upstream.hangs = asyncio.Event()
    models.runner = Runner(models.registry, UsageLog(models.database), timeout=3)
    async with serving(models, upstream):
        result = await models.stream("m", HI)
        upstream.hangs.set()
    assert result.text() == "a" and not result.done
    assert isinstance(result.error, DeadlineExceeded)


async def test_a_body_that_stalls_half_way_is_one_error(models: ModelFixture) -> None:
    upstream = Upstream(b'{"choices": [')
    upstream.hangs = asyncio.Event()
    async with serving(models, upstream, parameters={"stall_timeout": 0.5}):
        with pytest.raises(EngineFailed, match=r"no data arrived for 0\.5 s"):
            await models.relay("m", HI)
        upstream.hangs.set()


async def test_an_answer_that_is_not_json_is_refused(models: ModelFixture) -> None:
    async with serving(models, Upstream(b"<html>hello</html>")):
        with pytest.raises(EngineFailed):
            await models.relay("m", HI)


async def test_an_unreachable_server_is_reported_without_its_address(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("m", "http://127.0.0.1:9/v1#x"))
    with pytest.raises(EngineFailed) as error_info:
        await models.relay("m", HI)
    assert "'m' cannot be reached or closed the connection: Connection refused" in error_info.value.message
    assert "127.0.0.1" not in error_info.value.message and error_info.value.status == 502


async def test_presets_set_the_task_and_require_their_api_key(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    info = await models.models.add(ModelSpec("e", "remote://openai/text-embedding-3-small"))
    assert (info.task, info.dimensions, info.engine) == ("embedding", 1536, "remote")
    with pytest.raises(PorticoError) as error_info:
        await models.relay("e", {"input": "x"}, "embeddings")
    assert "OPENAI_API_KEY" in error_info.value.message
    with pytest.raises(InvalidRequest, match="openai"):
        await models.models.add(ModelSpec("x", "remote://opnai/gpt"))
