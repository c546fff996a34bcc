"""Validation of a text request before a model receives it, and what remains of a cancelled request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer

from portico_server.models.engines.openai_client.requests import prepare_chat, prepare_completion

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WRONG_SCHEMAS: list[tuple[str, Any]] = [
    ("invalid_schema", {"type": "nonsense"}),
    ("invalid_schema", {"type": "object", "properties": 5}),
    ("invalid_schema", {"type": "object", "required": "a"}),
    ("invalid_pattern", {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
]


@pytest.mark.parametrize(
    "parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}], ids=str
)
@pytest.mark.parametrize("template_has_tools", [True, False])
def test_a_function_without_parameters_takes_none(parameters: Any, template_has_tools: bool) -> None:
    function = {"name": "ping"} if parameters is None else {"name": "ping", "parameters": parameters}
    body = {"messages": HELLO, "tools": [{"type": "function", "function": function}]}
    [prepared_body] = prepare_chat(
        {**body, "tool_choice": "required"}, template_has_tools=template_has_tools
    ).bodies
    arguments = prepared_body["response_format"]["json_schema"]["schema"]["properties"]["arguments"]
    assert arguments == {"type": "object", "properties": {}, "additionalProperties": False}
    [free] = prepare_chat(body, template_has_tools=template_has_tools).bodies
    if template_has_tools:
        assert free["tools"][0]["function"]["parameters"] == arguments


@pytest.mark.slow
def test_the_arguments_of_a_function_are_always_an_object(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="echo",
        messages=HELLO,
        tools=[{"type": "function", "function": {"name": "ping"}}],
        tool_choice="required",
    )
    [called] = completion.choices[0].message.tool_calls or []
    assert called.type == "function" and json.loads(called.function.arguments) == {}


@pytest.mark.parametrize(("code", "schema"), WRONG_SCHEMAS, ids=str)
def test_a_wrong_schema_is_refused_before_a_model_sees_it(client: OpenAI, code: str, schema: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="echo",
            messages=HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        )
    assert (caught.value.param, caught.value.code) == ("response_format", code)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(
            model="echo",
            input="Hello",
            text={"format": {"type": "json_schema", "name": "answer", "schema": schema}},
        )
    assert (caught.value.param, caught.value.code) == ("text.format.schema", code)


def test_parameters_that_are_not_of_an_object_are_refused(client: OpenAI) -> None:
    for parameters in ({"type": "string"}, {"type": "object", "properties": {"x": {"type": "nonsense"}}}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="echo",
                messages=HELLO,
                tools=[{"type": "function", "function": {"name": "ping", "parameters": parameters}}],
            )
        assert str(caught.value.param).startswith("tools[0].function.parameters")


@pytest.mark.conformance("OpenAI", "Completions", "openai")
def test_a_completion_begins_with_its_prompt_where_that_is_wished_for(client: OpenAI) -> None:
    completion = client.completions.create(model="echo", prompt="Once upon a time", echo=True)
    assert completion.choices[0].text == "Once upon a timeOnce upon a time"
    # OpenAI itself sends null as finish_reason until the end, which its own type forbids, so this client is
    # not strict.
    with OpenAI(base_url=client.base_url, api_key=client.api_key) as lenient:
        stream = lenient.completions.create(model="echo", prompt="Once upon", echo=True, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == "Once uponOnce upon"
    prepared = prepare_completion({"prompt": ["a", "b"], "n": 2, "echo": True})
    assert prepared.echoes == ("a", "a", "b", "b")


@pytest.mark.parametrize("stop", [["", ""], "", ["", "world"]], ids=str)
def test_an_empty_stop_stops_nothing(client: OpenAI, stop: Any) -> None:
    messages: Any = [{"role": "user", "content": "Hello world"}]
    completion = client.chat.completions.create(model="echo", messages=messages, stop=stop)
    assert completion.choices[0].message.content == ("Hello " if "world" in stop else "Hello world")


def test_a_repeated_search_reuses_the_first_result_and_ends_the_response(
    client: OpenAI, harbour: Daemon
) -> None:
    stores = [store.id for store in client.vector_stores.list()]
    response = client.responses.create(
        model="clever",
        input="find port 7419",
        tools=[{"type": "file_search", "vector_store_ids": stores[:1]}],
        include=["file_search_call.results"],
    )
    searches = [item for item in response.output if item.type == "file_search_call"]
    assert response.status == "completed" and len(searches) == 2
    first, second = searches
    assert first.results and first.results == second.results


def test_a_cancelled_answer_is_counted(client: OpenAI, harbour: Daemon) -> None:
    messages: Any = [{"role": "user", "content": "hang"}]
    stream = client.chat.completions.create(model="frail", messages=messages, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content == " two":
            break
    stream.close()
    while (cancelled := newest_run(harbour, "frail"))["status"] == "running":
        pass
    assert cancelled["status"] == "cancelled" and cancelled["usage"]["completion_tokens"] > 0


def newest_run(harbour: Daemon, name: str) -> dict[str, Any]:
    rows = httpx.get(f"{harbour.url}/api/runs", headers=bearer("boss")).json()["data"]
    return next(row for row in rows if row["name"] == name)


def test_suggestions_for_an_unknown_path_are_not_repeated(
    as_key: Callable[[str], OpenAI], harbour: Daemon
) -> None:
    message = httpx.get(f"{harbour.url}/v1/respones", headers=bearer("boss")).json()["error"]["message"]
    suggestions = message.partition("Did you mean ")[2].rstrip("?").split(" or ")
    assert suggestions and len(suggestions) == len(set(suggestions))
