"""Chat completions: relayed bytes, apps converted to OpenAI's frames, and work that stops when its client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from tests.api_server import ALL, ApiServer, RelayModel, api_server
from tests.registry_fixture import ScriptedServable, passage

from portico.wire import Cited, Delta, Progressed, ToolCalled, Usage
from portico_server.api import exchange
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, Unavailable
from portico_server.core.request import CalledTool, Chat, ChatReply, Embed, Request, Vectors
from portico_server.core.servable import Card

HELLO = [{"role": "user", "content": "Hello"}]
FRAME = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
APP = frozenset({"chat"})


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


def app(name: str, work: Any) -> ScriptedServable:
    return ScriptedServable(Card(name, "app", capabilities=APP), work)


async def cited(request: Request, context: Context) -> ChatReply:
    """Answer as an app that cites, says two words and counts."""
    passages = (passage(1, "The port is 7419."),)
    await context.emit(Cited(passages))
    await context.emit(Progressed("think"))
    await context.emit(Delta("Port "))
    await context.emit(Delta("7419 [1]."))
    return ChatReply("Port 7419 [1].", citations=passages, usage=Usage(11, 4))


async def tooled(request: Request, context: Context) -> ChatReply:
    """Answer as an app that asks for two tools."""
    calls = (CalledTool("call_a", "look", '{"x":1}'), CalledTool("call_b", "look", '{"x":2}'))
    for call in calls:
        await context.emit(ToolCalled(call.id, call.name, call.arguments))
    return ChatReply("", finish_reason="tool_calls", tool_calls=calls)


def frames(text: str) -> list[dict[str, Any]]:
    """Return the JSON documents of a stream that ends with [DONE]."""
    lines = [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def ask(daemon: ApiServer, model: str, **fields: Any) -> Any:
    body = {"model": model, "messages": HELLO, **fields}
    return await daemon.client.post("/v1/chat/completions", json=body)


# --- relay ----------------------------------------------------------------------------------------------------


async def test_a_relayed_answer_is_passed_on_byte_for_byte(daemon: ApiServer) -> None:
    teller = RelayModel("m", b'{"choices": [],', b' "odd":  1.50}')
    daemon.add(teller)
    response = await ask(daemon, "m", mystery={"a": [1]})
    assert response.content == b'{"choices": [], "odd":  1.50}'
    assert response.headers["content-type"] == "application/json"
    assert teller.asked[0].body == {"model": "m", "messages": HELLO, "mystery": {"a": [1]}}


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"port": {"type": "integer"}}}


def call_of_look(call_id: str | None, arguments: Any = "{}") -> dict[str, Any]:
    """Return a call as an assistant's message lists it."""
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def tool_turn(*calls: dict[str, Any], answered_ids: tuple[str | None, ...]) -> list[dict[str, Any]]:
    """Return messages in which an assistant calls tools, and the tools answer the calls with these ids."""
    results = [{"role": "tool", "tool_call_id": call_id, "content": "42"} for call_id in answered_ids]
    return [*HELLO, {"role": "assistant", "content": None, "tool_calls": list(calls)}, *results]


@pytest.mark.parametrize(
    ("sent_fields", "told_fields"),
    [
        # sigoden/aichat 1296
        (
            {"messages": tool_turn(call_of_look(None), call_of_look(""), answered_ids=(None, ""))},
            {
                "messages": tool_turn(
                    call_of_look("call_1_0"), call_of_look("call_1_1"), answered_ids=("call_1_0", "call_1_1")
                )
            },
        ),
        (
            {"messages": tool_turn(call_of_look("a"), call_of_look("b"), answered_ids=("b", None))},
            {"messages": tool_turn(call_of_look("a"), call_of_look("b"), answered_ids=("b", "a"))},
        ),
        (
            {"messages": tool_turn(call_of_look("a", {"city": "Rome"}), answered_ids=("a",))},
            {"messages": tool_turn(call_of_look("a", '{"city":"Rome"}'), answered_ids=("a",))},
        ),
        # ggml-org/llama.cpp 28697, 10732
        (
            {"response_format": {"type": "json_schema", "schema": SCHEMA}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": SCHEMA, "name": "answer"},
                }
            },
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "name": None}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": SCHEMA, "name": "answer"},
                }
            },
        ),
    ],
)
async def test_forms_of_other_servers_reach_the_model_in_openais_form(
    daemon: ApiServer, sent_fields: dict[str, Any], told_fields: dict[str, Any]
) -> None:
    teller = RelayModel("m", b'{"choices": []}')
    daemon.add(teller)
    assert (await ask(daemon, "m", **sent_fields)).status_code == 200
    assert teller.asked[0].body == {"model": "m", "messages": HELLO, **told_fields}


