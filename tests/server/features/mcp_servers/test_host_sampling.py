"""An external server samples one of our models: off unless its entry allows it, and within limits."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from tests.registry_fixture import FixedModel, ScriptedServable
from tests.server.features.mcp_servers.test_host import Case, opened, spec

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import Principal
from portico_server.core.request import CalledTool, Chat, ChatReply, Request
from portico_server.core.servable import Card
from portico_server.features.mcp_servers.sampling import OPERATION, chat_of
from portico_server.features.mcp_servers.spec import parse

HELLO = {"role": "user", "content": {"type": "text", "text": "Hello?"}}
ASKED = {"messages": [HELLO], "maxTokens": 500, "systemPrompt": "Be brief.", "stopSequences": ["END"]}


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


async def asked(case: Case, **arguments: Any) -> dict[str, Any]:
    """Return what a session-based server received when it asked."""
    result = await case.use("odd_ask", **arguments)
    document: dict[str, Any] = json.loads(result.text)
    return document


async def test_sampling_is_not_offered_to_a_server_without_a_sampling_entry(case: Case) -> None:
    case.daemon.add(FixedModel("Good day."))
    await case.host.add(spec(), None)
    reply = await asked(case, **ASKED)
    assert reply["offered"] == [] and "not supported" in reply["error"]["message"]


async def test_a_server_allowed_to_sample_is_answered_within_its_limits(case: Case) -> None:
    voice = FixedModel("Good ", "day.")
    case.daemon.add(voice)
    await case.host.add(spec(sampling={"model": "voice", "max_tokens": 40, "calls": 2}), None)
    reply = await asked(case, **ASKED)
    assert reply["offered"] == ["sampling"]
    content = {"type": "text", "text": "Good day."}
    result = {"role": "assistant", "content": content, "model": "voice", "stopReason": "endTurn"}
    assert reply["result"] == result
    (chat,) = voice.asked
    assert [(message["role"], message["content"]) for message in chat.messages] == [
        ("system", "Be brief."),
        ("user", "Hello?"),
    ]
    assert chat.options == {"max_tokens": 40, "stop": ["END"]}
    runs = [(run.caller.id, run.name) for run in case.daemon.runner.list() if run.kind == OPERATION]
    assert runs == [("mcp:odd", "voice")]
    await asked(case, **ASKED)
    assert "2 times an hour" in (await asked(case, **ASKED))["error"]["message"]
    assert len(voice.asked) == 2


async def test_sampling_requests_count_against_the_key_of_the_current_call(case: Case) -> None:
    release_event, start_signal = asyncio.Event(), asyncio.Semaphore(0)

    async def use(_request: Request, _context: Context) -> ChatReply:
        start_signal.release()
        await release_event.wait()
        return ChatReply("Rain.", model="voice", usage=Usage(60, 50))

    case.daemon.add(ScriptedServable(Card("voice", "model", capabilities=frozenset({"chat"})), use))
    runner = case.daemon.runner
    await case.host.add(spec(sampling={"model": "voice"}), None)
    for key in ("key_one", "key_two"):
        runner.quotas.change(key, key, UsageLimits(requests_per_minute=3, concurrency=1))

    async def of(key: str) -> dict[str, Any]:
        result = await case.use("odd_ask", Principal(key, frozenset({"tools:*:call"})), **ASKED)
        assert not result.is_error, result.text
        document: dict[str, Any] = json.loads(result.text)
        return document

    async with asyncio.timeout(30):
        first_call = asyncio.create_task(of("key_one"))
        await start_signal.acquire()
        two = asyncio.create_task(of("key_two"))
        release_event.set()
        for call in (first_call, two):
            reply = await call
            assert reply["result"]["content"]["text"] == "Rain.", reply
        runs = [(run.caller.id, run.owner) for run in runner.list() if run.kind == OPERATION]
        assert runs == [("mcp:odd", "key_two"), ("mcp:odd", "key_one")]
        for key in ("key_one", "key_two"):
            assert "requests per minute" in (await of(key))["error"]["message"]
        assert "result" in await of("key_three")
        release_event.clear()
        cut_off = asyncio.create_task(of("key_three"))
        for _ in range(3):
            await start_signal.acquire()
        await runner.revoke("key_three")
        with pytest.raises(Conflict, match="was cancelled"):
            await cut_off
        [last, *_] = [run for run in runner.list() if run.kind == OPERATION]
        assert (last.owner, last.error and last.error.code) == ("key_three", "key_revoked")


@pytest.mark.slow
async def test_a_sampling_call_without_a_turn_before_its_timeout_fails(case: Case) -> None:
    release_event, start_event = asyncio.Event(), asyncio.Event()

    async def use(_request: Request, _context: Context) -> ChatReply:
        start_event.set()
        await release_event.wait()
        return ChatReply("Rain.", model="voice")

    case.daemon.add(ScriptedServable(Card("voice", "model", capabilities=frozenset({"chat"})), use))
    await case.host.add(spec(sampling={"model": "voice"}, timeout=3), None)
    first_call = asyncio.create_task(case.use("odd_ask", **ASKED))
    async with asyncio.timeout(30):
        await start_event.wait()
        second_principal = Principal("key_one", frozenset({"tools:*:call"}))
        results = [await case.use("odd_ask", second_principal, **ASKED), await first_call]
        assert all(result.is_error for result in results)


async def test_sampling_with_a_missing_model_is_an_error_that_names_it(case: Case) -> None:
    await case.host.add(spec(sampling={"model": "nobody"}), None)
    assert "'nobody' does not exist" in (await asked(case, **ASKED))["error"]["message"]


async def test_tools_of_a_sampling_request_reach_the_model_and_its_calls_are_returned(case: Case) -> None:
    chats: list[Chat] = []

    async def use(request: Request, _context: Context) -> ChatReply:
        assert isinstance(request, Chat)
        chats.append(request)
        return ChatReply("", "tool_calls", (CalledTool("c2", "look", '{"at": "Ulm"}'),), model="voice")

    case.daemon.add(ScriptedServable(Card("voice", "model", capabilities=frozenset({"chat"})), use))
    await case.host.add(spec(sampling={"model": "voice"}), None)
    picture = {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "This?"}, picture]},
        {"role": "assistant", "content": {"type": "tool_use", "id": "c1", "name": "look", "input": {}}},
        {
            "role": "user",
            "content": {
                "type": "tool_result",
                "toolUseId": "c1",
                "content": [{"type": "text", "text": "Rain."}],
            },
        },
    ]
    tools = [{"name": "look", "description": "Looks.", "inputSchema": {"type": "object"}}]
    reply = await asked(case, messages=messages, maxTokens=9, tools=tools, toolChoice={"mode": "required"})
    assert reply["result"]["stopReason"] == "toolUse"
    (called,) = reply["result"]["content"]
    assert (called["id"], called["name"], called["input"]) == ("c2", "look", {"at": "Ulm"})
    first, second, third = chats[0].messages
    assert [part["type"] for part in first["content"]] == ["text", "image_url"]
    assert second["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert third == {"role": "tool", "tool_call_id": "c1", "content": "Rain."}
    assert chats[0].options["tool_choice"] == "required"
    assert chats[0].options["tools"][0]["function"]["name"] == "look"


@asynccontextmanager
async def modern() -> AsyncIterator[str]:
    """Run a 2026-07-28 server made with the Python SDK, whose one tool asks a model; yield its URL."""

    async def offer(_context: ServerRequestContext[Any], _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name="poem", input_schema={"type": "object"})])

    async def call(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        sampling_result = (params.input_responses or {}).get("poem")
        if sampling_result is None:
            question = types.TextContent(type="text", text="A rhyme, please.")
            message_params = types.CreateMessageRequestParams(
                messages=[types.SamplingMessage(role="user", content=question)], max_tokens=20
            )
            request = types.CreateMessageRequest(params=message_params)
            return types.InputRequiredResult(input_requests={"poem": request}, request_state="one")
        assert isinstance(sampling_result, types.CreateMessageResult) and params.request_state == "one"
        reply_text = f"{context.protocol_version}: {sampling_result.content.text}"  # type: ignore[union-attr]  # it is text
        return types.CallToolResult(content=[types.TextContent(type="text", text=reply_text)])

    server: Server[dict[str, Any]] = Server("poet", on_list_tools=offer, on_call_tool=call)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(
        uvicorn.Config(server.streamable_http_app(), log_config=None, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(serving.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        serving.should_exit = True
        await task


async def test_a_server_of_protocol_2026_07_28_samples_by_input_requests(case: Case) -> None:
    case.daemon.add(FixedModel("Roses are red."))
    async with modern() as url:
        sampling = {"model": "voice"}
        await case.host.add(parse({"name": "poet", "url": url, "sampling": sampling}), None)
        result = await case.use("poet_poem")
        assert result.text == "2026-07-28: Roses are red."
        await case.host.remove("poet")


@pytest.mark.parametrize(
    ("field", "noun"), [("messages", "messages"), ("tools", "tools"), ("stopSequences", "stop sequences")]
)
def test_an_oversized_sampling_request_is_refused_before_a_model_is_asked(field: str, noun: str) -> None:
    message = {"role": "user", "content": {"type": "text", "text": "Hi"}}
    oversized_fields = {
        "messages": [message] * 1_001,
        "tools": [{"name": "t", "inputSchema": {"type": "object"}}] * 129,
        "stopSequences": ["x"] * 100,
    }
    sampling_params = {"messages": [message], "maxTokens": 9, field: oversized_fields[field]}
    with pytest.raises(InvalidRequest, match=f"{noun}; at most"):
        chat_of(types.CreateMessageRequestParams.model_validate(sampling_params), 9)
