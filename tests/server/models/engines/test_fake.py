"""The script of the fake engine behaves as documented."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from portico.testing.model_fixture import ModelFixture, user
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.models.engines.fake.script import (
    ScriptPlayer,
    load_script,
    read_script,
    schema_example,
    split_words,
)
from portico_server.models.spec import ModelSpec

PAGE = Path(__file__).parents[4] / "docs" / "fake-engine.md"


async def test_the_script_of_the_documentation_does_what_it_says(models: ModelFixture) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    [clerk] = yaml.safe_load(blocks[1])["models"]
    await models.models.add(ModelSpec("clerk", clerk["source"], parameters=clerk["parameters"]))

    async def say(text: str) -> Any:
        return (await models.ask("clerk", {"messages": user(text)}))["choices"][0]["message"]

    [call] = (await say("How is the weather in Oslo today?"))["tool_calls"]
    assert orjson.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    jokes = [(await say("a joke"))["content"] for _ in range(3)]
    assert jokes == [
        "A duck walks into a bar.",
        "I have told you one already.",
        "I have told you one already.",
    ]
    assert (await say("anything"))["content"] == "I do not know."
    assert (await say("a story"))["content"].startswith("Once upon")
    with pytest.raises(PorticoError) as error_info:
        await say("are you busy?")
    assert (error_info.value.status, error_info.value.retry_after) == (429, 2)


def test_a_rule_that_is_used_up_is_passed_over() -> None:
    player = ScriptPlayer(
        read_script({"replies": [{"content": "first", "times": 1}, {"match": "a", "content": "then"}]})
    )
    assert [player.next(prompt).content[0] for prompt in ("a", "a", "b")] == ["first", "then", "b"]


async def test_a_rule_may_match_instructions_and_tool_results(models: ModelFixture) -> None:
    script = [
        {"match": "weather", "result": r"(\d+) degrees", "content": "It is \\1 degrees warm."},
        {"match": "weather", "tool_calls": [{"name": "look", "arguments": {}}]},
        {"system": "brief", "content": "Yes."},
        {"content": "Yes, certainly."},
    ]
    await models.models.add(ModelSpec("clerk", "fake://", parameters={"script": script}))

    async def say(*messages: dict[str, Any]) -> Any:
        return (await models.ask("clerk", {"messages": list(messages)}))["choices"][0]["message"]

    question = user("The weather?")[0]
    called = await say(question)
    result = {
        "role": "tool",
        "tool_call_id": called["tool_calls"][0]["id"],
        "content": "21 degrees in the sun",
    }
    assert (await say(question, called, result))["content"] == "It is 21 degrees warm."
    assert (await say(question, called, result, question))["tool_calls"]
    assert (await say({"role": "system", "content": "Be brief."}, *user("Open?")))["content"] == "Yes."
    assert (await say(*user("Open?")))["content"] == "Yes, certainly."


def test_a_script_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("- hello\n", "utf-8")
    assert load_script(str(path)).replies[0].content == ("hello",)
    path.write_text("replies: [{content: hi}]\ncontext_length: 9\n", "utf-8")
    assert load_script(str(path)).context_length == 9


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"replies": [{"contnt": "x"}]}, "content"),
        ({"replies": [{"match": "("}]}, "replies\\[0\\].match"),
        ({"replies": [{"result": "("}]}, "replies\\[0\\].result"),
        ({"replies": "x"}, "replies"),
        ({"replies": [{"tool_calls": ["f"]}]}, "tool_calls"),
        ({"replies": [{"error": {"staus": 1}}]}, "status"),
        ({"dimensions": 0}, "dimensions"),
        ({"replies": [3]}, "replies\\[0\\]"),
        ("/nowhere/script.yaml", "/nowhere/script.yaml"),
    ],
)
def test_a_wrong_script_is_refused_with_the_place(given: Any, names: str) -> None:
    with pytest.raises(InvalidRequest, match=names):
        load_script(given)


def test_split_words_join_to_the_original_text() -> None:
    for text in ("", "a", " a  b\n", "雪 莲 花"):
        assert "".join(split_words(text)) == text


TREE = {
    "type": "object",
    "required": ["name", "next"],
    "properties": {
        "name": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]},
    },
}

EXAMPLES: list[tuple[dict[str, Any], Any]] = [
    (
        {
            "type": "object",
            "required": ["a", "b", "c", "d"],
            "properties": {
                "a": {"enum": ["x"]},
                "b": {"type": "array", "items": {"type": "integer", "minimum": 3}},
                "c": {"anyOf": [{"type": "null"}]},
                "d": {"type": ["string", "null"]},
                "e": {"type": "string"},
            },
        },
        {"a": "x", "b": [3], "c": None, "d": "text"},
    ),
    (
        {
            "type": "object",
            "properties": {"colour": {"$ref": "#/$defs/Colour"}},
            "$defs": {"Colour": {"enum": ["red", "green"]}},
        },
        {"colour": "red"},
    ),
    (
        {
            "type": "object",
            "properties": {"colour": {"allOf": [{"$ref": "#/definitions/Colour"}], "default": "red"}},
            "definitions": {"Colour": {"enum": ["red", "green"]}},
        },
        {"colour": "red"},
    ),
    (
        {"allOf": [{"type": "object", "properties": {name: {"type": "null"}}} for name in "ab"]},
        {"a": None, "b": None},
    ),
    (
        {"$ref": "#/$defs/Tree", "$defs": {"Tree": TREE}},
        {"name": "text", "next": None},
    ),
    (
        {
            "type": "object",
            "properties": {"name": {"const": "a"}, "parts": {"items": {"$ref": "#"}, "type": "array"}},
        },
        {"name": "a", "parts": [{"name": "a", "parts": []}]},
    ),
    ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False}, [1, 2]),
]


@pytest.mark.parametrize(("schema", "example"), EXAMPLES)
def test_examples_fit_their_schema(schema: dict[str, Any], example: Any) -> None:
    assert schema_example(schema) == example


@pytest.mark.parametrize(
    "definition", [{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}]
)
def test_a_schema_without_a_finite_value_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        schema_example(definition)
    assert error_info.value.param == "response_format"


async def test_arguments_of_a_called_function_fit_its_definitions(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("echo", "fake://"))
    parameters = {
        "type": "object",
        "properties": {"query": {"$ref": "#/$defs/Query"}},
        "$defs": {"Query": {"type": "object", "properties": {"text": {"type": "string"}}}},
    }
    tool = {"type": "function", "function": {"name": "look", "parameters": parameters}}
    body = {"messages": user("Look."), "tools": [tool], "tool_choice": "required"}
    [call] = (await models.ask("echo", body))["choices"][0]["message"]["tool_calls"]
    assert orjson.loads(call["function"]["arguments"]) == {"query": {"text": "text"}}


def image_message(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("parameters", "url", "param"),
    [
        ({}, "data:image/png;base64,aGVsbG8=", "messages[0].content[0]"),
        ({"vision": True}, "data:image/png;base64,not base64!", "messages[0].content"),
        ({"vision": True}, "data:image/png;base64,aGVsbG8", "messages[0].content"),
        ({"vision": True}, "https://example.com/a.png", "messages[0].content"),
    ],
)
async def test_an_image_that_a_model_cannot_read_is_refused(
    models: ModelFixture, parameters: dict[str, Any], url: str, param: str
) -> None:
    await models.models.add(ModelSpec("echo", "fake://", parameters=parameters))
    with pytest.raises(PorticoError) as error_info:
        await models.ask("echo", {"messages": image_message(url)})
    assert (error_info.value.status, error_info.value.param) == (400, param)


async def test_the_fake_worker_serves_without_a_daemon() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "portico_server.models.engines.fake.worker",
        "--port",
        "0",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        body = {"model": "any", "messages": user("hello")}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/chat/completions", json=body) as response,
        ):
            assert (await response.json())["choices"][0]["message"]["content"] == "hello"
    finally:
        process.terminate()
        await process.wait()
