"""A Messages request as a chat: the translation of each block type, and the types that are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.servable import Card
from portico_server.features.anthropic.conversation import Target
from portico_server.features.anthropic.request import chat_of

HI = [{"role": "user", "content": "hi"}]
LOOK = {"name": "look", "description": "Looks", "input_schema": {"type": "object"}}
LOOKS = {
    "type": "function",
    "function": {"name": "look", "description": "Looks", "parameters": {"type": "object"}},
}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
USE = {"type": "tool_use", "id": "t1", "name": "look", "input": {"x": 1}}
CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
}


PLAIN = Target()


def chat(target: Target = PLAIN, **fields: Any) -> dict[str, Any]:
    return chat_of({"model": "m", "max_tokens": 9, "messages": HI, **fields}, target)


def said(*blocks: Any, role: str = "user") -> Any:
    return {"role": role, "content": list(blocks)}


def text(text: str) -> Any:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


def result(content: Any, **more: Any) -> Any:
    return {"type": "tool_result", "tool_use_id": "t1", "content": content, **more}


def image(url: str) -> Any:
    return {"type": "image_url", "image_url": {"url": url}}


ONE = [{"type": "text", "text": "one"}]
SHOWN = image("data:image/png;base64,AAAA")


@pytest.mark.parametrize(
    ("content", "became"),
    [
        ("one", "one"),
        ([text("one"), text("two")], "one\n\ntwo"),
        ([text("one"), PNG], [*ONE, SHOWN]),
        (
            [{"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}],
            [image("https://a.example/b.png")],
        ),
        (
            [
                {
                    "type": "document",
                    "title": "T",
                    "source": {"type": "text", "media_type": "text/plain", "data": "one"},
                }
            ],
            "T\n\none",
        ),
        ([{"type": "document", "source": {"type": "content", "content": [text("one"), PNG]}}], [*ONE, SHOWN]),
        (
            [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"},
                }
            ],
            [
                {
                    "type": "file",
                    "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,AA"},
                }
            ],
        ),
        (
            [{"type": "search_result", "title": "T", "source": "a.md", "content": [text("one")]}],
            "T\n\na.md\n\none",
        ),
    ],
)
def test_user_content_blocks_are_translated(content: Any, became: Any) -> None:
    assert chat(messages=[{"role": "user", "content": content}])["messages"] == [
        {"role": "user", "content": became}
    ]


def test_a_tool_use_and_its_result_with_text_are_translated() -> None:
    messages = [
        *HI,
        said(text("I look."), USE, role="assistant"),
        said(text("And?"), result([text("a cat"), PNG])),
    ]
    assert chat(messages=messages)["messages"][1:] == [
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t1", "content": "a cat"},
        {"role": "user", "content": [{"type": "text", "text": "And?"}, SHOWN]},
    ]


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (result("done"), "done"),
        (result(None), ""),
        (result("no such file", is_error=True), "Error: no such file"),
        (result([], is_error=True), "Error"),
        (result([PNG]), "The output of the tool follows."),
    ],
)
def test_tool_results_are_translated_to_tool_messages(block: Any, told: str) -> None:
    messages = [*HI, said(USE, role="assistant"), said(block)]
    assert chat(messages=messages)["messages"][2] == {"role": "tool", "tool_call_id": "t1", "content": told}


def test_turns_of_one_role_become_one() -> None:
    messages = [*HI, *HI, said(text("a"), role="assistant"), said(text("b"), USE, role="assistant")]
    assert chat(messages=messages)["messages"] == [
        {"role": "user", "content": "hi\n\nhi"},
        {"role": "assistant", "content": "ab", "tool_calls": [CALL]},
    ]


@pytest.mark.parametrize(
    ("system", "became"),
    [
        ("Be brief.", "Be brief."),
        ([text("Be brief."), text("Be kind.")], "Be brief.\n\nBe kind."),
        ([text("x-anthropic-billing-header: cc_version=2; cch=f00"), text("Be brief.")], "Be brief."),
    ],
)
def test_the_system_prompt_is_translated_without_billing_headers(system: Any, became: str) -> None:
    assert chat(system=system)["messages"][0] == {"role": "system", "content": became}


def test_a_system_message_between_turns_stays_where_it_is() -> None:
    messages = [*HI, {"role": "system", "content": "In French."}]
    assert chat(messages=messages)["messages"][1] == {"role": "system", "content": "In French."}


def test_thinking_blocks_are_sent_only_to_models_that_think() -> None:
    thinking_block = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    messages = [
        *HI,
        said(thinking_block, {"type": "redacted_thinking", "data": "x"}, text("a"), role="assistant"),
        *HI,
    ]
    assert chat(messages=messages)["messages"][1] == {"role": "assistant", "content": "a"}
    assert chat(Target(thinks=True), messages=messages)["messages"][1]["reasoning_content"] == "Hm."


def test_server_tool_blocks_of_anthropic_are_dropped() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    search_result_block = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    messages = [*HI, said(use, search_result_block, text("a"), role="assistant"), *HI]
    assert chat(messages=messages)["messages"][1] == {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("given", "became"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}),
        ({"stop_sequences": ["END"]}, {"stop": ["END"]}),
        ({"stream": True}, {"stream": True}),
        (
            {
                "metadata": {"user_id": "u"},
                "service_tier": "auto",
                "container": "c",
                "context_management": {},
            },
            {},
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {}),
        ({"tools": [LOOK]}, {"tools": [LOOKS]}),
        ({"tools": [LOOK, SEARCH]}, {"tools": [LOOKS]}),
        ({"tools": [SEARCH], "tool_choice": {"type": "auto"}}, {}),
        ({"tools": [LOOK], "tool_choice": {"type": "any"}}, {"tools": [LOOKS], "tool_choice": "required"}),
        ({"tools": [LOOK], "tool_choice": {"type": "none"}}, {"tools": [LOOKS], "tool_choice": "none"}),
        (
            {"tools": [LOOK], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"tools": [LOOKS], "tool_choice": "auto", "parallel_tool_calls": False},
        ),
        (
            {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "look"}},
            {"tools": [LOOKS], "tool_choice": {"type": "function", "function": {"name": "look"}}},
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"response_format": FORMAT},
        ),
        ({"output_format": {"type": "json_schema", "schema": SCHEMA}}, {"response_format": FORMAT}),
    ],
)
def test_request_options_are_translated_to_chat_options(
    given: dict[str, Any], became: dict[str, Any]
) -> None:
    assert chat(**given) == {"model": "m", "messages": HI, "max_tokens": 9, **became}


@pytest.mark.parametrize(
    ("given", "became"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            {"reasoning_effort": "high"},
        ),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_the_thinking_budget_is_translated_to_reasoning_effort(given: dict[str, Any], became: Any) -> None:
    target = Target.of(Card("m", "model", capabilities=frozenset({"thoughts"})))
    assert chat(target, **given) == {"model": "m", "messages": HI, "max_tokens": 9, **became}


def test_max_tokens_not_below_the_context_length_is_dropped() -> None:
    assert "max_tokens" not in chat(Target(context_length=9))
    assert chat(Target(context_length=10))["max_tokens"] == 9


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [said()]}, "messages[0].content"),
        ({"messages": [said({"text": "x"})]}, "messages[0].content[0].type"),
        ({"messages": [said({"type": "video"})]}, "messages[0].content[0].type"),
        ({"messages": [said({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [said({"type": "image"})]}, "messages[0].content[0].source"),
        (
            {"messages": [said({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [said({"type": "document", "source": {"type": "url", "url": "https://a.example"}})]},
            "messages[0].content[0].source.type",
        ),
        ({"messages": [said(result("x"))]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [said(PNG, role="assistant")]}, "messages[0].content[0].type"),
        ({"messages": [said({**USE, "input": "{}"}, role="assistant")]}, "messages[0].content[0].input"),
        ({"system": 5}, "system"),
        ({"system": [PNG]}, "system[0].type"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [LOOK], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "see"}}, "tool_choice.name"),
        ({"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, "tool_choice.name"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"mcp_servers": [{"type": "url", "name": "docs", "url": "https://x"}]}, "mcp_servers[0]"),
        ({"tools": [LOOK, {"type": "mcp_toolset", "mcp_server_name": "docs"}]}, "tools[1]"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
    ],
)
def test_an_invalid_request_is_refused_with_the_parameter(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**body)
    assert caught.value.param == param


def test_untranslatable_content_is_accepted_for_models_that_speak_the_protocol() -> None:
    speaks = Target(speaks=True)
    assert chat(speaks, messages=[said({"type": "novelty"}, text("a"))])["messages"] == [
        {"role": "user", "content": "a"}
    ]
    assert "tools" not in chat(speaks, tools=[SEARCH], tool_choice={"type": "tool", "name": "web_search"})
