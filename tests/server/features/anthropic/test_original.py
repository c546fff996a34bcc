"""Anthropic itself behind ``/v1/messages``: requests and answers are relayed unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel
from tests.server.features.anthropic.talk import HELLO, frames, refused
from tests.server.models.engines.remote.provider import Answer, Provider, serving
from tests.server.models.engines.remote.test_anthropic import MESSAGE, PING, START, end, event
from tests.server.models.engines.remote.test_anthropic import said as streamed

from portico_server.models.spec import ModelSpec

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("emptied")]

WHOLE = b'{"choices":[{"message":{"content":"Hi."},"finish_reason":"stop"}]}'
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
ODD = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        *HELLO,
        {"role": "assistant", "content": [THOUGHT, {"type": "novelty", "of": "next year"}]},
        *HELLO,
    ],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
    "tool_choice": {"type": "tool", "name": "web_search"},
    "context_management": {"edits": []},
}
BETA = {"anthropic-beta": "interleaved-thinking-2025-05-14", "anthropic-version": "2023-06-01"}


@asynccontextmanager
async def claude(served: ApiServer, *answers: Answer, **spec: Any) -> AsyncIterator[Provider]:
    """Serve the model ``claude`` of a provider that gives these answers."""
    async with serving(*answers) as provider:
        parameters = {"base_url": provider.url, "retries": 0, **spec.pop("parameters", {})}
        source = "remote://anthropic/claude-sonnet-4-5"
        await served.services.models.add(
            ModelSpec("claude", source, api_key="sk-a", parameters=parameters, **spec)
        )
        try:
            yield provider
        finally:
            await served.services.models.remove("claude")


async def tell(served: ApiServer, **fields: Any) -> httpx.Response:
    body = {"model": "claude", "max_tokens": 9, **ODD, **fields}
    return await served.client.post("/v1/messages", json=body, headers=BETA)


async def test_a_request_reaches_anthropic_as_it_was_written(served: ApiServer) -> None:
    answer = {**MESSAGE, "content": [THOUGHT, {"type": "novelty"}], "container": {"id": "c1"}}
    async with claude(served, Answer(answer)) as provider:
        response = await tell(served)
    assert response.json() == answer
    [provider_body] = provider.bodies
    assert provider_body == {"model": "claude-sonnet-4-5", "max_tokens": 9, **ODD}
    [headers] = provider.headers
    assert headers["anthropic-beta"] == BETA["anthropic-beta"] and headers["x-api-key"] == "sk-a"


async def test_a_stream_of_anthropic_is_passed_on_and_counted(served: ApiServer) -> None:
    stream_data = START + PING + streamed("Hello", "!") + end()
    async with claude(served, Answer(stream_data, headers={"Content-Type": "text/event-stream"})):
        response = await tell(served, stream=True)
    assert response.content == stream_data
    run = (await served.client.get("/api/runs")).json()["data"][0]
    assert (run["status"], run["usage"]["prompt_tokens"], run["usage"]["completion_tokens"]) == (
        "completed",
        25,
        15,
    )


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (
            START + event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
            "overloaded_error",
        ),
        (START + streamed("a"), "api_error"),
    ],
)
async def test_a_stream_of_anthropic_that_breaks_says_so(served: ApiServer, sent: bytes, kind: str) -> None:
    async with claude(served, Answer(sent, headers={"Content-Type": "text/event-stream"})):
        response = await tell(served, stream=True)
    stream_frames = frames(response.text)
    assert stream_frames[0]["type"] == "message_start" and stream_frames[-1]["error"]["type"] == kind
    assert [frame["type"] for frame in stream_frames].count("error") == 1


async def test_a_refusal_of_anthropic_keeps_its_type(served: ApiServer) -> None:
    failure = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with claude(served, Answer(failure, 529)):
        assert refused(await tell(served, stream=True)) == (529, "overloaded_error")


async def test_betas_of_the_configuration_and_of_the_caller_both_hold(served: ApiServer) -> None:
    parameters = {"headers": {"anthropic-beta": "context-1m"}}
    async with claude(served, Answer(MESSAGE), parameters=parameters) as provider:
        await tell(served)
    assert provider.headers[0]["anthropic-beta"] == f"context-1m,{BETA['anthropic-beta']}"


async def test_a_request_to_a_model_with_default_options_is_translated(served: ApiServer) -> None:
    async with claude(served, Answer(MESSAGE), defaults={"temperature": 0.5}) as provider:
        message = (await tell(served)).json()
    assert message["content"] == [{"type": "text", "text": "Hi! My name is Claude."}]
    assert message["usage"]["input_tokens"] == 2115 and message["usage"]["cache_read_input_tokens"] == 5
    assert provider.bodies[0]["temperature"] == 0.5 and "tools" not in provider.bodies[0]


async def test_a_request_to_a_fallback_model_is_translated(served: ApiServer) -> None:
    teller = RelayModel("m", WHOLE)
    served.add(teller)
    failure = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with claude(served, Answer(failure, 529), parameters={"fallback": "m"}):
        message = (await tell(served)).json()
    assert message["content"][0]["text"] == "Hi." and message["stop_reason"] == "end_turn"
