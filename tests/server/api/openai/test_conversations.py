"""``/v1/conversations``, and responses that continue with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.server.api.openai.responses.test_create import WEATHER

from portico_server.db.rows import MAX_PAGE_CHARS

HELLO: Any = {"type": "message", "role": "user", "content": "hello there"}


def texts(client: OpenAI, conversation: str, **options: Any) -> list[str]:
    item_page = client.conversations.items.list(conversation, order="asc", **options)
    messages: list[Any] = list(item_page)
    return [message.content[0].text for message in messages]


def test_a_conversation_is_made_changed_and_forgotten(client: OpenAI) -> None:
    conversation = client.conversations.create(metadata={"topic": "ports"}, items=[HELLO])
    assert conversation.metadata == {"topic": "ports"}
    assert client.conversations.retrieve(conversation.id) == conversation
    changed_conversation = client.conversations.update(conversation.id, metadata={"topic": "bread"})
    assert changed_conversation.metadata == {"topic": "bread"}
    assert texts(client, conversation.id) == ["hello there"]
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError) as error_info:
        client.conversations.retrieve(conversation.id)
    assert error_info.value.code == "conversation_not_found"


def test_items_are_added_found_and_taken_out(client: OpenAI) -> None:
    conversation = client.conversations.create()
    items: Any = [{"role": "user", "content": f"word{number}"} for number in range(5)]
    new_items = client.conversations.items.create(conversation.id, items=items)
    assert [item.type for item in new_items.data] == ["message"] * 5
    assert texts(client, conversation.id, limit=2) == [f"word{number}" for number in range(5)]
    third = new_items.data[2]
    assert third.id is not None
    assert client.conversations.items.retrieve(third.id, conversation_id=conversation.id) == third
    client.conversations.items.delete(third.id, conversation_id=conversation.id)
    assert texts(client, conversation.id) == ["word0", "word1", "word3", "word4"]
    page = client.conversations.items.list(conversation.id, limit=1, after=new_items.data[1].id or "")
    assert [item.id for item in page.data] == [new_items.data[0].id]
    assert not page.has_more
    for attempt in (
        lambda: client.conversations.items.retrieve(third.id or "", conversation_id=conversation.id),
        lambda: client.conversations.items.list(conversation.id, after="msg_no"),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()


def test_file_search_results_of_an_item_are_returned_only_if_included(client: OpenAI) -> None:
    search_call: Any = {
        "type": "file_search_call",
        "id": "fs_1",
        "status": "completed",
        "queries": ["harbour"],
        "results": [{"file_id": "file_1", "text": "The harbour opens at six."}],
    }
    conversation = client.conversations.create()
    plain: Any = client.conversations.items.create(conversation.id, items=[search_call]).data[0]
    detailed_item: Any = client.conversations.items.create(
        conversation.id, items=[{**search_call, "id": "fs_2"}], include=["file_search_call.results"]
    ).data[0]
    assert plain.results is None
    assert detailed_item.results[0].text == "The harbour opens at six."
    with pytest.raises(openai.BadRequestError) as error_info:
        client.conversations.items.create(conversation.id, items=[HELLO], include=["everything"])  # type: ignore[list-item]
    assert error_info.value.param == "include[0]"


@pytest.mark.conformance("OpenAI", "Conversations", "openai")
def test_a_response_continues_a_conversation_and_is_added_to_it(client: OpenAI) -> None:
    conversation = client.conversations.create(items=[HELLO])
    first = client.responses.create(model="echo", input="one two three", conversation=conversation.id)
    assert first.usage is not None
    assert first.usage.input_tokens == 5
    stream = client.responses.create(
        model="echo", input="four", conversation={"id": conversation.id}, stream=True
    )
    last = list(stream)[-1].response  # type: ignore[union-attr]
    assert last.conversation is not None
    assert last.conversation.id == conversation.id
    assert texts(client, conversation.id) == ["hello there", "one two three", "one two three", "four", "four"]


def test_a_response_to_a_too_long_conversation_is_refused(client: OpenAI) -> None:
    conversation = client.conversations.create()
    long: Any = [{"role": "user", "content": "a" * 330_000}] * 20
    for _ in range(5):
        client.conversations.items.create(conversation.id, items=long)
    with pytest.raises(openai.BadRequestError) as error_info:
        client.responses.create(model="echo", input="Hello", conversation=conversation.id)
    assert (error_info.value.code, error_info.value.param) == ("context_length_exceeded", "conversation")
    page = client.conversations.items.list(conversation.id, limit=100, order="asc")
    assert len(page.data) == MAX_PAGE_CHARS // 330_000 and page.has_more  # each item is a little longer
    assert len({item.id for item in page}) == 100


def test_calls_and_their_outputs_stay_together(client: OpenAI) -> None:
    conversation = client.conversations.create()
    response = client.responses.create(
        model="clever", input="weather in Rome", tools=[WEATHER], conversation=conversation.id
    )
    call = response.output[-1]
    assert call.type == "function_call"
    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        client.responses.create(model="echo", input="and?", conversation=conversation.id)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    client.responses.create(model="echo", input=[output], conversation=conversation.id)
    kinds = [item.type for item in client.conversations.items.list(conversation.id, order="asc")]
    assert kinds[:4] == ["message", "message", "function_call", "function_call_output"]


def test_a_second_response_in_a_locked_conversation_is_a_409(client: OpenAI) -> None:
    conversation = client.conversations.create()
    with client.responses.create(
        model="clever", input="hang", conversation=conversation.id, stream=True
    ) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
        with pytest.raises(openai.ConflictError) as error_info:
            client.responses.create(model="echo", input="x", conversation=conversation.id)
        assert error_info.value.code == "conversation_locked"
    assert texts(client, conversation.id) == []


@pytest.mark.slow
def test_an_item_added_during_a_response_is_kept_and_the_response_fails(client: OpenAI) -> None:
    conversation = client.conversations.create()
    words = "word " * 100  # leaves time for the item
    stream = client.responses.create(
        model="clever", input=f"slowly {words}", conversation=conversation.id, stream=True
    )
    events: list[Any] = [next(stream)]
    client.conversations.items.create(conversation.id, items=[HELLO])
    with pytest.raises(openai.APIError, match="was changed"):
        events.extend(stream)
    assert events[-1].type == "response.failed"
    assert texts(client, conversation.id) == ["hello there"]


def test_an_agent_keeps_its_own_memory_of_a_conversation(client: OpenAI) -> None:
    conversation = client.conversations.create()
    for text in ("one two", "three"):
        client.responses.create(model="desk", input=text, conversation=conversation.id)
    assert texts(client, conversation.id) == ["one two", "one two", "three", "three"]


def test_another_key_cannot_read_use_or_delete_a_conversation(as_key: Callable[[str], OpenAI]) -> None:
    first_client, two = as_key("one"), as_key("two")
    conversation = first_client.conversations.create(items=[HELLO])
    [item] = first_client.conversations.items.list(conversation.id).data
    for attempt in (
        lambda: two.conversations.retrieve(conversation.id),
        lambda: two.conversations.items.list(conversation.id),
        lambda: two.conversations.delete(conversation.id),
        lambda: two.responses.create(model="echo", input="x", conversation=conversation.id),
        lambda: two.responses.create(model="echo", input=[{"type": "item_reference", "id": item.id or ""}]),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"type": "telepathy"}]}, "items[0].type"),
        ({"items": [{"type": "item_reference", "id": "x"}]}, "items[0].type"),
        ({"items": [HELLO] * 21}, "items"),
        ({"metadata": {"a": {}}}, "metadata.a"),
        ({"topic": "x"}, "topic"),
    ],
)
def test_invalid_conversation_requests_are_refused_with_the_parameter(
    client: OpenAI, body: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error_info:
        client.conversations.create(extra_body=body)
    assert error_info.value.param == param
