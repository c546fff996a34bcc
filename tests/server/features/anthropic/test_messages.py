"""``/v1/messages`` over HTTP: models, apps, and errors in Anthropic's form."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.api_server import ApiServer, RelayModel
from tests.registry_fixture import ScriptedServable, passage
from tests.server.features.anthropic.talk import HELLO, ask, frames, refused

from portico.wire import Cited, Delta, ToolCalled, Usage
from portico_server.api import exchange
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, TooMany, Unavailable
from portico_server.core.limits import UsageLimits
from portico_server.core.request import CalledTool, Chat, ChatReply, Request
from portico_server.core.servable import Card
from portico_server.models.openai_wire import UpstreamFailed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("emptied")]

FRAME = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[{"message":{"content":"Hi."},"finish_reason":"stop"}]}'


def app(work: Any) -> ScriptedServable:
    return ScriptedServable(Card("docs", "app", capabilities=frozenset({"chat"})), work)


# --- models ---------------------------------------------------------------------------------------------------


async def test_a_model_answers_with_a_message(served: ApiServer) -> None:
    teller = RelayModel("m", WHOLE)
    served.add(teller)
    message = (await ask(served, system="Be brief.")).json()
    assert message["content"] == [{"type": "text", "text": "Hi."}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "m")
    assert (message["stop_reason"], message["usage"]["input_tokens"]) == ("end_turn", 3)
    [model_request] = teller.asked
    assert model_request.body["messages"] == [{"role": "system", "content": "Be brief."}, *HELLO]
    assert model_request.original is None


async def test_a_model_streams(served: ApiServer) -> None:
    served.add(RelayModel("m", b": loading m\n\n", FRAME, FRAME, DONE))
    response = await ask(served, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    kinds = [frame["type"] for frame in frames(response.text)]
    assert kinds == [
        "ping",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_a_silent_stream_is_kept_alive_by_pings(
    served: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "KEEPALIVE_INTERVAL_S", 0.02)
    hold = asyncio.Event()
    served.add(RelayModel("m", FRAME, hold=hold))
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": True}
    async with served.client.stream("POST", "/v1/messages", json=body) as response:
        stream_data = b""
        async for piece in response.aiter_bytes():
            stream_data += piece
            if stream_data.count(b"event: ping\n") == 2:
                hold.set()
    assert frames(stream_data.decode())[-1]["type"] == "message_stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_disconnect_cancels_the_run_of_a_model(served: ApiServer, stream: bool) -> None:
    teller = RelayModel("m", FRAME, hold=asyncio.Event())
    served.add(teller)
    call = asyncio.create_task(ask(served, stream=stream))
    async with asyncio.timeout(60):
        await teller.began.wait()
        call.cancel()
        await teller.left.wait()
    runs = (await served.client.get("/api/runs")).json()["data"]
    assert runs[0]["status"] == "cancelled"


async def test_a_call_counts_as_a_chat_does(served: ApiServer) -> None:
    served.add(RelayModel("counted", WHOLE))
    await ask(served, "counted")
    await served.services.runner.close()  # writes the collected rows
    totals = (await served.client.get("/api/usage")).json()["data"]
    [total] = [total for total in totals if total["name"] == "counted"]
    assert (total["operation"], total["calls"], total["prompt_tokens"]) == ("chat/completions", 1, 3)


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("Too long."), 400, "invalid_request_error"),
        (TooMany("Wait."), 429, "rate_limit_error"),
        (Unavailable("The disk is full."), 529, "overloaded_error"),
        (UpstreamFailed("Busy.", 529), 529, "overloaded_error"),
        (EngineFailed("It broke."), 502, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_byte_has_its_status(
    served: ApiServer, error: PorticoError, status: int, kind: str, stream: bool
) -> None:
    served.add(RelayModel("m", error=error))
    assert refused(await ask(served, stream=stream)) == (status, kind)


async def test_an_error_in_mid_stream_is_its_last_event_and_reported_once(served: ApiServer) -> None:
    served.add(RelayModel("m", FRAME, error=EngineFailed("It broke.")))
    response = await ask(served, stream=True)
    assert response.status_code == 200 and response.text.count("It broke.") == 1
    last = response.text.strip().split("\n\n")[-1]
    assert last.startswith("event: error\n")
    assert frames(last)[0]["error"] == {"type": "api_error", "message": "It broke."}


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "kind"),
    [
        ("POST", "", b'{"model": "nope"}', {}, 404, "not_found_error"),
        ("POST", "", b'{"model": "m"}', {}, 400, "invalid_request_error"),
        ("POST", "", b"{", {}, 400, "invalid_request_error"),
        ("POST", "", b"[]", {}, 400, "invalid_request_error"),
        ("POST", "", b"x" * 2_000_000, {}, 413, "request_too_large"),
        ("POST", "", b"{}", {"x-api-key": "pk-wrong"}, 401, "authentication_error"),
        ("POST", "", b"{}", {"authorization": "Basic x"}, 401, "authentication_error"),
        ("POST", "", b"{}", {"host": "evil.example"}, 401, "authentication_error"),
        ("GET", "", b"", {}, 405, "invalid_request_error"),
        ("POST", "/nothing", b"{}", {}, 404, "not_found_error"),
        ("GET", "/batches/b1/results", b"", {}, 404, "not_found_error"),
    ],
)
async def test_routing_and_authentication_errors_have_the_anthropic_format(
    served: ApiServer, method: str, path: str, content: bytes, headers: Any, status: int, kind: str
) -> None:
    served.add(RelayModel("m", WHOLE))
    response = await served.client.request(
        method,
        f"/v1/messages{path}",
        content=content,
        headers={"content-type": "application/json", **headers},
    )
    assert refused(response) == (status, kind)


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}])
@pytest.mark.parametrize("path", ["", "/count_tokens"])
async def test_a_thread_is_refused_so_that_clients_send_the_whole_conversation(
    served: ApiServer, thread: dict[str, str], path: str
) -> None:
    served.add(RelayModel("m"))
    answer = await ask(served, path=path, thread=thread)
    assert refused(answer) == (400, "invalid_request_error")
    assert answer.json()["error"]["details"] == {"error_code": "thread_unsupported_request"}


async def test_errors_of_other_paths_keep_the_openai_format(served: ApiServer) -> None:
    response = await served.client.get("/v1/nowhere")
    assert response.json()["error"]["code"] == "unknown_url" and "request-id" not in response.headers


async def test_either_header_carries_the_key_and_its_scopes_and_limits_hold(served: ApiServer) -> None:
    served.add(RelayModel("m", WHOLE))
    _, secret = await served.auth.create("one", ["chat"], UsageLimits(requests_per_minute=2))
    _, second_secret = await served.auth.create("two", ["stores:*:read"])
    for headers in ({"x-api-key": secret}, {"authorization": f"Bearer {secret}"}):
        response = await served.client.post(
            "/v1/messages", json={"model": "m", "max_tokens": 9, "messages": HELLO}, headers=headers
        )
        assert response.status_code == 200
    for key, expected_error in (
        (secret, (429, "rate_limit_error")),
        (second_secret, (403, "permission_error")),
    ):
        response = await served.client.post(
            "/v1/messages",
            json={"model": "m", "max_tokens": 9, "messages": HELLO},
            headers={"x-api-key": key},
        )
        assert refused(response) == expected_error


# --- apps -----------------------------------------------------------------------------------------------------


async def cited(request: Request, context: Context) -> ChatReply:
    """Answer as an app with a citation and two words."""
    passages = (passage(1, "The port is 7419."),)
    await context.emit(Cited(passages))
    await context.emit(Delta("Port "))
    await context.emit(Delta("7419 [1]."))
    return ChatReply("Port 7419 [1].", citations=passages, usage=Usage(11, 4))


CITATION = {
    "type": "char_location",
    "cited_text": "The port is 7419.",
    "document_index": 0,
    "document_title": "guide.md",
    "file_id": "file-1",
    "start_char_index": 0,
    "end_char_index": 0,
    "store": "docs",
    "score": 0.9,
}


async def test_an_app_answers_with_citations(served: ApiServer) -> None:
    served.add(app(cited))
    response = await ask(served, "docs")
    assert response.headers["x-portico-run"].startswith("run_")
    message = response.json()
    assert message["content"] == [{"type": "text", "text": "Port 7419 [1].", "citations": [CITATION]}]
    assert message["usage"]["output_tokens"] == 4


async def test_an_app_streams_words_and_citations(served: ApiServer) -> None:
    served.add(app(cited))
    stream_frames = frames((await ask(served, "docs", stream=True)).text)
    deltas = [frame["delta"] for frame in stream_frames if frame["type"] == "content_block_delta"]
    assert [delta.get("text") for delta in deltas] == ["Port ", "7419 [1].", None]
    assert deltas[2]["citation"] == CITATION
    assert stream_frames[-2]["usage"]["input_tokens"] == 11


@pytest.mark.parametrize("stream", [False, True])
async def test_an_app_asks_for_tools(served: ApiServer, stream: bool) -> None:
    async def tooled(request: Request, context: Context) -> ChatReply:
        assert isinstance(request, Chat) and request.options["max_tokens"] == 9
        call = CalledTool("call_a", "look", '{"x":1}')
        await context.emit(ToolCalled(call.id, call.name, call.arguments))
        return ChatReply("", finish_reason="tool_calls", tool_calls=(call,))

    served.add(app(tooled))
    response = await ask(served, "docs", stream=stream)
    if stream:
        stream_frames = frames(response.text)
        [block] = [
            frame["content_block"] for frame in stream_frames if frame["type"] == "content_block_start"
        ]
        assert stream_frames[-2]["delta"]["stop_reason"] == "tool_use"
    else:
        [block] = response.json()["content"]
    assert (block["type"], block["id"], block["name"]) == ("tool_use", "call_a", "look")


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_an_app_cancels_its_run(served: ApiServer, stream: bool) -> None:
    began, cancel_event = asyncio.Event(), asyncio.Event()

    async def waits(request: Request, context: Context) -> ChatReply:
        await context.emit(Delta("Port "))
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancel_event.set()
        raise AssertionError

    served.add(app(waits))
    call = asyncio.create_task(ask(served, "docs", stream=stream))
    await began.wait()
    call.cancel()
    async with asyncio.timeout(60):
        await cancel_event.wait()


async def test_an_app_that_fails_in_mid_stream_says_so(served: ApiServer) -> None:
    async def fails(request: Request, context: Context) -> ChatReply:
        await context.emit(Delta("Port "))
        raise EngineFailed("It broke.")

    served.add(app(fails))
    stream_frames = frames((await ask(served, "docs", stream=True)).text)
    assert stream_frames[-1]["error"]["type"] == "api_error"


async def test_token_counting_for_an_app_is_refused(served: ApiServer) -> None:
    served.add(app(cited))
    response = await ask(served, "docs", "/count_tokens")
    assert refused(response) == (400, "invalid_request_error")
