"""Other servers' bugs that break OpenAI's own strict client; Portico has none of them.

The numbers are those of the project's list of pitfalls. 1 to 4 and 15 concern the Responses API:
`tests/server/api/openai` and `tests/server/features/responses`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from tests.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "one two three"}]
LOOK: Any = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(daemon: Daemon) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{daemon.url}/v1", api_key="local", max_retries=0, _strict_response_validation=True
    ) as sdk_client:
        yield sdk_client


async def raw(daemon: Daemon, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as plain:
        return await plain.post("/v1/chat/completions", json={"model": "echo", "messages": HELLO, **body})


async def test_5_tool_call_deltas_have_an_index_and_name_once(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="echo", messages=HELLO, tools=[LOOK], tool_choice="required", stream=True
    )
    names_by_index: dict[int, list[str]] = {}
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            if call.id or call.function.name:
                names_by_index.setdefault(call.index, []).append(f"{call.id} {call.function.name}")
    assert list(names_by_index) == list(range(len(names_by_index)))
    assert names_by_index
    assert all(len(names) == 1 for names in names_by_index.values())


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
async def test_6_the_finish_reason_after_tool_calls_is_tool_calls(client: AsyncOpenAI, choice: Any) -> None:
    answer = await client.chat.completions.create(
        model="echo", messages=HELLO, tools=[LOOK], tool_choice=choice
    )
    [answer_choice] = answer.choices
    assert answer_choice.finish_reason == "tool_calls"
    assert answer_choice.message.tool_calls
    assert answer_choice.message.tool_calls[0].id.startswith("call_")


async def test_only_allowed_tools_are_called(client: AsyncOpenAI) -> None:
    hear: Any = {"type": "function", "function": {"name": "hear"}}
    tool_choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [hear]}}
    answer = await client.chat.completions.create(
        model="echo", messages=HELLO, tools=[LOOK, hear], tool_choice=tool_choice
    )
    [call] = answer.choices[0].message.tool_calls or ()
    assert call.type == "function" and call.function.name == "hear"


PORT: Any = [{"role": "user", "content": "Which port does the Lighthouse daemon listen on?"}]


@pytest.mark.parametrize("model", ["echo", "handbook"])
async def test_7_no_chunk_is_without_choices_unless_usage_was_asked_for(
    client: AsyncOpenAI, model: str
) -> None:
    plain = [
        chunk async for chunk in await client.chat.completions.create(model=model, messages=PORT, stream=True)
    ]
    assert all(chunk.choices for chunk in plain)
    assert all(chunk.usage is None for chunk in plain)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=model, messages=PORT, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert [bool(chunk.choices) for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


async def test_7_all_chunks_of_a_stream_share_id_and_creation_time(client: AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(model="echo", messages=HELLO, stream=True)
    ]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"


async def test_8_embeddings_come_as_base64_and_as_numbers(client: AsyncOpenAI, daemon: Daemon) -> None:
    # The strict client rejects the base64 that it requested itself, before decoding it.
    async with AsyncOpenAI(base_url=client.base_url, api_key="local") as lenient:
        by_default = await lenient.embeddings.create(model="fake-embedding", input=["a", "b"])
    in_numbers = await client.embeddings.create(
        model="fake-embedding", input=["a", "b"], encoding_format="float"
    )
    assert len(in_numbers.data[0].embedding) == 64
    async with httpx.AsyncClient(base_url=daemon.url) as plain:
        answers = [
            (
                await plain.post(
                    "/v1/embeddings",
                    json={"model": "fake-embedding", "input": ["a", "b"], "encoding_format": encoding},
                )
            ).json()
            for encoding in ("float", "base64")
        ]
    numbers, packed = ([item["embedding"] for item in answer["data"]] for answer in answers)
    unpacked = [list(struct.unpack("<64f", base64.b64decode(text))) for text in packed]
    for decoded_item, read, plain_numbers in zip(by_default.data, unpacked, numbers, strict=True):
        assert decoded_item.embedding == pytest.approx(plain_numbers)
        assert read == pytest.approx(plain_numbers)
    assert [item.index for item in by_default.data] == [0, 1]


async def test_9_token_arrays_of_langchain_are_embedded_like_their_text(client: AsyncOpenAI) -> None:
    tokens = [9906, 220, 3574, 244, 98220, 1917]  # tokens of cl100k_base, as LangChain sends them by default
    plain = await client.embeddings.create(
        model="fake-embedding", input=["Hello 世界 world"], encoding_format="float"
    )
    for embedding_input in (tokens, [tokens]):
        read = await client.embeddings.create(
            model="fake-embedding", input=embedding_input, encoding_format="float"
        )
        assert read.data[0].embedding == plain.data[0].embedding
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="fake-embedding", input=[[9906], [100_400]])
    assert caught.value.param == "input[1]"


async def test_10_messages_with_the_developer_role_are_accepted(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="echo", messages=[{"role": "developer", "content": "Be brief."}, *HELLO]
    )
    assert answer.choices[0].message.content == "one two three"


@pytest.mark.parametrize("content", [None, ""])
async def test_11_an_assistant_message_may_be_empty(client: AsyncOpenAI, content: str | None) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history: Any = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "content": content},
        *HELLO,
    ]
    answer = await client.chat.completions.create(model="echo", messages=history, tools=[LOOK])
    assert answer.choices[0].message.content is not None or answer.choices[0].message.tool_calls


async def test_12_errors_have_openais_shape_and_types(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="nope", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.chat.completions.create(model="echo", messages=HELLO, temperature=7)
    assert wrong.value.param == "temperature"
    assert isinstance(wrong.value.code, str)
    assert wrong.value.request_id is not None
    with pytest.raises(openai.NotFoundError):
        await client.get("/nowhere", cast_to=object)
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="pk-wrong").models.list()


async def test_13_an_error_before_the_first_byte_of_a_stream_has_a_status(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="nope", messages=HELLO, stream=True)


async def test_14_common_extra_fields_of_clients_are_accepted(daemon: Daemon) -> None:
    response = await raw(
        daemon,
        store=True,
        metadata={"a": "b"},
        user="me",
        service_tier="auto",
        parallel_tool_calls=True,
        tools=[
            {"type": "custom", "custom": {"name": "shell"}},
            {"type": "web_search"},
            {"type": "namespace"},
        ],
    )
    assert response.status_code == 200


async def test_14_multiple_choices_are_returned_or_refused_but_never_ignored(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="echo", messages=HELLO, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="handbook", messages=HELLO, n=2)


async def test_models_are_listed_and_retrieved(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert {"echo", "default", "handbook", "fake-embedding"} <= set(names)
    for name in names:
        retrieved_model = await client.models.retrieve(name)
        assert (retrieved_model.object, retrieved_model.owned_by) == ("model", "portico")


async def test_completions_continue_a_prompt(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model="echo", prompt="once upon")
    assert answer.choices[0].text
    # OpenAI itself sends null as finish_reason until the end, which its own type forbids, so this client is
    # not strict.
    async with AsyncOpenAI(base_url=client.base_url, api_key="local") as lenient:
        stream = await lenient.completions.create(model="echo", prompt="once upon", stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"
