"""Stored chat completions, by the official client."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletionChunk
from tests import daemon as daemons
from tests.api_server import RelayModel, api_server
from tests.daemon import Daemon
from tests.server.api.openai.conftest import KEYS, bearer, secret

from portico_server.core.principal import LOCAL
from portico_server.db.usage import DAY_S
from portico_server.features.stored_chats import stored_chats

REPLIES = [
    {
        "match": r"^weather in (\w+)",
        "content": "Let me look.",
        "tool_calls": [{"name": "get_weather", "arguments": {"city": r"\1"}}],
    },
    {"match": r"^break off", "content": "one two three four", "crash": 2},
    {"match": r"^slowly (.+)", "content": r"\1", "interval": 0.05},
]

SAY: Any = [{"role": "user", "content": "weather in Rome"}]


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Daemon]:
    """A daemon that requires keys, with scripted models and an app over ``handbook``."""
    home = tmp_path_factory.mktemp("chats")
    models = [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": REPLIES}}},
    ]
    (home / "chats.yaml").write_text(json.dumps({"models": models, "keys": KEYS}), encoding="utf-8")
    arguments = ("--file", str(home / "chats.yaml"), "--docs", str(docs))
    with daemons.running(home / "data", *arguments, env={"PORTICO_REQUIRE_KEY": "true"}) as running:
        with httpx.Client(base_url=running.url, headers=bearer("boss"), timeout=60) as plain:
            for run in plain.get("/api/status").json()["startup"]:
                plain.get(f"/api/runs/{run}/events")
        yield running


@pytest.fixture(scope="module")
def as_key(harbour: Daemon) -> Iterator[Callable[[str], OpenAI]]:
    """Return a function that creates OpenAI's client in strict mode for a key by name."""
    with contextlib.ExitStack() as stack:

        def client(name: str) -> OpenAI:
            openai_client = OpenAI(
                base_url=f"{harbour.url}/v1",
                api_key=secret(name),
                max_retries=0,
                _strict_response_validation=True,
            )
            return stack.enter_context(openai_client)

        yield client


@pytest.fixture
def one(as_key: Callable[[str], OpenAI]) -> Iterator[OpenAI]:
    """A client of one key whose stored data is removed after each test."""
    client = as_key("one")
    yield client
    for chat in client.chat.completions.list(limit=100):
        client.chat.completions.delete(chat.id)


@pytest.mark.conformance("OpenAI", "Chat completions: stored", "openai")
def test_stored_chats_are_listed_read_labelled_and_removed(one: OpenAI) -> None:
    chat_completion = one.chat.completions.create(
        model="clever", messages=SAY, store=True, metadata={"topic": "weather"}, temperature=0.5, seed=3
    )
    stored_chat = one.chat.completions.retrieve(chat_completion.id)
    assert stored_chat.choices == chat_completion.choices
    assert (stored_chat.id, stored_chat.model, stored_chat.usage, stored_chat.created) == (
        chat_completion.id,
        chat_completion.model,
        chat_completion.usage,
        chat_completion.created,
    )
    fields = stored_chat.to_dict()
    assert {name: fields[name] for name in ("metadata", "temperature", "seed")} == {
        "metadata": {"topic": "weather"},
        "temperature": 0.5,
        "seed": 3,
    }
    updated_chat = one.chat.completions.update(chat_completion.id, metadata={"topic": "rain"})
    assert updated_chat.to_dict()["metadata"] == {"topic": "rain"}
    assert [chat.id for chat in one.chat.completions.list(metadata={"topic": "rain"})] == [chat_completion.id]
    assert one.chat.completions.list(metadata={"topic": "weather"}).data == []
    assert one.chat.completions.delete(chat_completion.id).deleted
    with pytest.raises(NotFoundError) as error:
        one.chat.completions.retrieve(chat_completion.id)
    assert error.value.code == "chat_completion_not_found"


def test_only_chats_with_store_true_are_stored(one: OpenAI) -> None:
    for options in ({}, {"store": False}, {"metadata": {"a": "b"}}):
        one.chat.completions.create(model="clever", messages=SAY, **options)
    assert one.chat.completions.list().data == []


def merged(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == 0
    )


