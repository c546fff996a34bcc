"""Built-in tools: their schemas, their arguments, their results."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.registry_fixture import FixedModel, FixedStore, RegistryFixture, open_registry, passage

from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Chat, ToolCall, ToolResult
from portico_server.features.tools.builtin import BUILTIN
from portico_server.features.tools.toolbox import Toolbox


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RegistryFixture]:
    async with open_registry(tmp_path) as registry_daemon:
        registry_daemon.add(
            FixedStore("docs", [passage(1, "Port 7419.")], description="Guides"),
            FixedStore("notes", app=False),
            FixedModel("Good ", "day."),
        )
        yield registry_daemon


async def use(daemon: RegistryFixture, name: str, caller: Principal = LOCAL, **arguments: Any) -> ToolResult:
    result, _events = await daemon.call(f"tool/{name}", ToolCall(arguments), caller)
    assert isinstance(result, ToolResult)
    return result


def test_every_built_in_tool_has_valid_schemas(daemon: RegistryFixture) -> None:
    tools = [make(daemon.registry) for make in BUILTIN]
    assert [tool.name for tool in tools] == ["ask_model", "current_time", "list_stores", "search"]
    for tool in tools:
        assert tool.read_only and tool.description.endswith(".")
        Draft202012Validator.check_schema(tool.input_schema)
        Draft202012Validator.check_schema(tool.output_schema or {})


async def test_results_match_their_schemas(daemon: RegistryFixture) -> None:
    calls: dict[str, dict[str, Any]] = {
        "ask_model": {"input": "Good morning", "model": "voice", "system": "Be brief.", "temperature": 0},
        "current_time": {"timezone": "Asia/Shanghai"},
        "list_stores": {},
        "search": {"store": "docs", "query": "port"},
    }
    for make in BUILTIN:
        tool = make(daemon.registry)
        result = await use(daemon, tool.name, **calls[tool.name])
        # In JSON, tuples are arrays.
        Draft202012Validator(dict(tool.output_schema or {})).validate(result.structured)


async def test_the_ask_model_tool_returns_the_models_answer(daemon: RegistryFixture) -> None:
    result = await use(daemon, "ask_model", input="Good morning", model="voice")
    assert result.text == "Good day." and result.structured == {"model": "voice", "answer": "Good day."}
    assert (await use(daemon, "ask_model", input="x", model="notes")).is_error


async def test_search_finds_passages(daemon: RegistryFixture) -> None:
    result = await use(daemon, "search", store="docs", query="port", max_num_results=1)
    assert result.text == "[1] guide.md, line 1 · Ports (score 0.90)\nPort 7419."
    assert result.structured is not None and result.structured["passages"][0]["file_id"] == "file-1"


async def test_searching_a_missing_store_suggests_the_most_similar_name(daemon: RegistryFixture) -> None:
    with pytest.raises(NotFound, match="Did you mean 'docs'"):
        await use(daemon, "search", store="dosc", query="port")


async def test_stores_are_listed_as_far_as_the_caller_may_read_them(daemon: RegistryFixture) -> None:
    assert (await use(daemon, "list_stores")).text == "- docs: Guides\n- notes"
    reader = Principal("k", frozenset({"tools:*:call", "stores:notes:read"}))
    assert (await use(daemon, "list_stores", reader)).text == "- notes"


async def test_current_time_uses_the_given_timezone_and_refuses_unknown_ones(daemon: RegistryFixture) -> None:
    result = await use(daemon, "current_time", timezone="Asia/Shanghai")
    assert result.structured is not None and result.structured["time"].endswith("+08:00")
    for zone in ("Mars/Olympus", "../etc/passwd", "Europe"):
        wrong = await use(daemon, "current_time", timezone=zone)
        assert wrong.is_error and zone in wrong.text


@pytest.mark.parametrize(
    ("arguments", "param", "rule"),
    [
        ({"store": "docs"}, "arguments", "required"),
        ({"store": "docs", "query": ""}, "arguments.query", "properties/query/minLength"),
        ({"store": "docs", "query": 7}, "arguments.query", "properties/query/type"),
        (
            {"store": "docs", "query": "x", "max_num_results": 51},
            "arguments.max_num_results",
            "properties/max_num_results/maximum",
        ),
        ({"store": "docs", "query": "x", "limit": 1}, "arguments", "additionalProperties"),
    ],
)
async def test_wrong_arguments_name_the_argument_and_the_rule(
    daemon: RegistryFixture, arguments: dict[str, Any], param: str, rule: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await use(daemon, "search", **arguments)
    assert caught.value.param == param
    assert f"Schema path: {rule}." in caught.value.message


async def test_a_tool_refuses_chat_requests_and_a_second_registration(daemon: RegistryFixture) -> None:
    with pytest.raises(InvalidRequest, match="is a tool"):
        await daemon.call("tool/search", Chat(({"role": "user", "content": "x"},)))
    with pytest.raises(Conflict):
        Toolbox(daemon.registry).register()
