"""Anthropic's own client, in strict mode, against a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from pydantic import BaseModel
from tests.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "one two three"}]
PORT: Any = [{"role": "user", "content": "Which port does the Lighthouse daemon listen on?"}]
LOOK: Any = {
    "name": "look",
    "description": "Looks something up",
    "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(daemon: Daemon) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=daemon.url, api_key="local", max_retries=0, _strict_response_validation=True
    ) as opened_client:
        yield opened_client


@pytest.mark.conformance("Anthropic", "Messages", "anthropic")
async def test_the_sdk_creates_a_message(client: AsyncAnthropic) -> None:
    message = await client.messages.create(model="echo", max_tokens=9, messages=HELLO, system="Be brief.")
    [block] = message.content
    assert block.type == "text" and block.text == "one two three"
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 3)
    assert message._request_id is not None


async def test_max_tokens_and_stop_sequences_set_the_stop_reason(client: AsyncAnthropic) -> None:
    short = await client.messages.create(model="echo", max_tokens=2, messages=HELLO)
    assert short.stop_reason == "max_tokens"
    message = await client.messages.create(
        model="echo", max_tokens=9, messages=HELLO, stop_sequences=["three"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")


async def test_a_raw_stream_begins_and_ends_with_the_expected_events(client: AsyncAnthropic) -> None:
    stream = await client.messages.create(model="echo", max_tokens=9, messages=HELLO, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.conformance("Anthropic", "Messages: streams", "anthropic")
@pytest.mark.parametrize("model", ["echo", "handbook"])
async def test_the_stream_helper_assembles_the_final_message(client: AsyncAnthropic, model: str) -> None:
    async with client.messages.stream(model=model, max_tokens=200, messages=PORT) as stream:
        pieces = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert final.content[0].type == "text" and "".join(pieces) == final.content[0].text
    assert final.stop_reason == "end_turn" and final.usage.input_tokens > 0


@pytest.mark.conformance("Anthropic", "Messages: citations", "anthropic")
async def test_an_app_cites_its_passages(client: AsyncAnthropic) -> None:
    message = await client.messages.create(model="handbook", max_tokens=200, messages=PORT)
    [block] = message.content
    assert block.type == "text" and block.citations
    first = block.citations[0]
    assert first.type == "char_location" and "7419" in first.cited_text and first.document_title == "port.md"
    # The conversation is sent back as it arrived.
    again: Any = [*PORT, message.to_param(), *PORT]
    assert (await client.messages.create(model="handbook", max_tokens=200, messages=again)).content


@pytest.mark.conformance("Anthropic", "Messages: tools", "anthropic")
@pytest.mark.parametrize("streams", [False, True])
async def test_a_tool_is_called_and_answered(client: AsyncAnthropic, streams: bool) -> None:
    request_arguments: Any = {
        "model": "echo",
        "max_tokens": 50,
        "tools": [LOOK],
        "tool_choice": {"type": "tool", "name": "look"},
    }
    if streams:
        async with client.messages.stream(messages=HELLO, **request_arguments) as stream:
            message: Any = await stream.get_final_message()
    else:
        message = await client.messages.create(messages=HELLO, **request_arguments)
    assert message.stop_reason == "tool_use"
    [use] = message.content
    assert use.type == "tool_use" and use.name == "look" and use.input == {"x": "text"}
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "42"}
    turns: Any = [*HELLO, message.to_param(), {"role": "user", "content": [result]}]
    reply = await client.messages.create(model="echo", max_tokens=50, tools=[LOOK], messages=turns)
    assert reply.content[0].type == "text"


class Answer(BaseModel):
    """The schema that the model must answer with."""

    name: str
    number: int


@pytest.mark.conformance("Anthropic", "Messages: output formats", "anthropic")
async def test_an_answer_fits_its_schema(client: AsyncAnthropic) -> None:
    message = await client.messages.parse(model="echo", max_tokens=50, messages=HELLO, output_format=Answer)
    assert message.parsed_output == Answer(name="text", number=0)


@pytest.mark.conformance("Anthropic", "Token counting", "anthropic")
async def test_tokens_are_counted_with_the_system_prompt_and_the_tools(client: AsyncAnthropic) -> None:
    count = client.messages.count_tokens
    plain = (await count(model="echo", messages=HELLO)).input_tokens
    assert plain == 3
    ruled = (await count(model="echo", messages=HELLO, system="Be brief.")).input_tokens
    assert ruled == 5
    assert (await count(model="echo", messages=HELLO, tools=[LOOK])).input_tokens > plain
    text = {"type": "text", "text": "a" * 2_000_001}
    with pytest.raises(
        anthropic.BadRequestError, match="at most 4,000,000"
    ):  # their numbers would fill megabytes
        await count(model="echo", messages=[{"role": "user", "content": [text, text]}])


async def test_errors_raise_the_exceptions_of_the_sdk(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist") as missing:
        await client.messages.create(model="claude-nope", max_tokens=9, messages=HELLO)
    assert missing.value.request_id is not None
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        await client.messages.create(
            model="echo", max_tokens=9, messages=HELLO, extra_body={"temperature": 7}
        )
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="pk-wrong").messages.create(
            model="echo", max_tokens=9, messages=HELLO
        )
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve("batch_1")


@pytest.mark.conformance("Anthropic", "Models", "anthropic")
async def test_models_are_listed_and_retrieved(client: AsyncAnthropic) -> None:
    model_ids = [model.id async for model in client.models.list(limit=2)]
    assert {"echo", "default", "handbook"} <= set(model_ids)
    assert "fake-embedding" not in model_ids and len(model_ids) == len(set(model_ids))
    echo = await client.models.retrieve("echo")
    assert (echo.id, echo.display_name, echo.lifecycle) == ("echo", "echo", "active")
    page = await client.models.list(before_id=model_ids[-1], limit=1)
    assert [model.id for model in page.data] == model_ids[-2:-1] and page.has_more
    for name in ("nope", "fake-embedding"):
        with pytest.raises(anthropic.NotFoundError, match=name):
            await client.models.retrieve(name)
    with pytest.raises(anthropic.BadRequestError, match="after_id"):
        await client.models.list(after_id="nope")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"mcp_servers": [{"type": "url", "url": "https://example.org", "name": "docs"}]}, "mcp_servers[0]"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]}, "tools[0]"),
    ],
)
async def test_mcp_servers_are_refused_by_name(
    client: AsyncAnthropic, fields: dict[str, Any], place: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await client.beta.messages.create(model="echo", max_tokens=9, messages=HELLO, **fields)
    assert f"'{place}'" in caught.value.message and "'docs'" in caught.value.message
