"""The part of llama.cpp that needs no process: plans, requests, and tool calls parsed from JSON as it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.constrained_tools import ToolPlan, ToolReader, plan_tools
from portico_server.models.engines.openai_client.requests import prepare_chat, prepare_completion
from portico_server.models.engines.openai_client.resolved_schema import SchemaResolver
from portico_server.models.gguf import Gguf
from portico_server.models.hardware import Hardware
from portico_server.models.plan.llamacpp import memory_need, plan_gguf

GB = 10**9
FILE = Gguf(
    architecture="llama",
    name="m",
    kind="model",
    context_length=32_768,
    embedding_length=1024,
    block_count=16,
    head_count=16,
    head_count_kv=8,
    vocabulary=1000,
    chat_template=True,
    pooling="",
    quantisation="Q4_K_M",
    parameters=1,
    tensors=1,
    split_count=1,
    end_offset=1,
    file_size=1,
    values={},
)  # 32,768 bytes of cache per token


@pytest.mark.parametrize(
    ("memory", "parameters", "slots", "context"),
    [
        (64 * GB, {}, 4, 9_728),
        (16 * GB, {}, 2, 8_192),
        (16 * GB, {"cache_type": "q8_0"}, 2, 15_360),
        (16 * GB, {"slots": 1}, 1, 16_384),
        (4 * GB, {}, 2, 8_192),
        (1 * GB, {}, 1, 7_424),
        (1 * GB, {"context_length": 4096, "slots": 2}, 2, 4096),
        (1 * GB, {"slots": 8}, 8, 768),
        (GB // 1000, {}, 1, 512),
    ],
)
def test_a_plan_fits_the_memory(memory: int, parameters: dict[str, Any], slots: int, context: int) -> None:
    assert FILE.kv_bytes_per_token == 32_768
    plan = plan_gguf(FILE, Hardware(6, memory), parameters, embedding=False)
    assert (plan.slots, plan.context_length, plan.threads) == (slots, context, 6)


def test_the_cache_may_be_as_large_as_the_model() -> None:
    plan = plan_gguf(replace(FILE, file_size=3 * GB), Hardware(6, 64 * GB), {}, embedding=False)
    assert (plan.slots, plan.context_length) == (4, 22_784)
    need = memory_need(replace(FILE, file_size=3 * GB), plan)
    assert need.cache == 4 * 22_784 * 32_768 <= 3 * GB and need.total > 6 * GB - 100_000_000


def test_a_plan_for_embeddings_keeps_to_the_models_context() -> None:
    bert = replace(FILE, architecture="bert", context_length=512, pooling="cls")
    plan = plan_gguf(bert, Hardware(2, 64 * GB), {"context_length": 4096}, embedding=True)
    assert (plan.context_length, plan.pooling, plan.embedding) == (512, "cls", True)


def ask(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], **more}


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_unsupported_content_parts_are_refused_by_their_position(kind: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind, kind: {}}]}]
    with pytest.raises(InvalidRequest) as error_info:
        prepare_chat({"messages": messages}, template_has_tools=False)
    assert error_info.value.param == "messages[0].content[1]" and kind in error_info.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": [1, 2], "echo": True}, "echo"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 2}, "best_of"),
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
    ],
)
def test_completions_that_would_be_answered_wrongly_are_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        prepare_completion(body)
    assert error_info.value.param == param


def test_each_prompt_is_repeated_for_each_requested_choice() -> None:
    prepared = prepare_completion({"prompt": ["a", "b"], "n": 2, "seed": 5})
    assert [(body["prompt"], body["seed"]) for body in prepared.bodies] == [
        ("a", 5),
        ("a", 6),
        ("b", 5),
        ("b", 6),
    ]
    assert [body["prompt"] for body in prepare_completion({"prompt": [1, 2, 3]}).bodies] == [[1, 2, 3]]


def test_nulls_are_dropped_and_unknown_fields_are_passed_through() -> None:
    [body] = prepare_chat(ask(temperature=None, stop=None, min_p=0.1, n=1), template_has_tools=False).bodies
    assert "temperature" not in body and "stop" not in body and "n" not in body and body["min_p"] == 0.1


def test_tools_are_passed_to_a_template_that_supports_them_unless_forced() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    prepared = prepare_chat(ask(tools=tools), template_has_tools=True)
    assert prepared.tools is None and prepared.bodies[0]["tools"] == tools
    forced = prepare_chat(ask(tools=tools, tool_choice="required"), template_has_tools=True)
    assert forced.tools is not None and "tools" not in forced.bodies[0]
    none = prepare_chat(ask(tools=tools, tool_choice="none"), template_has_tools=True)
    assert none.tools is None and "tools" not in none.bodies[0]


@pytest.mark.parametrize("stop", ["", [""], []], ids=str)
def test_an_empty_stop_sequence_stops_nothing(stop: Any) -> None:
    assert "stop" not in prepare_chat(ask(stop=stop), template_has_tools=False).bodies[0]
    assert "stop" not in prepare_completion({"prompt": "a", "stop": stop}).bodies[0]
    mixed = prepare_chat(ask(stop=["", "end"]), template_has_tools=False).bodies[0]
    assert mixed["stop"] == ["end"]


@pytest.mark.parametrize(
    "tool", [{"type": "custom", "custom": {"name": "x"}}, {"type": "web_search"}], ids=str
)
@pytest.mark.parametrize("template_has_tools", [True, False])
def test_a_tool_that_is_not_a_function_is_refused(tool: Any, template_has_tools: bool) -> None:
    with pytest.raises(InvalidRequest, match=tool["type"]) as error_info:
        prepare_chat(ask(tools=[tool]), template_has_tools=template_has_tools)
    assert error_info.value.param == "tools[0].type"


def test_tool_choice_limits_functions_and_unknown_tools_are_refused() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "ab"]
    web = {"type": "web_search"}
    two_tools_plan = plan_tools(
        {"tools": [*tools, web], "tool_choice": "required"}, None, template_has_tools=False
    )
    assert two_tools_plan is not None and [
        form["properties"]["name"]["const"] for form in two_tools_plan.schema(SchemaResolver())["anyOf"]
    ] == [
        "a",
        "b",
    ]
    assert plan_tools({"tools": [web]}, None, template_has_tools=False) is None
    for choice in ({"type": "function", "function": {"name": "c"}},):
        with pytest.raises(InvalidRequest, match="'c'"):
            plan_tools({"tools": tools, "tool_choice": choice}, None, template_has_tools=False)
    with pytest.raises(InvalidRequest):
        plan_tools({"tools": [web], "tool_choice": "required"}, None, template_has_tools=False)


FREE = ToolPlan(({"name": "f"},), free=True)


def read(plan: ToolPlan, text: str, size: int) -> tuple[str, str, str]:
    """Return content, name and arguments if ``text`` arrives in pieces of ``size``."""
    reader = ToolReader(plan)
    content, name, arguments = "", "", ""
    for start in range(0, len(text), size):
        for delta in reader.feed(text[start : start + size]):
            content += delta.get("content", "")
            for call in delta.get("tool_calls", ()):
                name += call["function"].get("name", "")
                arguments += call["function"]["arguments"]
    return content, name, arguments


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "arguments", [{}, {"a": 'quote " brace } \\'}, {"a": {"b": [1, {"c": "]}"}]}}, {"é": "雪 \n \\u0041"}]
)
def test_a_tool_call_is_parsed_however_the_output_is_split(arguments: Any, size: int) -> None:
    for indent in (None, 2):
        text = json.dumps({"name": "f", "arguments": arguments}, indent=indent)
        content, name, arguments_text = read(FREE, text, size)
        assert (content, name, json.loads(arguments_text)) == ("", "f", arguments)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("said", ["plain", 'a "quoted" \\ \n\t/ text', "雪莲花 😀 é", ""])
def test_a_reply_is_decoded_however_the_output_is_split(said: str, size: int) -> None:
    for ascii_only in (True, False):
        text = json.dumps({"reply": said}, ensure_ascii=ascii_only)
        assert read(FREE, text, size) == (said, "", "")


def test_an_unpaired_surrogate_becomes_a_replacement_character() -> None:
    assert read(FREE, '{"reply": "a\\ud83dbc"}', 1)[0] == "a\ufffdbc"


def test_a_reply_with_a_schema_is_json() -> None:
    plan = ToolPlan(({"name": "f"},), free=True, answer={"type": "object"})
    assert read(plan, '{"reply": {"a": [1, 2]}}', 3) == ('{"a": [1, 2]}', "", "")