@pytest.mark.parametrize(
    ("sent_fields", "param"),
    [
        ({"messages": tool_turn(call_of_look("a"), answered_ids=("a", None))}, "messages[3].tool_call_id"),
        ({"messages": tool_turn(call_of_look("a"), answered_ids=("b",))}, "messages[2].tool_call_id"),
        ({"messages": tool_turn(answered_ids=(None,))}, "messages[2].tool_call_id"),
        (
            {"messages": tool_turn(call_of_look("a", [1]), answered_ids=())},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"response_format": {"type": "json_schema", "schema": "x"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_other_forms_whose_intention_is_unclear_are_refused(
    daemon: ApiServer, sent_fields: dict[str, Any], param: str
) -> None:
    daemon.add(RelayModel("m", b'{"choices": []}'))
    response = await ask(daemon, "m", **sent_fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_relayed_stream_is_passed_on_frame_for_frame(daemon: ApiServer) -> None:
    daemon.add(RelayModel("m", FRAME, b": loading\n\n", b"data: [DONE]\n\n"))
    response = await ask(daemon, "m", stream=True)
    assert response.content == FRAME + b": loading\n\n" + b"data: [DONE]\n\n"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_byte_has_its_status(daemon: ApiServer, stream: bool) -> None:
    daemon.add(
        RelayModel("m", error=InvalidRequest("Too long.", code="context_length_exceeded", param="messages"))
    )
    response = await ask(daemon, "m", stream=stream)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_an_error_in_mid_stream_is_the_last_frame_and_reported_once(daemon: ApiServer) -> None:
    daemon.add(RelayModel("m", FRAME, error=EngineFailed("It broke.")))
    response = await ask(daemon, "m", stream=True)
    assert response.status_code == 200
    assert response.text.count("It broke.") == 1
    assert "[DONE]" not in response.text
    [run] = (await daemon.client.get("/api/runs")).json()["data"]
    assert (run["status"], run["error"]["code"]) == ("failed", "engine_failed")


async def test_a_call_leaves_a_usage_row(daemon: ApiServer) -> None:
    daemon.add(RelayModel("m", b"{}"))
    for calls in range(1, 6):  # the usage is read immediately after each answer
        await ask(daemon, "m")
        [total] = (await daemon.client.get("/api/usage")).json()["data"]
        assert (total["name"], total["calls"], total["prompt_tokens"]) == ("m", calls, 3 * calls)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_disconnect_cancels_the_run_of_a_model(daemon: ApiServer, stream: bool) -> None:
    teller = RelayModel("m", FRAME, hold=asyncio.Event())
    daemon.add(teller)
    call = asyncio.create_task(ask(daemon, "m", stream=stream))
    await teller.began.wait()
    call.cancel()
    async with asyncio.timeout(60):
        await teller.left.wait()
    [run] = (await daemon.client.get("/api/runs")).json()["data"]
    assert run["status"] == "cancelled"


async def test_a_client_disconnect_cancels_a_model_before_its_first_byte(daemon: ApiServer) -> None:
    class Slow(RelayModel):
        async def relay(self, request: Any, context: Context) -> Any:
            self.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()

    slow = Slow("m")
    daemon.add(slow)
    call = asyncio.create_task(ask(daemon, "m"))
    await slow.began.wait()
    call.cancel()
    async with asyncio.timeout(60):
        await slow.left.wait()


async def test_a_silent_stream_is_kept_alive_by_comments(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "KEEPALIVE_INTERVAL_S", 0.02)
    hold = asyncio.Event()
    daemon.add(RelayModel("m", FRAME, hold=hold))
    body = {"model": "m", "messages": HELLO, "stream": True}
    async with daemon.client.stream("POST", "/v1/chat/completions", json=body) as response:
        data = b""
        async for piece in response.aiter_bytes():
            data += piece
            if data.count(b": keep-alive\n\n") == 2:
                hold.set()
    assert data.startswith(FRAME)
    assert data.replace(b": keep-alive\n\n", b"") == FRAME


# --- apps -----------------------------------------------------------------------------------------------------


async def test_an_app_answers_as_a_model_with_its_citations(daemon: ApiServer) -> None:
    daemon.add(app("docs", cited))
    response = await ask(daemon, "docs")
    assert response.headers["x-portico-run"].startswith("run_")
    answer = response.json()
    message = answer["choices"][0]["message"]
    assert message["content"] == "Port 7419 [1]."
    [note] = message["annotations"]
    assert note["type"] == "file_citation"
    assert note["file_citation"]["quote"] == "The port is 7419."
    assert note["file_citation"]["index"] == 1
    assert note["file_citation"]["place"]["label"] == "line 1 · Ports"
    assert answer["usage"]["total_tokens"] == 15


async def test_an_app_streams_role_words_citations_and_the_end(daemon: ApiServer) -> None:
    daemon.add(app("docs", cited))
    chunks = frames((await ask(daemon, "docs", stream=True)).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta.get("content") for delta in deltas[1:3]] == ["Port ", "7419 [1]."]
    assert deltas[3]["annotations"][0]["file_citation"]["filename"] == "guide.md"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


async def test_an_app_streams_usage_only_when_asked_and_last(daemon: ApiServer) -> None:
    daemon.add(app("docs", cited))
    plain = frames((await ask(daemon, "docs", stream=True)).text)
    assert all(chunk["choices"] for chunk in plain)
    chunks = frames((await ask(daemon, "docs", stream=True, stream_options={"include_usage": True})).text)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert all(chunk["choices"] for chunk in chunks[:-1])


async def test_the_answer_of_an_app_without_deltas_is_streamed(daemon: ApiServer) -> None:
    async def quiet(_request: Request, _context: Context) -> ChatReply:
        return ChatReply("All at once.")

    daemon.add(app("quiet", quiet))
    chunks = frames((await ask(daemon, "quiet", stream=True)).text)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "All at once."


@pytest.mark.conformance("OpenAI", "Chat completions: streamed tool calls", "openai")
async def test_the_openai_client_puts_an_apps_tool_calls_together(daemon: ApiServer) -> None:
    daemon.add(app("agent", tooled))
    client = AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="local", max_retries=0)
    async with client.chat.completions.stream(model="agent", messages=HELLO) as stream:  # type: ignore[arg-type]
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [(call.id, call.function.arguments) for call in calls] == [
        ("call_a", '{"x":1}'),
        ("call_b", '{"x":2}'),
    ]
    assert final.choices[0].finish_reason == "tool_calls"
    choice = (await ask(daemon, "agent")).json()["choices"][0]
    assert choice["message"]["content"] is None
    assert len(choice["message"]["tool_calls"]) == 2
    await client.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_app_that_fails_before_its_first_word_has_a_status(daemon: ApiServer, stream: bool) -> None:
    async def fail(_request: Request, context: Context) -> ChatReply:
        await context.emit(Progressed("load"))
        raise Unavailable("The model is not there.", retry_after=3)

    daemon.add(app("down", fail))
    response = await ask(daemon, "down", stream=stream)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"


async def test_an_app_that_fails_after_its_first_word_says_so_in_the_last_frame(daemon: ApiServer) -> None:
    async def fail(_request: Request, context: Context) -> ChatReply:
        await context.emit(Delta("Well"))
        raise EngineFailed("It broke.")

    daemon.add(app("down", fail))
    text = (await ask(daemon, "down", stream=True)).text
    assert text.count("It broke.") == 1
    assert json.loads(text.rstrip().rpartition("data: ")[2])["error"]["code"] == "engine_failed"


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}])
async def test_options_that_an_app_does_not_support_are_refused(
    daemon: ApiServer, fields: dict[str, Any]
) -> None:
    daemon.add(app("docs", cited))
    response = await ask(daemon, "docs", **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(fields))


async def test_an_app_gets_every_other_field_as_an_option(daemon: ApiServer) -> None:
    requests: list[Request] = []

    async def listen(request: Request, _context: Context) -> ChatReply:
        requests.append(request)
        return ChatReply("yes")

    daemon.add(app("ear", listen))
    await ask(daemon, "ear", temperature=0.5, stream=False, n=1)
    assert requests == [Chat(tuple(HELLO), {"temperature": 0.5})]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_disconnect_cancels_an_app(daemon: ApiServer, stream: bool) -> None:
    began, end_event = asyncio.Event(), asyncio.Event()

    async def wait(_request: Request, context: Context) -> ChatReply:
        await context.emit(Delta("Well"))
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            end_event.set()
        raise AssertionError

    daemon.add(app("slow", wait))
    call = asyncio.create_task(ask(daemon, "slow", stream=stream))
    await began.wait()
    call.cancel()
    async with asyncio.timeout(60):
        await end_event.wait()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_cancelled_by_another_request_is_a_409(daemon: ApiServer, stream: bool) -> None:
    began = asyncio.Event()

    async def wait(_request: Request, _context: Context) -> ChatReply:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    daemon.add(app("slow", wait))
    call = asyncio.create_task(ask(daemon, "slow", stream=stream))
    await began.wait()
    [run] = (await daemon.client.get("/api/runs")).json()["data"]
    assert (await daemon.client.post(f"/api/runs/{run['id']}/cancel")).json()["status"] == "cancelled"
    response = await call
    assert (response.status_code, response.json()["error"]["code"]) == (409, "cancelled")


# --- which model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/chat/completions", {"messages": HELLO}, "vectors"),
        ("/v1/completions", {"prompt": "x"}, "vectors"),
        ("/v1/embeddings", {"input": "x"}, "talker"),
    ],
)
async def test_a_model_without_the_capability_is_refused_with_a_capable_model(
    daemon: ApiServer, path: str, body: dict[str, Any], model: str
) -> None:
    daemon.add(RelayModel("vectors", capabilities=frozenset({"embeddings"})))
    daemon.add(RelayModel("talker", capabilities=ALL - {"embeddings"}))
    response = await daemon.client.post(path, json={"model": model, **body})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "model")
    assert ({"talker", "vectors"} - {model}).pop() in error["message"]


