"""``/v1/responses`` with OpenAI's own client in strict mode: whole and streamed, stored, continued, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from tests.daemon import Daemon
from tests.server.api.openai.following import followed

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.mark.slow
@pytest.mark.conformance("OpenAI", "Responses", "openai")
def test_a_question_is_answered_as_openai_does(client: OpenAI) -> None:
    answer = client.responses.create(model="echo", input="one two three", instructions="Say it again.")
    assert answer.output_text == "one two three"
    assert (answer.status, answer.error, answer.incomplete_details) == ("completed", None, None)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens == 6 + 3
    assert answer.instructions == "Say it again."
    assert (answer.tools, answer.tool_choice, answer.parallel_tool_calls) == ([], "auto", True)


@pytest.mark.conformance("OpenAI", "Responses: streams", "openai")
def test_a_stream_sends_every_event_and_ends_with_the_stored_response(client: OpenAI) -> None:
    events, final = followed(client.responses.create(model="echo", input="one two three", stream=True))
    kinds = [event.type.removeprefix("response.") for event in events[2:]]
    assert [kind for kind, _ in groupby(kinds)] == [
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done", "completed"),
    ]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "one two three"
    assert final.output_text == "one two three"
    assert client.responses.retrieve(final.id) == final


@pytest.mark.conformance("OpenAI", "Responses: helpers and parsed output", "openai")
def test_the_stream_helper_and_parsing_work(client: OpenAI) -> None:
    with client.responses.stream(model="echo", input="one two three") as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        assert snapshots[-1] == "one two three"
        assert stream.get_final_response().output_text == "one two three"

    class Port(BaseModel):
        number: int

    response = client.responses.parse(model="echo", input="Which port?", text_format=Port)
    assert isinstance(response.output_parsed, Port)


def test_a_response_continues_the_previous_one_without_its_instructions(client: OpenAI) -> None:
    first = client.responses.create(model="echo", input="one two", instructions="four words of instruction")
    second = client.responses.create(model="echo", input="three", previous_response_id=first.id)
    assert second.usage is not None
    assert second.usage.input_tokens == 2 + 2 + 1
    assert second.instructions is None
    assert second.previous_response_id == first.id
    [item] = client.responses.input_items.list(second.id)
    assert item.type == "message"
    assert item.content[0].to_dict() == {"type": "input_text", "text": "three"}


def test_items_of_editors_that_are_no_messages_are_accepted(client: OpenAI) -> None:
    """Codex adds tools in an item: envoyproxy/ai-gateway 2586, 2442."""
    items: Any = [
        {"type": "additional_tools", "role": "developer", "tools": [WEATHER]},
        {"role": "user", "content": "one two"},
        {"type": "agent_reasoning", "text": "not for the model"},
        {"type": "configuration_update", "configuration": {}},
        {"type": "additional_tools", "tools": [WEATHER, {**WEATHER, "name": "get_tides"}]},
        {
            "type": "agent_message",
            "author": "/root/planner",
            "content": [{"type": "input_text", "text": "three"}, {"type": "encrypted_content", "data": "x"}],
        },
    ]
    answer = client.responses.create(model="echo", input=items, tools=[WEATHER], tool_choice="none")
    assert [tool.to_dict()["name"] for tool in answer.tools] == ["get_weather", "get_tides"]
    assert answer.output_text == "three\n[a part that only the provider of its sender can read]"
    assert len(client.responses.input_items.list(answer.id).data) == 2


@pytest.mark.parametrize(
    ("tool_list", "param"),
    [
        ("x", "input[0].tools"),
        (["x"], "tools[0]"),
        ([{**WEATHER, "name": str(n)} for n in range(1_001)], "input[0].tools"),
    ],
)
def test_added_tools_that_are_invalid_are_refused(client: OpenAI, tool_list: Any, param: str) -> None:
    items: Any = [{"type": "additional_tools", "tools": tool_list}, {"role": "user", "content": "one"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="echo", input=items)
    assert caught.value.param == param


def test_an_item_is_referred_to_by_its_id(client: OpenAI) -> None:
    first = client.responses.create(model="echo", input="one two")
    items: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "three"}]
    second = client.responses.create(model="echo", input=items)
    assert second.usage is not None
    assert second.usage.input_tokens == 3
    assert [item.type for item in client.responses.input_items.list(second.id)] == ["message", "message"]


def test_a_response_with_store_false_cannot_be_retrieved_or_continued(client: OpenAI) -> None:
    answer = client.responses.create(model="echo", input="one", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError) as error_info:
        client.responses.create(model="echo", input="two", previous_response_id=answer.id)
    assert (error_info.value.code, error_info.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )


def test_a_response_is_deleted_and_others_never_see_it(
    client: OpenAI, as_key: Callable[[str], OpenAI]
) -> None:
    first_client, two = as_key("one"), as_key("two")
    answer = first_client.responses.create(model="echo", input="one")
    item: Any = {"type": "item_reference", "id": answer.output[0].id}
    for attempt in (
        lambda: two.responses.retrieve(answer.id),
        lambda: two.responses.input_items.list(answer.id),
        lambda: two.responses.delete(answer.id),
        lambda: two.responses.create(model="echo", input="x", previous_response_id=answer.id),
        lambda: two.responses.create(model="echo", input=[item]),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    first_client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        first_client.responses.retrieve(answer.id)


def test_input_items_come_in_pages(client: OpenAI) -> None:
    items: Any = [{"role": "user", "content": f"word{number}"} for number in range(5)]
    answer = client.responses.create(model="echo", input=items)
    listed_items = list(client.responses.input_items.list(answer.id, limit=2, order="asc"))
    assert [item.to_dict()["content"][0]["text"] for item in listed_items] == [f"word{n}" for n in range(5)]  # type: ignore[index]
    page = client.responses.input_items.list(answer.id, limit=2)
    assert page.has_more
    assert [item.id for item in page.data] == [item.id for item in reversed(listed_items[-2:])]


def test_an_answer_that_is_too_long_is_incomplete(client: OpenAI) -> None:
    answer = client.responses.create(model="echo", input="one two three", max_output_tokens=2)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text == "one two"
    events, final = followed(
        client.responses.create(model="echo", input="one two three", max_output_tokens=2, stream=True)
    )
    assert events[-1].type == "response.incomplete"
    assert final.output[0].status == "incomplete"  # type: ignore[union-attr]


def test_log_probabilities_come_with_every_piece(client: OpenAI) -> None:
    events, final = followed(
        client.responses.create(model="echo", input="one two", top_logprobs=1, stream=True)
    )
    pieces = [event for event in events if event.type == "response.output_text.delta"]
    assert [logprob.token for piece in pieces for logprob in piece.logprobs] == ["one", " two"]
    [message] = final.output
    assert message.type == "message"
    [part] = message.content
    assert part.type == "output_text"
    assert [logprob.token for logprob in part.logprobs or ()] == ["one", " two"]


def test_a_stored_prompt_is_rendered_into_the_input(client: OpenAI) -> None:
    answer = client.responses.create(
        model="echo", prompt={"id": "greet", "version": "1", "variables": {"who": "Ann"}}
    )
    assert answer.output_text == "Greet Ann"
    with pytest.raises(openai.NotFoundError) as error_info:
        client.responses.create(model="echo", prompt={"id": "great"})
    assert error_info.value.param == "prompt.name"


@pytest.mark.conformance("OpenAI", "Responses: truncation", "openai")
def test_a_conversation_that_is_too_long_is_cut_if_that_is_wanted(client: OpenAI) -> None:
    items: Any = [{"role": "user", "content": f"some words of turn {number}"} for number in range(8)]
    with pytest.raises(openai.BadRequestError) as error_info:
        client.responses.create(model="narrow", input=items)
    assert error_info.value.code == "context_length_exceeded"
    answer = client.responses.create(model="narrow", input=items, truncation="auto")
    assert answer.output_text == "some words of turn 7"


def test_truncation_removes_old_tool_calls_before_the_question(client: OpenAI) -> None:
    items: Any = [{"role": "user", "content": "What is the weather?"}]
    for city in ("Rome", "Oslo", "Bonn"):
        call = {"type": "function_call", "call_id": city, "name": "get_weather", "arguments": "{}"}
        output = f"It is sunny in {city} today."
        items += [call, {"type": "function_call_output", "call_id": city, "output": output}]
    answer = client.responses.create(model="narrow", input=items, truncation="auto")
    assert answer.output_text == "What is the weather?"
    assert answer.usage is not None
    assert answer.usage.input_tokens == 10


def test_tokens_are_counted_without_an_answer(client: OpenAI) -> None:
    count = client.responses.input_tokens.count(model="echo", input="one two three")
    assert count.input_tokens == 3


# --- functions ------------------------------------------------------------------------------------------------


@pytest.mark.conformance("OpenAI", "Responses: functions", "openai")
def test_a_function_is_called_by_the_client_and_answered_in_the_next_request(client: OpenAI) -> None:
    events, final = followed(
        client.responses.create(model="clever", input="weather in Rome", tools=[WEATHER], stream=True)
    )
    message, call = final.output
    assert message.type == "message"
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Rome"})
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny and warm"}
    answer = client.responses.create(
        model="echo", previous_response_id=final.id, input=[output, {"role": "user", "content": "thanks"}]
    )
    assert answer.output_text == "thanks"
    items: Any = [{"role": "user", "content": "weather?"}, call.to_dict(), output]
    alone = client.responses.create(model="echo", input=items, store=False)
    assert alone.status == "completed"


def test_declared_tools_of_unsupported_types_are_accepted_but_not_run(client: OpenAI) -> None:
    tools: Any = [
        {"type": "web_search"},
        {"type": "custom", "name": "apply_patch", "format": {"type": "text"}},
        {"type": "namespace", "name": "crm", "description": "x", "tools": []},
        WEATHER,
    ]
    answer = client.responses.create(model="echo", input="one", tools=tools)
    assert answer.output_text == "one"
    assert [tool.type for tool in answer.tools] == ["web_search", "custom", "namespace", "function"]
    with pytest.raises(openai.BadRequestError) as error_info:
        client.responses.create(
            model="echo", input="one", tools=tools, tool_choice={"type": "custom", "name": "apply_patch"}
        )
    assert error_info.value.param == "tool_choice.type"


def test_a_forced_function_is_called(client: OpenAI) -> None:
    answer = client.responses.create(
        model="echo", input="one", tools=[WEATHER], tool_choice={"type": "function", "name": "get_weather"}
    )
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "get_weather"


# --- errors ---------------------------------------------------------------------------------------------

CALL: Any = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT: Any = {"type": "function_call_output", "call_id": "c1", "output": "x"}
DEEP: Any = json.loads("[" * 200 + "]" * 200)

WEB = {"type": "web_search"}


def allow_tools(*tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "mode": "auto", "tools": list(tools)}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": 7}, "input"),
    ({"input": []}, "input"),
    ({"input": [OUTPUT]}, "input"),
    ({"input": [CALL]}, "input"),
    ({"input": [OUTPUT, CALL]}, "input"),
    ({"input": [{"type": "telepathy"}]}, "input[0].type"),
    ({"input": [{"content": "x"}]}, "input[0].type"),
    ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "x"}]}]}, "input"),
    ({"input": "x", "temperature": 3}, "temperature"),
    ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
    ({"input": "x", "stop": ["a"] * 5}, "stop"),
    ({"input": "x", "seed": "one"}, "seed"),
    ({"input": "x", "logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias"),
    ({"input": "x", "include": ["everything"]}, "include[0]"),
    ({"input": "x", "metadata": {"a": 1}}, "metadata.a"),
    ({"input": "x", "metadata": {"a": "b" * 513}}, "metadata.a"),
    ({"input": "x", "background": True, "store": False}, "background"),
    ({"input": "x", "conversation": "conv_no"}, "conversation"),
    ({"input": "x", "conversation": "a", "previous_response_id": "b"}, "conversation"),
    ({"input": "x", "previous_response_id": "resp_no"}, "previous_response_id"),
    ({"input": [{"type": "item_reference", "id": "msg_no"}]}, "input[0].id"),
    ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"input": "x", "text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
    ({"input": "x", "tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
    ({"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {"x": DEEP}}]}, "tools"),
    ({"input": "x", "tool_choice": {"type": "function", "name": "f", "x": DEEP}}, "tool_choice"),
    ({"input": [{"role": "user", "content": "x", "y": DEEP}], "background": True}, "input"),
    ({"input": [{"type": "mcp_call", "server_label": "s", "name": "n", "output": ["x"]}]}, "input[0].output"),
    (
        {"input": [{"type": "code_interpreter_call", "container_id": "c", "outputs": ["x"]}]},
        "input[0].outputs[0]",
    ),
    ({"input": "x", "tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids"),
    (
        {"input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["vs_no"]}]},
        "tools[0].vector_store_ids[0]",
    ),
    (
        {
            "input": "x",
            "tools": [{"type": "file_search", "vector_store_ids": ["handbook"], "filters": {"type": "x"}}],
        },
        "tools[0].filters.type",
    ),
    ({"input": "x", "tools": [{"type": "mcp", "server_label": "nobody"}]}, "tools[0].server_label"),
    (
        {"input": "x", "tools": [{"type": "mcp", "server_label": "odd", "server_url": "http://10.0.0.1"}]},
        "tools[0].server_url",
    ),
    ({"input": "x", "tools": [{"type": "code_interpreter"}]}, "tools[0].container"),
    ({"input": "x", "tool_choice": "required"}, "tool_choice"),
    ({"input": "x", "tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
    ({"input": "x", "tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
    ({"input": "x", "tool_choice": {}}, "tool_choice.type"),
    ({"input": "x", "tool_choice": {"type": 7}}, "tool_choice.type"),
    ({"input": "x", "tool_choice": {"type": "banana"}}, "tool_choice.type"),
    ({"input": "x", "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"input": "x", "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice.name"),
    ({"input": "x", "tool_choice": allow_tools()}, "tool_choice.tools"),
    ({"input": "x", "tool_choice": allow_tools({})}, "tool_choice.tools[0].type"),
    ({"input": "x", "tool_choice": allow_tools({"type": "banana"})}, "tool_choice.tools[0].type"),
    ({"input": "x", "tool_choice": allow_tools({"type": "function", "name": "f"})}, "tool_choice.tools[0]"),
    (
        {"input": "x", "tools": [WEB], "tool_choice": {**allow_tools(WEB), "mode": "required"}},
        "tool_choice.tools",
    ),
    ({"input": "x", "moderation": {"model": "omni-moderation-latest"}}, "moderation"),
    ({"input": "x", "personality": "p" * 65}, "personality"),
    ({"input": "x", "temprature": 1}, "temprature"),
    ({"input": "x", "model": "vectors"}, "model"),
    ({"input": "x", "model": "nobody"}, "model"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=[f"{n}-{param}" for n, (_, param) in enumerate(WRONG)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_invalid_request_is_refused_with_the_parameter(
    harbour: Daemon, client: OpenAI, body: dict[str, Any], param: str, stream: bool
) -> None:
    answer = httpx.post(
        f"{harbour.url}/v1/responses",
        json={"model": "echo", "stream": stream, **body},
        headers={"Authorization": f"Bearer {client.api_key}"},
    )
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert error["param"] == param, error
    assert error["code"]
    assert error["message"]


def test_tools_that_the_key_may_not_use_are_refused(as_key: Callable[[str], OpenAI]) -> None:
    client = as_key("one")
    with pytest.raises(openai.PermissionDeniedError):
        client.responses.create(
            model="echo", input="x", tools=[{"type": "file_search", "vector_store_ids": ["handbook"]}]
        )
    with pytest.raises(openai.PermissionDeniedError):
        client.responses.create(
            model="echo", input="x", tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
        )


def test_an_error_before_the_first_word_is_a_status(client: OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as error_info:
            client.responses.create(model="clever", input="refuse", stream=stream)
        assert error_info.value.code == "rate_limit_exceeded"


def test_an_error_during_a_stream_closes_open_items_and_is_stored(client: OpenAI) -> None:
    events: list[Any] = []
    with pytest.raises(openai.APIError, match="in the middle"):
        events.extend(client.responses.create(model="frail", input="break off", stream=True))
    failure = events[-1]
    assert failure.type == "response.failed"
    assert failure.response.error.code == "server_error"
    assert failure.response.output[0].status == "incomplete"
    assert failure.response.output_text == "one two"
    stored_response = client.responses.retrieve(failure.response.id)
    assert stored_response.status == "failed"


def test_a_client_that_leaves_frees_the_model(harbour: Daemon, client: OpenAI) -> None:
    with client.responses.create(model="clever", input="hang", stream=True) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
    headers = {"Authorization": f"Bearer {client.api_key}"}
    runs = httpx.get(f"{harbour.url}/api/runs", headers=headers).json()["data"]
    [run] = [run for run in runs if run["kind"] == "responses" and run["name"] == "clever"][:1]
    events = httpx.get(
        f"{harbour.url}/api/runs/{run['id']}/events", headers=headers
    )  # until the run has ended
    assert "cancelled" in events.text


def turns_of(items: int, text: str = "a") -> Any:
    """Return a conversation of that many items, to which `clever` adds nothing."""
    return [{"role": "user", "content": text}] * (items - 1) + [{"role": "user", "content": "paint it"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("items", "text"), [(6_000, "a"), (2, "a" * 17_000_000)], ids=["items", "characters"]
)
def test_a_chain_that_is_too_long_is_refused(as_key: Callable[[str], OpenAI], items: int, text: str) -> None:
    client = as_key("one")
    first = client.responses.create(model="clever", input=turns_of(items, text))
    second = client.responses.create(
        model="clever", input=turns_of(items, text), previous_response_id=first.id
    )
    for path in ("/responses", "/responses/compact"):
        body = {"model": "clever", "input": "paint it", "previous_response_id": second.id}
        with pytest.raises(openai.BadRequestError) as error_info:
            client.post(path, cast_to=object, body=body)
        assert (error_info.value.code, error_info.value.param) == (
            "context_length_exceeded",
            "previous_response_id",
        )
        assert "Start again without 'previous_response_id'" in error_info.value.message
    # The response before it is still short enough, and a key that does not own a response learns nothing of
    # it.
    again = client.responses.create(model="clever", input="paint it", previous_response_id=first.id)
    assert again.status == "completed"
    with pytest.raises(openai.NotFoundError) as unknown:
        as_key("two").responses.create(model="clever", input="paint it", previous_response_id=second.id)
    assert unknown.value.code == "previous_response_not_found"


@pytest.mark.slow
def test_references_to_more_than_is_read_at_once_are_refused(as_key: Callable[[str], OpenAI]) -> None:
    client = as_key("one")
    responses = [
        client.responses.create(model="clever", input=turns_of(2, "a" * 17_000_000)) for _ in range(2)
    ]
    items: Any = [{"type": "item_reference", "id": response.output[0].id} for response in responses]
    assert client.responses.create(model="echo", input=items[:1]).output_text == "There it is."
    with pytest.raises(openai.BadRequestError) as error_info:
        client.responses.create(model="echo", input=items)
    assert (error_info.value.code, error_info.value.param) == ("context_length_exceeded", "input")
