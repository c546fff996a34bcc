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


def test_examples_fit_their_schema() -> None:
    schema = {
        "type": "object",
        "required": ["a", "b", "c", "d"],
        "properties": {
            "a": {"enum": ["x"]},
            "b": {"type": "array", "items": {"type": "integer", "minimum": 3}},
            "c": {"anyOf": [{"type": "null"}]},
            "d": {"type": ["string", "null"]},
            "e": {"type": "string"},
        },
    }
    assert schema_example(schema) == {"a": "x", "b": [3], "c": None, "d": "text"}


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
