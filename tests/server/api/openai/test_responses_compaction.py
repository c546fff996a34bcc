"""Long conversations: compacted on request and above a threshold, then continued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer
from tests.server.api.openai.following import followed
from tests.server.api.openai.test_responses_background import begun, ended

NOTES = "They asked for the port, which is 7419."
LONG: Any = [
    {"role": "user", "content": "Which port? " + "tide " * 60},
    {"role": "assistant", "content": "It is 7419. " + "ebb " * 60},
]
THRESHOLD: Any = [{"type": "compaction", "compact_threshold": 100}]


@pytest.fixture(scope="module")
def loose(harbour: Daemon) -> Any:
    """A client that accepts user messages in an output, contrary to OpenAI's types."""
    with httpx.Client(base_url=f"{harbour.url}/v1", headers=bearer("boss"), timeout=60) as http:
        yield http


def compacted(loose: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = loose.post("/responses/compact", json={"model": "notary", **body})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_a_conversation_becomes_the_users_messages_and_one_item(loose: httpx.Client, client: OpenAI) -> None:
    compaction = compacted(loose, input=[*LONG, {"role": "user", "content": "And why?"}])
    assert (compaction["object"], compaction["id"][:5]) == ("response.compaction", "resp_")
    assert [(item["type"], item.get("role")) for item in compaction["output"]] == [
        ("message", "user"),
        ("message", "user"),
        ("compaction", None),
    ]
    assert compaction["usage"]["output_tokens"] > 0
    # The model echoes its prompt, so its answer shows what it received.
    answer = client.responses.create(
        model="notary", input=[*compaction["output"], {"role": "user", "content": "Go on."}]
    )
    assert answer.output_text.startswith("Which port?")
    assert NOTES in answer.output_text
    assert answer.output_text.endswith("Go on.")
    assert "ebb" not in answer.output_text
    assert client.responses.retrieve(answer.id) == answer


def test_a_compacted_conversation_can_be_compacted_again(loose: httpx.Client) -> None:
    first = compacted(loose, input=LONG)
    second = compacted(loose, input=[*first["output"], {"role": "user", "content": "And why?"}])
    roles = [item.get("role", item["type"]) for item in second["output"]]
    assert roles == ["user", "user", "compaction"]


def test_a_stored_response_is_compacted_by_its_id(loose: httpx.Client, client: OpenAI) -> None:
    response = client.responses.create(model="notary", input=LONG[:1])
    raw = client.responses.with_raw_response.compact(model="notary", previous_response_id=response.id)
    assert raw.http_response.json()["output"][-1]["type"] == "compaction"


@pytest.mark.conformance("OpenAI", "Responses: compaction", "openai")
@pytest.mark.parametrize("stream", [False, True])
def test_above_the_threshold_what_is_before_the_last_turn_is_summed_up(client: OpenAI, stream: bool) -> None:
    input_items: Any = [*LONG, {"role": "user", "content": "And why?"}]
    if stream:
        event_stream = client.responses.create(
            model="notary", input=input_items, context_management=THRESHOLD, stream=True
        )
        _events, answer = followed(event_stream)
    else:
        answer = client.responses.create(model="notary", input=input_items, context_management=THRESHOLD)
    assert [item.type for item in answer.output] == ["compaction", "message"]
    assert NOTES in answer.output_text
    assert answer.output_text.endswith("And why?")
    assert "tide" not in answer.output_text
    # The conversation continues by id, or by items; items before the compaction may be omitted.
    continuation = client.responses.create(model="notary", input="More.", previous_response_id=answer.id)
    assert continuation.usage is not None
    assert continuation.usage.input_tokens < 100
    items: Any = [item.model_dump(exclude_none=True) for item in answer.output]
    again = client.responses.create(model="notary", input=[*items, {"role": "user", "content": "More."}])
    assert again.usage is not None
    assert again.usage.input_tokens == continuation.usage.input_tokens


def test_short_user_messages_are_kept_verbatim_in_compaction(client: OpenAI) -> None:
    words = ("My name is Ann.", "So?")
    input_items: Any = [*LONG, *({"role": "user", "content": text} for text in words)]
    answer = client.responses.create(model="notary", input=input_items, context_management=THRESHOLD)
    assert NOTES in answer.output_text
    assert "My name is Ann." in answer.output_text


def test_below_the_threshold_nothing_is_done(client: OpenAI) -> None:
    answer = client.responses.create(model="notary", input="one two", context_management=THRESHOLD)
    assert [item.type for item in answer.output] == ["message"]


def test_function_calls_stay_with_their_outputs_in_compaction(client: OpenAI) -> None:
    input_items: Any = [
        *LONG,
        {"role": "user", "content": "Look it up."},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "found " * 20},
    ]
    answer = client.responses.create(model="notary", input=input_items, context_management=THRESHOLD)
    assert answer.output[0].type == "compaction"
    next_input: Any = [*answer.output, {"role": "user", "content": "So?"}]
    assert client.responses.create(model="notary", input=next_input).status == "completed"


