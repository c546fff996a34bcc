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
    found = client.conversations.items.list(conversation, order="asc", **options)
    messages: list[Any] = list(found)
    return [message.content[0].text for message in messages]


def test_a_conversation_is_made_changed_and_forgotten(client: OpenAI) -> None:
    made = client.conversations.create(metadata={"topic": "ports"}, items=[HELLO])
    assert made.metadata == {"topic": "ports"}
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "bread"})
    assert changed.metadata == {"topic": "bread"}
    assert texts(client, made.id) == ["hello there"]
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as refused:
        client.conversations.retrieve(made.id)
    assert refused.value.code == "conversation_not_found"


def test_items_are_added_found_and_taken_out(client: OpenAI) -> None:
    made = client.conversations.create()
    many: Any = [{"role": "user", "content": f"word{number}"} for number in range(5)]
    added = client.conversations.items.create(made.id, items=many)
    assert [item.type for item in added.data] == ["message"] * 5
    assert texts(client, made.id, limit=2) == [f"word{number}" for number in range(5)]
    third = added.data[2]
    assert third.id is not None
    assert client.conversations.items.retrieve(third.id, conversation_id=made.id) == third
    client.conversations.items.delete(third.id, conversation_id=made.id)
    assert texts(client, made.id) == ["word0", "word1", "word3", "word4"]
    page = client.conversations.items.list(made.id, limit=1, after=added.data[1].id or "")
    assert [item.id for item in page.data] == [added.data[0].id]
    assert not page.has_more
    for attempt in (
        lambda: client.conversations.items.retrieve(third.id or "", conversation_id=made.id),
        lambda: client.conversations.items.list(made.id, after="msg_no"),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()


def test_file_search_results_of_an_item_are_returned_only_if_included(client: OpenAI) -> None:
    found: Any = {
        "type": "file_search_call",
        "id": "fs_1",
        "status": "completed",
        "queries": ["harbour"],
        "results": [{"file_id": "file_1", "text": "The harbour opens at six."}],
    }
    made = client.conversations.create()
    plain: Any = client.conversations.items.create(made.id, items=[found]).data[0]
    asked: Any = client.conversations.items.create(
        made.id, items=[{**found, "id": "fs_2"}], include=["file_search_call.results"]
    ).data[0]
    assert plain.results is None
    assert asked.results[0].text == "The harbour opens at six."
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.items.create(made.id, items=[HELLO], include=["everything"])  # type: ignore[list-item]
    assert refused.value.param == "include[0]"


@pytest.mark.conformance("OpenAI", "Conversations", "openai")
def test_a_response_continues_a_conversation_and_is_added_to_it(client: OpenAI) -> None:
    made = client.conversations.create(items=[HELLO])
    first = client.responses.create(model="echo", input="one two three", conversation=made.id)
    assert first.usage is not None
    assert first.usage.input_tokens == 5
    stream = client.responses.create(model="echo", input="four", conversation={"id": made.id}, stream=True)
    last = list(stream)[-1].response  # type: ignore[union-attr]
    assert last.conversation is not None
    assert last.conversation.id == made.id
    assert texts(client, made.id) == ["hello there", "one two three", "one two three", "four", "four"]


def test_a_response_to_a_too_long_conversation_is_refused(client: OpenAI) -> None:
    made = client.conversations.create()
    long: Any = [{"role": "user", "content": "a" * 330_000}] * 20
    for _ in range(5):
        client.conversations.items.create(made.id, items=long)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="echo", input="Hello", conversation=made.id)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "conversation")
    page = client.conversations.items.list(made.id, limit=100, order="asc")
    assert len(page.data) == MAX_PAGE_CHARS // 330_000 and page.has_more  # each item is a little longer
    assert len({item.id for item in page}) == 100


def test_calls_and_their_outputs_stay_together(client: OpenAI) -> None:
    made = client.conversations.create()
    asked = client.responses.create(
        model="clever", input="weather in Rome", tools=[WEATHER], conversation=made.id
    )
    call = asked.output[-1]
    assert call.type == "function_call"
    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        client.responses.create(model="echo", input="and?", conversation=made.id)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    client.responses.create(model="echo", input=[output], conversation=made.id)
    kinds = [item.type for item in client.conversations.items.list(made.id, order="asc")]
    assert kinds[:4] == ["message", "message", "function_call", "function_call_output"]


def test_a_second_response_in_a_locked_conversation_is_a_409(client: OpenAI) -> None:
    made = client.conversations.create()
    with client.responses.create(model="clever", input="hang", conversation=made.id, stream=True) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
        with pytest.raises(openai.ConflictError) as refused:
            client.responses.create(model="echo", input="x", conversation=made.id)
        assert refused.value.code == "conversation_locked"
    assert texts(client, made.id) == []


def test_an_item_added_during_a_response_is_kept_and_the_response_fails(client: OpenAI) -> None:
    made = client.conversations.create()
    words = "word " * 100  # leaves time for the item
    stream = client.responses.create(
        model="clever", input=f"slowly {words}", conversation=made.id, stream=True
    )
    events: list[Any] = [next(stream)]
    client.conversations.items.create(made.id, items=[HELLO])
    with pytest.raises(openai.APIError, match="was changed"):
        events.extend(stream)
    assert events[-1].type == "response.failed"
    assert texts(client, made.id) == ["hello there"]


def test_an_agent_keeps_its_own_memory_of_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create()
    for text in ("one two", "three"):
        client.responses.create(model="desk", input=text, conversation=made.id)
    assert texts(client, made.id) == ["one two", "one two", "three", "three"]


def test_another_key_cannot_read_use_or_delete_a_conversation(as_key: Callable[[str], OpenAI]) -> None:
    one, two = as_key("one"), as_key("two")
    made = one.conversations.create(items=[HELLO])
    [item] = one.conversations.items.list(made.id).data
    for attempt in (
        lambda: two.conversations.retrieve(made.id),
        lambda: two.conversations.items.list(made.id),
        lambda: two.conversations.delete(made.id),
        lambda: two.responses.create(model="echo", input="x", conversation=made.id),
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
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.create(extra_body=body)
    assert refused.value.param == param