def test_a_stream_is_stored_as_the_answer_that_it_was(one: OpenAI) -> None:
    chunks = list(one.chat.completions.create(model="clever", messages=SAY, store=True, stream=True))
    stored_chat = one.chat.completions.retrieve(chunks[0].id)
    message = stored_chat.choices[0].message
    assert message.content == merged(chunks) == "Let me look."
    assert message.tool_calls is not None
    [call] = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Rome"})
    assert stored_chat.choices[0].finish_reason == "tool_calls"
    assert stored_chat.usage is not None
    assert stored_chat.usage.total_tokens > 0
    whole_chat = one.chat.completions.create(model="clever", messages=SAY, store=True)
    assert [c.message.content for c in whole_chat.choices] == [message.content]


def test_choices_and_log_probabilities_of_a_stream_are_merged_when_stored(one: OpenAI) -> None:
    chunks = list(
        one.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "one two"}],
            n=2,
            logprobs=True,
            store=True,
            stream=True,
        )
    )
    stored_chat = one.chat.completions.retrieve(chunks[0].id)
    assert [choice.index for choice in stored_chat.choices] == [0, 1]
    assert {choice.message.content for choice in stored_chat.choices} == {merged(chunks)}
    token_count = sum(
        len(choice.logprobs.content or ())
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == 0 and choice.logprobs
    )
    logprobs = stored_chat.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.content or ()) == token_count > 0


def test_an_app_is_stored_like_a_model(harbour: Daemon) -> None:
    # A plain client, because the official client's types have no citations of files as annotations.
    with httpx.Client(base_url=f"{harbour.url}/v1", headers=bearer("boss"), timeout=60) as plain:
        ask = {
            "model": "handbook",
            "messages": [{"role": "user", "content": "Which port does it listen on?"}],
            "store": True,
        }
        whole_chat = plain.post("/chat/completions", json=ask).json()
        frames = plain.post("/chat/completions", json={**ask, "stream": True}).text
        streamed = json.loads(frames.partition("\n\n")[0].removeprefix("data: "))
        for chat_id in (whole_chat["id"], streamed["id"]):
            stored_chat = plain.get(f"/chat/completions/{chat_id}").json()
            message = stored_chat["choices"][0]["message"]
            assert "7419" in message["content"]
            assert message["annotations"][0]["type"] == "file_citation"
            plain.delete(f"/chat/completions/{chat_id}").raise_for_status()


def test_a_stream_that_is_left_or_fails_is_not_stored(one: OpenAI) -> None:
    stream = one.chat.completions.create(
        model="clever",
        messages=[{"role": "user", "content": "slowly one two three four five six"}],
        store=True,
        stream=True,
    )
    next(iter(stream))
    stream.close()
    with pytest.raises(Exception, match=r"."):
        list(
            one.chat.completions.create(
                model="clever",
                messages=[{"role": "user", "content": "break off"}],
                store=True,
                stream=True,
            )
        )
    assert one.chat.completions.list().data == []


def test_lists_come_in_pages_in_both_orders_and_by_model(one: OpenAI) -> None:
    chat_ids = [
        one.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], store=True
        ).id
        for model in ("echo", "clever", "echo")
    ]
    first = one.chat.completions.list(limit=2)
    assert first.has_more
    assert [chat.id for chat in first] == chat_ids, "the client turns the pages"
    assert [chat.id for chat in one.chat.completions.list(order="desc", limit=1)] == chat_ids[::-1]
    assert [chat.id for chat in one.chat.completions.list(model="echo")] == [chat_ids[0], chat_ids[2]]
    with pytest.raises(NotFoundError):
        one.chat.completions.list(after="chatcmpl-none")


def test_messages_are_those_of_the_request(as_key: Callable[[str], OpenAI], harbour: Daemon) -> None:
    strict = as_key("one")
    lenient = strict.with_options()  # OpenAI's type of a message allows only the role 'assistant'
    lenient._strict_response_validation = False
    parts = [{"type": "text", "text": "hello"}]
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And?"},
    ]
    completion = strict.chat.completions.create(model="echo", messages=messages, store=True)
    stored_messages = list(lenient.chat.completions.messages.list(completion.id, limit=3))
    assert [message.role for message in stored_messages] == [message["role"] for message in messages]
    assert [message.content for message in stored_messages] == ["Be brief.", None, "Hello.", "And?"]
    assert stored_messages[1].content_parts is not None
    assert [part.to_dict() for part in stored_messages[1].content_parts] == parts
    newest = lenient.chat.completions.messages.list(completion.id, order="desc", limit=1).data[0]
    assert newest.id == stored_messages[-1].id
    with pytest.raises(NotFoundError):
        lenient.chat.completions.messages.list(completion.id, after="x")
    strict.chat.completions.delete(completion.id)