async def test_a_guessed_task_is_named_with_its_correction(daemon: ApiServer) -> None:
    daemon.add(RelayModel("embed-tutor", capabilities=frozenset({"embeddings"}), has_guessed_task=True))
    daemon.add(RelayModel("talker"))
    for path, body in (("chat/completions", {"messages": HELLO}), ("responses", {"input": "x"})):
        response = await daemon.client.post(f"/v1/{path}", json={"model": "embed-tutor", **body})
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, "model")
        assert "'task: chat'" in error["message"] and "talker" not in error["message"]


WITHOUT_MODEL: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": HELLO}),
    ("/v1/completions", {"prompt": "x"}),
    ("/v1/embeddings", {"input": "x"}),
    ("/v1/responses", {"input": "x"}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 9}),
    ("/v1/audio/speech", {"input": "x"}),
    ("/v1/images/generations", {"prompt": "x"}),
]


@pytest.mark.parametrize(("path", "body"), WITHOUT_MODEL)
async def test_a_request_without_a_model_goes_to_the_only_suitable_model(
    daemon: ApiServer, path: str, body: dict[str, Any]
) -> None:
    async def choose() -> Any:
        response = await daemon.client.post(path, json=body)
        error = response.json()["error"]
        assert (response.status_code, error.get("param", "model")) == (400, "model"), error
        return error["message"]

    assert "No model supports" in await choose()
    answer = b'{"data":[],"choices":[{"message":{"content":"Hi."},"finish_reason":"stop"}]}'
    daemon.add(app("docs", cited))
    daemon.add(RelayModel("other", answer, capabilities=frozenset({"rerank"})))
    suitable = RelayModel("suitable", answer, capabilities=ALL | {"speech", "image"})
    daemon.add(suitable)
    response = await daemon.client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert suitable.asked[0].body["model"] == "suitable"
    daemon.add(RelayModel("second", capabilities=ALL | {"speech", "image"}))
    assert "second, suitable" in await choose()


