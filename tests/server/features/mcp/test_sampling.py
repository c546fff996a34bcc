"""The model that a client lends to what it calls, under the name ``client``, in both protocol eras."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import mcp_types as types
import pytest
from mcp import MCPError
from tests.mcp_service import Service
from tests.registry_fixture import ScriptedServable
from tests.server.features.mcp.conftest import Connect, Era

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat, ChatReply, Message, Request, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.models.client_model import ClientModels

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PIXEL = "iVBORw0KGgo="
TOOLS = types.SamplingCapability(tools=types.SamplingToolsCapability())


@pytest.fixture
def daemon(service: Service) -> Service:
    """A tool that passes its arguments to the caller's model, once for each of ``times``."""

    async def ask(request: Request, context: Context) -> ToolResult:
        assert isinstance(request, ToolCall)
        arguments = request.arguments
        messages = tuple(arguments.get("messages") or [{"role": "user", "content": "Hello?"}])
        calls = [
            context.call("client", Chat(messages, arguments.get("options") or {}))
            for _ in range(arguments.get("times", 1))
        ]
        replies = [reply for reply in await asyncio.gather(*calls) if isinstance(reply, ChatReply)]
        text = " ".join(reply.content for reply in replies)
        call_texts = [f"{call.name}({call.arguments})" for reply in replies for call in reply.tool_calls]
        return ToolResult(f"{text}|{','.join(call_texts)}|{replies[0].finish_reason}|{replies[0].model}")

    service.daemon.registry.add_source(ClientModels())
    service.daemon.add(ScriptedServable(Card("ask", "tool"), ask))
    return service


def speaking(
    answer: Callable[[types.CreateMessageRequestParams], Any],
) -> tuple[Any, list[types.CreateMessageRequestParams]]:
    """Return a client's sampling handler: the answers of its model, and the requests it received."""
    requests: list[types.CreateMessageRequestParams] = []

    async def sample(_context: Any, params: types.CreateMessageRequestParams) -> Any:
        requests.append(params)
        return answer(params)

    return sample, requests


def saying(text: str, reason: str = "endTurn") -> Callable[[Any], types.CreateMessageResult]:
    content = types.TextContent(type="text", text=text)
    return lambda _params: types.CreateMessageResult(
        role="assistant", content=content, model="theirs", stop_reason=reason
    )


async def call(connect: Connect, sample: Any, arguments: dict[str, Any], **options: Any) -> Any:
    async with asyncio.timeout(60), connect(sampling_callback=sample, **options) as client:
        return await client.call_tool("ask", arguments)


async def test_the_model_named_client_is_sampled_from_the_mcp_client(
    connect: Connect, daemon: Service
) -> None:
    sample, requests = speaking(saying("Good day.", "maxTokens"))
    messages: list[Message] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes?"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        },
    ]
    options = {"max_tokens": 7, "temperature": 0.5, "stop": "END"}
    result = await call(connect, sample, {"messages": messages, "options": options})
    assert result.content[0].text == "Good day.||length|theirs"
    (params,) = requests
    assert (params.system_prompt, params.max_tokens, params.temperature) == ("Be brief.", 7, 0.5)
    assert params.stop_sequences == ["END"]
    assert [message.role for message in params.messages] == ["user", "assistant", "user"]
    words, picture = params.messages[2].content_as_list
    assert isinstance(words, types.TextContent) and words.text == "What is this?"
    assert isinstance(picture, types.ImageContent) and (picture.mime_type, picture.data) == (
        "image/png",
        PIXEL,
    )


async def test_several_questions_of_one_run_are_all_answered(connect: Connect, daemon: Service) -> None:
    sample, requests = speaking(saying("Yes."))
    assert (await call(connect, sample, {"times": 3})).content[0].text == "Yes. Yes. Yes.||stop|theirs"
    assert len(requests) == 3 and all(params.max_tokens == 4096 for params in requests)


async def test_a_client_model_calls_tools_if_the_client_declares_support(
    connect: Connect, daemon: Service
) -> None:
    def use(_params: types.CreateMessageRequestParams) -> types.CreateMessageResultWithTools:
        called = types.ToolUseContent(type="tool_use", id="c2", name="weather", input={"place": "Bern"})
        return types.CreateMessageResultWithTools(
            role="assistant", content=[called], model="theirs", stop_reason="toolUse"
        )

    sample, requests = speaking(use)
    called = {"name": "weather", "arguments": '{"place": "Ulm"}'}
    messages = [
        {"role": "user", "content": "And the weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": called}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
    ]
    arguments = {"messages": messages, "options": {"tools": [WEATHER], "tool_choice": "required"}}
    result = await call(connect, sample, arguments, sampling_capabilities=TOOLS)
    assert result.content[0].text == '|weather({"place": "Bern"})|tool_calls|theirs'
    (params,) = requests
    assert [tool.name for tool in params.tools or ()] == ["weather"]
    assert params.tool_choice is not None and params.tool_choice.mode == "required"
    (use_before,) = params.messages[1].content_as_list
    (result_before,) = params.messages[2].content_as_list
    assert isinstance(use_before, types.ToolUseContent) and use_before.input == {"place": "Ulm"}
    assert isinstance(result_before, types.ToolResultContent) and result_before.tool_use_id == "c1"


async def test_tools_for_a_client_model_without_tool_support_are_refused(
    connect: Connect, daemon: Service
) -> None:
    sample, requests = speaking(saying("?"))
    result = await call(connect, sample, {"options": {"tools": [WEATHER]}})
    assert result.is_error and "cannot call tools" in result.content[0].text and not requests


async def test_a_response_schema_is_added_to_the_system_prompt(connect: Connect, daemon: Service) -> None:
    sample, requests = speaking(saying('{"a": 1}'))
    schema = {"type": "object", "required": ["a"]}
    options = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    await call(connect, sample, {"options": options})
    assert '"required": ["a"]' in (requests[0].system_prompt or "")


async def test_a_client_without_the_sampling_capability_gets_an_error(
    connect: Connect, daemon: Service
) -> None:
    async with asyncio.timeout(60), connect() as client:
        result: Any = await client.call_tool("ask", {})
    assert result.is_error and "declares 'sampling'" in result.content[0].text


async def test_a_call_outside_mcp_has_no_client_model(daemon: Service) -> None:
    with pytest.raises(PorticoError) as error_info:
        await daemon.daemon.call("client", Chat(({"role": "user", "content": "Hello?"},)))
    assert (error_info.value.status, error_info.value.code) == (400, "no_model_lent")
    assert "client" not in [card.name for card in await daemon.daemon.registry.cards(LOCAL)]


async def test_a_sampling_refusal_by_the_user_fails_the_call(
    connect: Connect, daemon: Service, era: Era
) -> None:
    refusal = types.ErrorData(code=-1, message="The user said no.")
    sample, requests = speaking(lambda _params: refusal)
    async with asyncio.timeout(60), connect(sampling_callback=sample) as client:
        if era == "legacy":
            result: Any = await client.call_tool("ask", {})
            assert result.is_error and "The user said no." in result.content[0].text
        else:  # the client itself abandons the call
            with pytest.raises(MCPError, match="The user said no"):
                await client.call_tool("ask", {})
    assert len(requests) == 1
