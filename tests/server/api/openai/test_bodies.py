"""The required form of chat, completion and embedding requests: each fault is a 400 that names its place."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.api.openai.bodies import CHAT, COMPLETION, EMBEDDING
from portico_server.core.errors import InvalidRequest

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CUSTOM = {"type": "custom", "custom": {"name": "patch"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


NESTED: dict[str, Any] = {}
for _ in range(400):
    NESTED = {"items": NESTED}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **fields}


def allow_tools(*tools: Any, mode: str = "auto") -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def said(*messages: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages)}


GOOD = [
    chat(),
    chat(temperature=0, top_p=1, n=8, stop="x", seed=-1, max_tokens=1, frequency_penalty=-2),
    chat(temperature=2.0, stop=["a", "b", "c", "d"], logprobs=True, top_logprobs=20),
    chat(temperature=None, n=None, stop=None, tools=None, tool_choice=None, stream=None, stream_options=None),
    chat(stream=True, stream_options={"include_usage": True}),
    chat(tools=[TOOL], tool_choice="required"),
    chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}}),
    chat(tools=[TOOL, {"type": "web_search"}], tool_choice={"type": "web_search"}),
    chat(tools=[CUSTOM], tool_choice={"type": "custom", "custom": {"name": "patch"}}),
    chat(tools=[TOOL, CUSTOM], tool_choice=allow_tools(TOOL, CUSTOM)),
    chat(tools=[TOOL] * 1_000),
    chat(tools=[TOOL, {"type": "web_search"}, {"type": "custom", "custom": {"name": "x"}}]),
    chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
    chat(store=True, metadata={"a": "b"}, service_tier="auto", unknown_field=[1]),
    said({"role": "developer", "content": "Be brief."}, USER),
    said(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}),
    said(USER, {"role": "assistant", "content": ""}, {"role": "assistant"}),
    said(
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": CALL["id"], "content": "42"},
    ),
    said({"role": "user", "content": [{"type": "text", "text": "Hello"}]}),
    said({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}),
]

BAD = [
    ({"messages": [USER]}, "model"),
    (chat(model=7), "model"),
    (chat(model=""), "model"),
    ({"model": "m"}, "messages"),
    (chat(messages="Hello"), "messages"),
    (chat(messages=[]), "messages"),
    (said(USER, "Hello"), "messages[1]"),
    (said({"content": "Hello"}), "messages[0].role"),
    (said({"role": "robot", "content": "Hello"}), "messages[0].role"),
    (said({"role": ["user"], "content": "Hello"}), "messages[0].role"),
    (said(USER, USER, {"role": "user", "content": None}), "messages[2].content"),
    (said({"role": "system"}), "messages[0].content"),
    (said({"role": "user", "content": {"text": "x"}}), "messages[0].content"),
    (said({"role": "user", "content": []}), "messages[0].content"),
    (said({"role": "user", "content": ["x"]}), "messages[0].content[0]"),
    (said({"role": "user", "content": [{"type": "smell"}]}), "messages[0].content[0].type"),
    (said({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
    (said({"role": "user", "content": [{"type": "image_url"}]}), "messages[0].content[0].image_url"),
    (said({"role": "tool", "content": "42"}), "messages[0].tool_call_id"),
    (said({"role": "tool", "tool_call_id": "call_9", "content": "42"}), "messages[0].tool_call_id"),
    (
        said(
            {"role": "tool", "tool_call_id": CALL["id"], "content": "42"},
            {"role": "assistant", "tool_calls": [CALL]},
        ),
        "messages[0].tool_call_id",
    ),
    (said({"role": "assistant", "tool_calls": "look"}), "messages[0].tool_calls"),
    (said({"role": "assistant", "tool_calls": [{**CALL, "id": None}]}), "messages[0].tool_calls[0].id"),
    (
        said({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "look", "arguments": {}}}]}),
        "messages[0].tool_calls[0].function.arguments",
    ),
    (chat(stream="yes"), "stream"),
    (chat(stream=1), "stream"),
    (chat(n=0), "n"),
    (chat(n=9), "n"),
    (chat(n=1.5), "n"),
    (chat(n=True), "n"),
    (chat(temperature=2.1), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(top_p=-0.1), "top_p"),
    (chat(presence_penalty=3), "presence_penalty"),
    (chat(frequency_penalty=-3), "frequency_penalty"),
    (chat(stop=7), "stop"),
    (chat(stop=["a", 1]), "stop"),
    (chat(stop=["a"] * 5), "stop"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_completion_tokens=-1), "max_completion_tokens"),
    (chat(seed=1.5), "seed"),
    (chat(tools={}), "tools"),
    (chat(tools=[TOOL] * 1_001), "tools"),
    (chat(tools=["look"]), "tools[0]"),
    (chat(tools=[{"type": "function"}]), "tools[0].function"),
    (chat(tools=[{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name"),
    (
        chat(tools=[TOOL, {"type": "function", "function": {"name": "x", "parameters": []}}]),
        "tools[1].function.parameters",
    ),
    (chat(tool_choice="required"), "tool_choice"),
    (chat(tools=[TOOL], tool_choice="any"), "tool_choice"),
    (chat(tools=[TOOL], tool_choice=7), "tool_choice"),
    (
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "fly"}}),
        "tool_choice.function.name",
    ),
    (chat(tools=[TOOL], tool_choice={"type": "function"}), "tool_choice.function.name"),
    (chat(tools=[TOOL], tool_choice={"type": "function", "name": "look"}), "tool_choice.function.name"),
    (chat(tools=[TOOL], tool_choice={"type": "function", "function": "look"}), "tool_choice.function.name"),
    (
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": 7}}),
        "tool_choice.function.name",
    ),
    (chat(tools=[TOOL], tool_choice={}), "tool_choice.type"),
    (chat(tool_choice={}), "tool_choice.type"),
    (chat(tools=[TOOL], tool_choice=[]), "tool_choice"),
    (chat(tools=[TOOL], tool_choice={"type": 7}), "tool_choice.type"),
    (chat(tools=[TOOL], tool_choice={"type": ["function"]}), "tool_choice.type"),
    (chat(tools=[TOOL], tool_choice={"type": "banana"}), "tool_choice.type"),
    (chat(tools=[TOOL], tool_choice={"type": "auto"}), "tool_choice.type"),
    (chat(tools=[TOOL], tool_choice={"type": "tool", "name": "look"}), "tool_choice.type"),
    (chat(tools=[TOOL], tool_choice={"type": "web_search"}), "tool_choice.type"),
    (
        chat(tools=[CUSTOM], tool_choice={"type": "custom", "custom": {"name": "look"}}),
        "tool_choice.custom.name",
    ),
    (chat(tools=[TOOL], tool_choice={"type": "allowed_tools"}), "tool_choice.allowed_tools"),
    (
        chat(tools=[TOOL], tool_choice={"type": "allowed_tools", "allowed_tools": []}),
        "tool_choice.allowed_tools",
    ),
    (chat(tools=[TOOL], tool_choice=allow_tools(TOOL, mode="none")), "tool_choice.allowed_tools.mode"),
    (chat(tools=[TOOL], tool_choice=allow_tools()), "tool_choice.allowed_tools.tools"),
    (chat(tools=[TOOL], tool_choice=allow_tools("look")), "tool_choice.allowed_tools.tools[0]"),
    (chat(tools=[TOOL], tool_choice=allow_tools(TOOL, {})), "tool_choice.allowed_tools.tools[1].type"),
    (
        chat(tools=[TOOL], tool_choice=allow_tools({"type": "function"})),
        "tool_choice.allowed_tools.tools[0].function.name",
    ),
    (
        chat(tools=[TOOL], tool_choice=allow_tools(TOOL, {"type": "function", "function": {"name": "fly"}})),
        "tool_choice.allowed_tools.tools[1].function.name",
    ),
    (chat(tool_choice=allow_tools(TOOL)), "tool_choice.allowed_tools.tools[0].function.name"),
    (chat(response_format="json"), "response_format"),
    (chat(response_format={"type": "xml"}), "response_format.type"),
    (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (chat(response_format={"type": "json_object", "schema": "x"}), "response_format.schema"),
    (chat(response_format={"type": "json_object", "schema": NESTED}), "response_format"),
    (
        chat(response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
        "response_format.json_schema.name",
    ),
    (
        chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": "x"}}),
        "response_format.json_schema.schema",
    ),
    (chat(logprobs=1), "logprobs"),
    (chat(top_logprobs=5), "top_logprobs"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(stream=True, stream_options="usage"), "stream_options"),
    (chat(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage"),
    (chat(logit_bias=[]), "logit_bias"),
    (chat(logit_bias={str(token): 1 for token in range(1025)}), "logit_bias"),
    (chat(logit_bias={"dog": 1}), "logit_bias"),
    (chat(logit_bias={"7": 101}), "logit_bias.7"),
    (chat(logit_bias={"7": True}), "logit_bias.7"),
    (chat(metadata="x"), "metadata"),
]


@pytest.mark.parametrize("body", GOOD, ids=range(len(GOOD)))
def test_a_chat_that_is_right_passes_unchanged(body: dict[str, Any]) -> None:
    body_before = repr(body)
    CHAT.check(body)
    assert repr(body) == body_before


@pytest.mark.parametrize(("body", "param"), BAD, ids=[param for _body, param in BAD])
def test_an_invalid_chat_request_is_refused_with_the_parameter(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHAT.check(body)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


@pytest.mark.parametrize("prompt", ["x", "", ["x", ""], [1, 2], [[1], [2]]])
def test_a_prompt_may_be_text_texts_or_tokens(prompt: Any) -> None:
    COMPLETION.check({"model": "m", "prompt": prompt, "logprobs": 5, "echo": False, "best_of": 1})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x", 1]}, "prompt[1]"),
        ({"prompt": "x", "logprobs": 6}, "logprobs"),
        ({"prompt": "x", "echo": "no"}, "echo"),
        ({"prompt": "x", "suffix": 1}, "suffix"),
    ],
)
def test_an_invalid_completion_request_is_refused_with_the_parameter(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        COMPLETION.check({"model": "m", **fields})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["x", ""]}, "input[1]"),
        ({"input": ["x", [1]]}, "input[1]"),
        ({"input": [True]}, "input[0]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": "64"}, "dimensions"),
    ],
)
def test_an_invalid_embedding_request_is_refused_with_the_parameter(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBEDDING.check({"model": "m", **fields})
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields", [{"input": "x"}, {"input": ["x"] * 2048}, {"input": [1, 2]}, {"input": [[1]]}]
)
def test_an_embedding_that_is_right_passes(fields: dict[str, Any]) -> None:
    EMBEDDING.check({"model": "m", "encoding_format": "base64", "dimensions": 64, **fields})