def test_another_key_cannot_list_read_change_or_delete_a_stored_chat(
    one: OpenAI, as_key: Callable[[str], OpenAI]
) -> None:
    stored_chat = one.chat.completions.create(model="echo", messages=SAY, store=True)
    two = as_key("two")
    assert two.chat.completions.list().data == []
    for call in (
        lambda: two.chat.completions.retrieve(stored_chat.id),
        lambda: two.chat.completions.update(stored_chat.id, metadata={}),
        lambda: two.chat.completions.delete(stored_chat.id),
        lambda: two.chat.completions.messages.list(stored_chat.id),
        lambda: two.chat.completions.list(after=stored_chat.id),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert stored_chat.id in [chat.id for chat in as_key("boss").chat.completions.list()]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": "yes"}, "store"),
        ({"store": True, "metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"store": True, "metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ],
)
def test_invalid_store_or_metadata_is_refused_before_the_model_runs(
    one: OpenAI, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as error:
        one.chat.completions.create(model="echo", messages=SAY, extra_body=body)
    assert error.value.param == param
    assert one.chat.completions.list().data == []


def test_other_methods_of_the_path_are_refused_as_before(harbour: Daemon) -> None:
    answer = httpx.delete(f"{harbour.url}/v1/chat/completions", headers=bearer("one"))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, GET")


# --- limits, time and providers -------------------------------------------------------------------------


def answered(chat_id: str) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello."},
        "finish_reason": "stop",
    }
    return json.dumps(
        {"id": chat_id, "object": "chat.completion", "created": 1, "model": "teller", "choices": [choice]}
    ).encode()


async def test_the_oldest_stored_chats_are_evicted_and_old_ones_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_chats, "MAX_CHATS_COUNT", 3)
    async with api_server(tmp_path, keep_responses_days=30) as api:
        api.add(RelayModel("teller", b""))

        async def ids() -> list[str]:
            answer = await api.client.get("/v1/chat/completions")
            return [chat["id"] for chat in answer.json()["data"]]

        async def keep(chat_id: str, text: str = "Hello") -> None:
            body = {"model": "teller", "messages": [{"role": "user", "content": text}]}
            await api.services.chats.record(body, LOCAL).keep(answered(chat_id))

        for number in range(5):
            await keep(f"chatcmpl-{number}")
        assert await ids() == ["chatcmpl-2", "chatcmpl-3", "chatcmpl-4"]
        monkeypatch.setattr(stored_chats, "MAX_CHATS_BYTES", 3_000)
        await keep("chatcmpl-5", "x" * 2_000)
        assert (await ids())[-1] == "chatcmpl-5"
        assert len(await ids()) == 3
        await keep("chatcmpl-6", "x" * 2_000)
        assert await ids() == ["chatcmpl-6"]
        retention = api.services.retention
        assert (await retention.prune(dry_run=True)).chats == 0
        later = time.time() + 31 * DAY_S
        monkeypatch.setattr(time, "time", lambda: later)
        assert (await retention.prune(dry_run=True)).chats == 1
        assert (await retention.prune()).chats == 1
        assert await ids() == []


async def test_a_provider_is_not_asked_to_store(tmp_path: Path) -> None:
    async with api_server(tmp_path) as api:
        model = RelayModel("teller", answered("chatcmpl-1"))
        api.add(model)
        body = {"model": "teller", "messages": SAY, "store": True, "metadata": {"a": "b"}}
        answer = await api.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        assert not {"store", "metadata"} & model.asked[0].body.keys()
        large = {**body, "messages": [{"role": "user", "content": "x" * stored_chats.MAX_CHAT_BYTES}]}
        refusal = await api.client.post("/v1/chat/completions", json=large)
        assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "store")
