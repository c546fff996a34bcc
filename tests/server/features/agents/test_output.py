"""Parsing a model's answer as a value, asking again, and turning memory into messages."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.features.agents.agent_fixture import AgentFixture, calls, texts

from portico.wire import Delta
from portico_server.core.errors import InvalidRequest

CODE: dict[str, Any] = {
    "type": "tool",
    "tool_type": "code interpreter",
    "begin": "```python\n",
    "end": "\n```\n",
}
WORD: dict[str, Any] = {"type": "json", "schema": {"type": "string", "enum": ["典", "孝", "急"]}}


async def test_a_schema_constrains_the_model_and_its_parsed_value_becomes_the_content(
    agent_fixture: AgentFixture,
) -> None:
    model = agent_fixture.model('{"value": "急"}')
    reply = await agent_fixture.ask("今天天气情况", "s", output=WORD)
    assert (reply.content, reply.formatted) == ("急", "急")
    schema = model.options()["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["value"]["enum"] == ["典", "孝", "急"]


@pytest.mark.parametrize("said", ["急", " 急\n", "“急。”", "【急】", '"急"'])
async def test_an_unquoted_word_is_accepted_as_an_enum_value_from_unconstrained_engines(
    agent_fixture: AgentFixture, said: str
) -> None:
    model = agent_fixture.model(said)
    reply = await agent_fixture.ask("今天天气情况", "s", output=WORD)
    assert (reply.content, reply.formatted, len(model.asked)) == ("急", "急", 1)


async def test_an_unquoted_word_that_matches_two_enum_values_is_requested_again(
    agent_fixture: AgentFixture,
) -> None:
    model = agent_fixture.model("yes!", '{"value": "YES"}')
    output = {"type": "json", "schema": {"type": "string", "enum": ["Yes", "YES"]}}
    reply = await agent_fixture.ask("go", output=output)
    assert (reply.formatted, len(model.asked)) == ("YES", 2)


async def test_an_answer_in_the_wrong_format_is_requested_again_up_to_a_limit(
    agent_fixture: AgentFixture,
) -> None:
    model = agent_fixture.model("天气很好", '{"value": "好"}', '{"value": "典"}')
    reply = await agent_fixture.ask("go", "s", output=WORD, attempts=3)
    assert reply.formatted == "典"
    assert [m["role"] for m in model.sent()] == ["user", "assistant", "user", "assistant", "user"]
    assert "Answer again" in model.sent()[-1]["content"]
    assert [m["content"] for m in await agent_fixture.memory("s")] == ["go", "典"], (
        "failed attempts are not remembered"
    )
    model = agent_fixture.model("never")
    with pytest.raises(InvalidRequest) as error:
        await agent_fixture.ask("go", output=WORD)
    assert error.value.code == "format_failed" and len(model.asked) == 2


async def test_fenced_json_is_parsed_and_the_raw_text_stays_the_content(agent_fixture: AgentFixture) -> None:
    raw_text = 'Here:\n```json\n{"n": 1}\n```'
    agent_fixture.model(raw_text)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    reply = await agent_fixture.ask("go", output={"type": "json", "schema": schema})
    assert (reply.content, reply.formatted) == (raw_text, {"n": 1})


async def test_an_output_schema_does_not_prevent_tool_calls(agent_fixture: AgentFixture) -> None:
    agent_fixture.tool("look", lambda _given: "seen")
    model = agent_fixture.model(calls(("look", "{}")), "it is 孝, I think", '{"value": "孝"}')
    reply = await agent_fixture.ask("go", output=WORD, tools=["look"])
    assert reply.content == "孝"
    assert (
        "response_format" not in model.options(0)
        and "Your final answer is JSON" in model.sent(0)[0]["content"]
    )
    assert "response_format" in model.options(2) and "tools" not in model.options(2)


async def test_a_tool_parser_extracts_thought_and_action_and_sets_stop_sequences(
    agent_fixture: AgentFixture,
) -> None:
    model = agent_fixture.model("I compute.\n```python\nprint(1)")
    reply = await agent_fixture.ask("go", output=CODE, options={"stop": "DONE"})
    assert model.options()["stop"] == ["DONE", "\n```\n"]
    assert reply.content == "I compute.\n```python\nprint(1)"
    assert reply.formatted == {
        "tool_type": "code interpreter",
        "thought": "I compute.\n",
        "action": "print(1)",
        "status": 1,
    }
    agent_fixture.model("The answer is 1.")
    assert (await agent_fixture.ask("go", output=CODE)).formatted == {
        "tool_type": None,
        "thought": "The answer is 1.",
        "action": None,
        "status": 0,
    }


async def test_a_tool_parser_validates_as_json_or_by_code(agent_fixture: AgentFixture) -> None:
    call = {
        "type": "tool",
        "tool_type": "browser",
        "begin": "```json\n",
        "end": "\n```\n",
        "validate": "json",
    }
    agent_fixture.model('Hm.\n```json\n{"name": "search"}\n```\n')
    assert (await agent_fixture.ask("go", output=call)).formatted["action"] == {"name": "search"}
    agent_fixture.model("```json\n{name}")
    broken_call = (await agent_fixture.ask("go", output=call)).formatted
    assert (
        broken_call["status"] == -1
        and broken_call["tool_type"] == "browser"
        and "not JSON" in broken_call["error"]
    )
    strip = {**CODE, "validate": "code", "code": "lambda x: x.upper()"}
    agent_fixture.model("```python\nabc")
    assert (await agent_fixture.ask("go", output=strip)).formatted["action"] == "ABC"
    failing = {**CODE, "validate": "code", "code": "lambda x: 1 / 0"}
    agent_fixture.model("```python\nabc")
    assert (await agent_fixture.ask("go", output=failing)).formatted["status"] == -1


async def test_several_parsers_are_tried_in_order(agent_fixture: AgentFixture) -> None:
    browse = {"type": "tool", "tool_type": "browser", "begin": "<browse>", "end": "</browse>"}
    model = agent_fixture.model("<browse>a")
    assert (await agent_fixture.ask("go", output=[CODE, browse])).formatted["tool_type"] == "browser"
    assert model.options()["stop"] == ["\n```\n", "</browse>"]
    agent_fixture.model("none of them")
    assert (await agent_fixture.ask("go", output=[CODE, browse])).formatted["tool_type"] is None
    agent_fixture.model("Total: 42.")
    number = {"type": "regex", "pattern": r"Total: (\d+)", "group": 1}
    assert (await agent_fixture.ask("go", output=[CODE, number])).formatted == "42"


async def test_a_parser_that_never_matches_ends(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("nothing")
    with pytest.raises(InvalidRequest) as error:
        await agent_fixture.ask("go", output={"type": "regex", "pattern": "x+y"}, attempts=3)
    assert error.value.code == "format_failed" and len(model.asked) == 3


async def test_a_formatted_answer_is_streamed_as_one_complete_delta(agent_fixture: AgentFixture) -> None:
    agent_fixture.model('{"value": "急"}')
    _reply, events = await agent_fixture.run("go", output=WORD)
    assert [event.text for event in events if isinstance(event, Delta)] == ["急"]


async def test_extra_info_says_whether_the_answer_matches_the_final_pattern(
    agent_fixture: AgentFixture,
) -> None:
    agent_fixture.model("Final Answer: 1", "not yet")
    assert (await agent_fixture.ask("go", final="Final Answer")).extra_info == {"final": True}
    assert (await agent_fixture.ask("go", final="Final Answer")).extra_info == {"final": False}


# --- aggregation -------------------------------------------------------------------------------------------------


async def test_few_shot_examples_come_before_the_memory(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("【多云】")
    shots = [{"role": "user", "content": "今天天气"}, {"role": "assistant", "content": "【晴】"}]
    await agent_fixture.ask("昨天天气", few_shot=shots, instructions="答")
    assert texts(model.sent()) == ["答", "今天天气", "【晴】", "昨天天气"]


async def test_tool_text_shows_the_model_its_action_with_the_end_marker(agent_fixture: AgentFixture) -> None:
    """Tool text shows the model its action with the end marker: a program that runs actions itself sends results as
    messages.
    """
    model = agent_fixture.model("I compute.\n```python\nprint(1)", "It is 1.")
    spec: dict[str, Any] = {"output": CODE, "aggregate": "tool_text", "name": "coder"}
    await agent_fixture.ask("go", "s", **spec)
    await agent_fixture.ask({"sender": "ActionExecutor", "content": "1"}, "s", **spec)
    assert model.sent() == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "I compute.\n```python\nprint(1)\n```\n"},
        {"role": "user", "content": "1"},
    ]


async def test_tool_text_sends_tool_calls_and_results_as_text(agent_fixture: AgentFixture) -> None:
    agent_fixture.tool("look", lambda _given: "seen")
    model = agent_fixture.model(calls(("look", "{}")), "ok")
    await agent_fixture.ask("go", tools=["look"], aggregate="tool_text")
    assert [m["role"] for m in model.sent()] == ["system", "user", "assistant", "user"]
    assert '"name":"look"' in model.sent()[2]["content"] and "seen" in model.sent()[3]["content"]


async def test_a_template_formats_messages_for_the_model(agent_fixture: AgentFixture) -> None:
    model = agent_fixture.model("ok")
    await agent_fixture.ask(
        {"sender": "ann", "content": "hi {you}"}, aggregate={"template": "[{sender}] {content}\n"}
    )
    assert texts(model.sent()) == ["[ann] hi {you}\n"]


async def test_variables_are_filled_into_instructions_and_missing_ones_are_refused(
    agent_fixture: AgentFixture,
) -> None:
    model = agent_fixture.model("ok")
    spec: dict[str, Any] = {
        "instructions": "Speak {tongue} as {{json}} of {topic}.",
        "variables": {"tongue": "Dutch"},
    }
    await agent_fixture.ask("go", given={"topic": "tides"}, **spec)
    assert model.sent()[0]["content"] == "Speak Dutch as {json} of tides."
    with pytest.raises(InvalidRequest) as missing:
        await agent_fixture.ask("go", **spec)
    assert missing.value.code == "missing_variable" and "{topic}" in missing.value.message
    await agent_fixture.ask("go", instructions='Answer as {"a": 1} or {x}.')
    assert model.sent()[0]["content"] == 'Answer as {"a": 1} or {x}.'
