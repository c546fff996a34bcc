"""Anthropic's Messages API behind OpenAI's chat API, against answers written from its public documentation."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from tests.server.models.engines.remote.provider import Answer, Provider, serving

from portico.testing.model_fixture import ModelFixture, Streamed, user
from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.models.engines.remote.anthropic_messages import request_of
from portico_server.models.spec import ModelSpec

MESSAGE = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-without-a-price",
    "content": [{"type": "text", "text": "Hi! My name is Claude."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 2095,
        "output_tokens": 503,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 5,
    },
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
    },
}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    parts = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    start_event = event("content_block_start", index=index, content_block=start)
    return start_event + b"".join(parts) + event("content_block_stop", index=index)


def said(*texts: str) -> bytes:
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return block(0, {"type": "text", "text": ""}, *deltas)


START = event(
    "message_start",
    message={
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 25, "output_tokens": 1},
    },
)
PING = event("ping")
STOP = event("message_stop")


def end(reason: str = "end_turn", tokens: int = 15, stop_sequence: str | None = None) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": stop_sequence}
    return event("message_delta", delta=delta, usage={"output_tokens": tokens}) + STOP


async def claude(models: ModelFixture, provider: Provider, **parameters: Any) -> None:
    parameters = {"base_url": provider.url, "retries": 0, **parameters}
    await models.models.add(
        ModelSpec(
            "claude", "remote://anthropic/claude-without-a-price", api_key="sk-a", parameters=parameters
        )
    )


async def stream(models: ModelFixture, *frames: bytes, **body: Any) -> Streamed:
    async with serving(Answer(b"".join(frames), headers={"Content-Type": "text/event-stream"})) as provider:
        await claude(models, provider)
        return await models.stream("claude", {"messages": user("hi"), **body})


# --- requests -----------------------------------------------------------------------------------------------


def test_a_conversation_with_tools_and_images_is_translated_for_anthropic() -> None:
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.jpg"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "a cat"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "In French."},
    ]
    request = request_of({"messages": messages, "max_tokens": 9}, "claude")
    assert request == {
        "model": "claude",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "In French."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.jpg"}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "text", "text": "a cat"}],
                    },
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("given", "theirs"),
    [
        ({}, {"max_tokens": 8192}),
        ({"max_completion_tokens": 3, "max_tokens": 4}, {"max_tokens": 3}),
        ({"temperature": 1.7, "top_p": 0.5}, {"temperature": 1.0, "top_p": 0.5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"n": 1, "logprobs": False, "store": True, "seed": 1}, {}),
        ({"thinking": {"type": "enabled"}, "top_k": 5}, {"thinking": {"type": "enabled"}, "top_k": 5}),
        ({"tools": [WEATHER], "tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        ({"tools": [WEATHER], "tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            {"tool_choice": {"type": "tool", "name": "get_weather"}},
        ),
        (
            {"tools": [WEATHER], "parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
        ),
    ],
)
def test_openai_options_are_translated_to_anthropic_options(
    given: dict[str, Any], theirs: dict[str, Any]
) -> None:
    request = request_of({"messages": user("hi"), **given}, "claude")
    tools = [
        {
            "name": "get_weather",
            "description": "The weather in a city",
            "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index]
        }
    ]
    expected_request = {
        "model": "claude",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert request == expected_request | ({"tools": tools} if "tools" in given else {}) | theirs


def test_json_mode_without_a_schema_becomes_a_system_instruction() -> None:
    request = request_of({"messages": user("hi"), "response_format": {"type": "json_object"}}, "claude")
    assert "JSON" in request["system"][0]["text"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tool_choice": "maybe", "tools": [WEATHER]}, "tool_choice"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png,AA"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_options_without_an_anthropic_equivalent_are_refused_by_name(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        request_of({"messages": user("hi"), **body}, "claude")
    assert error_info.value.param == param


# --- answers ------------------------------------------------------------------------------------------------


async def test_an_anthropic_message_becomes_an_openai_completion(models: ModelFixture) -> None:
    async with serving(Answer(MESSAGE)) as provider:
        await claude(models, provider, max_tokens=77)
        relayed = await models.relay("claude", {"messages": user("hi")})
        completion = orjson.loads(b"".join([chunk async for chunk in relayed.chunks]))
    assert provider.paths == ["/v1/messages"] and provider.bodies[0]["max_tokens"] == 77
    headers = provider.headers[0]
    assert headers["x-api-key"] == "sk-a" and headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in headers
    assert relayed.usage == Usage(2120, 503, 5)
    [choice] = completion["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hi! My name is Claude.", "refusal": None}
    assert choice["finish_reason"] == "stop" and completion["object"] == "chat.completion"
    assert (
        completion["id"] == MESSAGE["id"]
        and completion["model"] == "claude-without-a-price"
        and completion["created"] > 0
    )
    assert completion["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
    ],
)
async def test_anthropic_stop_reasons_become_openai_finish_reasons(
    models: ModelFixture, reason: str, ours: str
) -> None:
    async with serving(Answer({**MESSAGE, "stop_reason": reason})) as provider:
        await claude(models, provider)
        assert (await models.ask("claude", {"messages": user("hi")}))["choices"][0]["finish_reason"] == ours
    streamed = await stream_again(models, START, said("a"), end(reason))
    assert streamed.finishes() == {0: ours}


async def test_the_stop_sequence_that_ended_an_answer_is_reported(models: ModelFixture) -> None:
    reason = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    async with serving(Answer({**MESSAGE, **reason})) as provider:
        await claude(models, provider)
        answer = await models.ask("claude", {"messages": user("hi"), "stop": ["END"]})
    assert answer["choices"][0]["stop_reason"] == "END"
    streamed = await stream_again(models, START, said("a"), end("stop_sequence", stop_sequence="END"))
    assert [document["choices"][0].get("stop_reason") for document in streamed.documents][-1] == "END"


async def stream_again(models: ModelFixture, *frames: bytes) -> Streamed:
    await models.models.remove("claude")
    return await stream(models, *frames)


async def test_tool_use_and_thinking_become_tool_calls_and_reasoning_content(models: ModelFixture) -> None:
    content = [
        {"type": "thinking", "thinking": "Let me look.", "signature": "x"},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"location": "Paris"}},
    ]
    async with serving(Answer({**MESSAGE, "content": content, "stop_reason": "tool_use"})) as provider:
        await claude(models, provider)
        [choice] = (await models.ask("claude", {"messages": user("hi")}))["choices"]
    message = choice["message"]
    assert message["content"] is None and message["reasoning_content"] == "Let me look."
    [call] = message["tool_calls"]
    assert call["id"] == "toolu_1" and json.loads(call["function"]["arguments"]) == {"location": "Paris"}


async def test_an_anthropic_stream_becomes_openai_chunks_with_usage(models: ModelFixture) -> None:
    result = await stream(
        models, START, PING, said("Hello", "!"), end(), stream_options={"include_usage": True}
    )
    assert (
        result.text() == "Hello!"
        and result.done
        and result.error is None
        and result.finishes() == {0: "stop"}
    )
    assert result.documents[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len({(d["id"], d["created"], d["model"], d["object"]) for d in result.documents}) == 1
    assert result.documents[-1]["choices"] == [] and result.documents[-1]["usage"]["completion_tokens"] == 15
    assert result.usage == Usage(25, 15)


async def test_usage_is_not_streamed_unless_requested(models: ModelFixture) -> None:
    result = await stream(models, START, said("a"), end())
    assert all(document["choices"] for document in result.documents) and result.usage == Usage(25, 15)


async def test_streamed_tools_have_an_index_each_and_arguments_that_parse(models: ModelFixture) -> None:
    parts = ["", '{"location":', ' "San Francisco"', "}"]
    weather = block(
        1,
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
        *({"type": "input_json_delta", "partial_json": part} for part in parts),
    )
    silent = block(2, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}})
    result = await stream(models, START, said("Okay"), weather, silent, end("tool_use"), tools=[WEATHER])
    calls: dict[int, dict[str, str]] = {}
    for document in result.documents:
        for part in document["choices"][0]["delta"].get("tool_calls", ()):
            call = calls.setdefault(part["index"], {"arguments": ""})
            call["arguments"] += part["function"]["arguments"]
            call.update({key: part[key] for key in ("id",) if key in part})
    assert [call["id"] for call in calls.values()] == ["toolu_1", "toolu_2"]
    assert [json.loads(call["arguments"]) for call in calls.values()] == [{"location": "San Francisco"}, {}]
    assert result.finishes() == {0: "tool_calls"}


# --- errors -------------------------------------------------------------------------------------------------


def failure(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("status", "kind", "ours"),
    [
        (400, "invalid_request_error", 400),
        (401, "authentication_error", 401),
        (404, "not_found_error", 404),
        (429, "rate_limit_error", 429),
        (500, "api_error", 502),
        (529, "overloaded_error", 502),
    ],
)
async def test_anthropic_errors_become_openai_errors_with_the_reason(
    models: ModelFixture, status: int, kind: str, ours: int
) -> None:
    async with serving(Answer(failure(kind, "the reason"), status)) as provider:
        await claude(models, provider)
        with pytest.raises(PorticoError) as error_info:
            await models.relay("claude", {"messages": user("hi")})
    assert error_info.value.status == ours and "the reason" in error_info.value.message


async def test_an_error_before_the_first_word_is_a_real_status(models: ModelFixture) -> None:
    with pytest.raises(PorticoError) as error_info:
        await stream(
            models, event("error", **{k: v for k, v in failure("rate_limit_error").items() if k != "type"})
        )
    assert error_info.value.status == 429


async def test_an_error_in_mid_stream_ends_it(models: ModelFixture) -> None:
    overloaded = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    result = await stream(models, START, said("a"), overloaded, said("b"), end())
    assert result.text() == "a" and not result.done and isinstance(result.error, EngineFailed)
    assert "Overloaded" in result.documents[-1]["error"]["message"]


@pytest.mark.parametrize("cut", [b"", said("b")[:60]])
async def test_an_interrupted_anthropic_stream_ends_with_an_error(models: ModelFixture, cut: bytes) -> None:
    result = await stream(models, START, said("a"), cut)
    assert result.text() == "a" and not result.done and isinstance(result.error, EngineFailed)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"type": "ping"}'])
async def test_nonsense_is_an_error(models: ModelFixture, body: bytes) -> None:
    async with serving(Answer(body)) as provider:
        await claude(models, provider)
        for wants_stream in (False, True):
            with pytest.raises(PorticoError):
                await models.relay("claude", {"messages": user("hi"), "stream": wants_stream})


async def test_completions_and_embeddings_are_refused_for_anthropic(models: ModelFixture) -> None:
    async with serving(Answer(MESSAGE)) as provider:
        await claude(models, provider)
        with pytest.raises(InvalidRequest):
            await models.relay("claude", {"prompt": "hi"}, "completions")
    with pytest.raises(InvalidRequest):
        await models.models.add(ModelSpec("e", "remote://anthropic/x", task="embedding"))


async def test_a_missing_key_names_its_variable(
    models: ModelFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    await models.models.add(ModelSpec("c", "remote://anthropic/claude-without-a-price"))
    with pytest.raises(Unavailable, match="ANTHROPIC_API_KEY"):
        await models.relay("c", {"messages": user("hi")})