def test_a_trigger_behind_the_input_compacts_at_once(client: OpenAI) -> None:
    trigger: Any = {"type": "compaction_trigger"}
    answer = client.responses.create(model="notary", input=[*LONG, trigger])
    assert [item.type for item in answer.output] == ["compaction"]
    continuation = client.responses.create(model="notary", input="So?", previous_response_id=answer.id)
    assert NOTES in continuation.output_text
    with pytest.raises(openai.BadRequestError, match="must be the last item"):
        client.responses.create(model="notary", input=[trigger, *LONG])


def test_a_conversation_that_the_model_cannot_read_at_once_is_summed_up_in_parts(loose: httpx.Client) -> None:
    turns = [
        {"role": role, "content": f"{role} {number} " + "word " * 40}
        for number in range(4)
        for role in ("user", "assistant")
    ]
    response = loose.post("/responses", json={"model": "forgetful", "input": turns})
    assert response.json()["error"]["code"] == "context_length_exceeded"
    compaction = compacted(loose, model="forgetful", input=turns)
    assert compaction["output"][-1]["type"] == "compaction"


def test_background_responses_in_a_conversation_are_compacted(client: OpenAI) -> None:
    conversation = client.conversations.create(items=LONG)
    first, run = begun(
        client, model="notary", input="And why?", conversation=conversation.id, context_management=THRESHOLD
    )
    done = ended(client, first, run)
    assert [item.type for item in done.output] == ["compaction", "message"]
    items = client.conversations.items.list(conversation.id, order="asc").data
    assert [item.type for item in items] == ["message", "message", "message", "compaction", "message"]
    continuation = client.responses.create(model="notary", input="More.", conversation=conversation.id)
    assert continuation.usage is not None
    assert continuation.usage.input_tokens < 100


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"context_management": [{"type": "forgetting"}]}, "context_management[0].type"),
        ("", {"context_management": [{"type": "compaction"}]}, "context_management[0].compact_threshold"),
        (
            "",
            {"context_management": [{"type": "compaction", "compact_threshold": 1}]},
            "context_management[0].compact_threshold",
        ),
        ("", {"model": "desk", "context_management": THRESHOLD}, "context_management"),
        (
            "",
            {"input": [{"type": "compaction", "encrypted_content": "gAAAA"}]},
            "input[0].encrypted_content",
        ),
        (
            "",
            {"input": [{"type": "compaction", "encrypted_content": "portico.1.e30="}]},
            "input[0].encrypted_content",
        ),
        ("/compact", {"model": "desk"}, "context_management"),
        ("/compact", {"stream": True}, "stream"),
        ("/compact", {"input": []}, "input"),
    ],
)
def test_invalid_compaction_requests_are_refused_with_the_parameter(
    loose: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    answer = loose.post(f"/responses{path}", json={"model": "notary", "input": "x", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_compaction_with_an_unknown_model_is_a_404(as_key: Callable[[str], OpenAI]) -> None:
    with pytest.raises(openai.NotFoundError):
        as_key("one").responses.compact(model="nobody", input="x")