async def test_an_unknown_model_is_a_404_with_the_nearest_name(daemon: ApiServer) -> None:
    daemon.add(RelayModel("llama"))
    response = await ask(daemon, "lama")
    assert response.json()["error"]["code"] == "model_not_found"
    assert "'llama'" in response.json()["error"]["message"]


async def test_names_with_slashes_and_aliases_are_models(daemon: ApiServer) -> None:
    daemon.add(RelayModel("org/model", b"{}"))
    daemon.services.registry.aliases.set("fast", "org/model")
    names = [model["id"] for model in (await daemon.client.get("/v1/models")).json()["data"]]
    assert names == ["org/model", "fast"]
    assert (await daemon.client.get("/v1/models/org/model")).json()["id"] == "org/model"
    assert (await daemon.client.get("/v1/models/org%2Fmodel")).json()["id"] == "org/model"
    assert (await daemon.client.get("/v1/models/fast")).json()["alias_of"] == "org/model"
    assert (await ask(daemon, "fast")).status_code == 200


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_any_servable_can_embed(daemon: ApiServer, encoding: str | None) -> None:
    texts: list[tuple[str, ...]] = []

    async def embed(request: Request, _context: Context) -> Vectors:
        assert isinstance(request, Embed)
        texts.append(request.input)
        return Vectors((b"\x00\x00\x80\x3f\x00\x00\x00\x40",), 2, Usage(1))

    daemon.add(ScriptedServable(Card("own", "model", capabilities=frozenset({"embeddings"})), embed))
    body = {"model": "own", "input": "x", "encoding_format": encoding}
    [item] = (await daemon.client.post("/v1/embeddings", json=body)).json()["data"]
    assert item["embedding"] == ("AACAPwAAAEA=" if encoding == "base64" else [1.0, 2.0])
    tokens = await daemon.client.post("/v1/embeddings", json={"model": "own", "input": [9906, 220, 1917]})
    assert tokens.status_code == 200 and texts == [("x",), ("Hello  world",)]
