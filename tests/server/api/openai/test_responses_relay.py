"""The model request for a response, the handling of the model's chunks, and a client that disconnects."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

WHOLE = (
    b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}'
)
USER = {"role": "user", "content": "hello"}
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
AS_CHAT = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


def put(daemon: ApiServer, teller: RelayModel) -> None:
    """Make this model answer the requests."""
    daemon.services.registry.add(teller, replace=True)


def frame(**delta: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


async def ask(daemon: ApiServer, **fields: Any) -> httpx.Response:
    return await daemon.client.post("/v1/responses", json={"model": "m", "input": "hello", **fields})


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"instructions": "Be brief."}, {"messages": [{"role": "system", "content": "Be brief."}, USER]}),
    (
        {"max_output_tokens": 9, "temperature": 0, "top_p": 0.5},
        {"max_tokens": 9, "temperature": 0, "top_p": 0.5},
    ),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
    ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
    ({"seed": 7, "stop": ["x"]}, {"seed": 7, "stop": ["x"]}),
    (
        {
            "user": "u",
            "metadata": {"a": "b"},
            "service_tier": "flex",
            "personality": "friendly",
            "prompt_cache_key": "k",
            "safety_identifier": "s",
        },
        {},
    ),
    ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    (
        {
            "text": {
                "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
            }
        },
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    ({"tools": [LOOK], "parallel_tool_calls": False}, {"tools": [AS_CHAT], "parallel_tool_calls": False}),
    ({"tools": [LOOK], "tool_choice": "required"}, {"tools": [AS_CHAT], "tool_choice": "required"}),
    ({"tools": [LOOK], "tool_choice": "none"}, {"tools": [AS_CHAT], "tool_choice": "none"}),
    (
        {"tools": [LOOK], "tool_choice": {"type": "function", "name": "look"}},
        {"tools": [AS_CHAT], "tool_choice": {"type": "function", "function": {"name": "look"}}},
    ),
    (
        {
            "tools": [LOOK, {**LOOK, "name": "other"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "look"}],
            },
        },
        {"tools": [AS_CHAT]},
    ),
    ({"tools": [{"type": "web_search"}]}, {}),
]


async def test_a_request_becomes_a_chat(daemon: ApiServer) -> None:
    for fields, expected_fields in CASES:
        teller = RelayModel("m", WHOLE)
        put(daemon, teller)
        answer = await ask(daemon, **fields)
        assert answer.status_code == 200, answer.text
        assert teller.asked[0].body == {"model": "m", "messages": [USER], **expected_fields}, fields


async def test_an_image_that_was_uploaded_is_shown_to_the_model(daemon: ApiServer) -> None:
    teller = RelayModel("m", WHOLE)
    put(daemon, teller)
    form = {"files": {"file": ("dot.png", b"\x89PNG")}, "data": {"purpose": "vision"}}
    file_id = (await daemon.client.post("/v1/files", **form)).json()["id"]  # type: ignore[arg-type]
    parts = [{"type": "input_text", "text": "look"}, {"type": "input_image", "file_id": file_id}]
    answer = await ask(daemon, input=[{"role": "user", "content": parts}])
    assert answer.status_code == 200, answer.text
    content = teller.asked[0].body["messages"][0]["content"]
    url: str = content[1]["image_url"]["url"]
    assert content[0] == {"type": "text", "text": "look"}
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == b"\x89PNG"
    items = (await daemon.client.get(f"/v1/responses/{answer.json()['id']}/input_items")).json()["data"]
    assert items[0]["content"][1]["file_id"] == file_id


async def test_reasoning_is_an_item_before_the_answer(daemon: ApiServer) -> None:
    put(
        daemon,
        RelayModel("m", frame(reasoning_content="hm "), frame(reasoning_content="so"), frame(content="ok")),
    )
    answer = await ask(daemon, stream=True)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    reasoning, message = events[-1]["response"]["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm so"}]
    assert message["content"][0]["text"] == "ok"
    items = [reasoning, message, {"role": "user", "content": "go on"}]
    assert (await ask(daemon, input=items, stream=True)).status_code == 200


async def test_an_input_of_ten_million_characters_is_accepted(daemon: ApiServer) -> None:
    teller = RelayModel("m", WHOLE)
    put(daemon, teller)
    answer = await ask(daemon, input="x" * 10_000_000)
    assert answer.status_code == 200
    assert len(teller.asked[0].body["messages"][0]["content"]) == 10_000_000


@pytest.mark.parametrize(
    "fields", [{"stream": True}, {"stream": False}, {"stream": True, "truncation": "auto"}]
)
async def test_a_client_disconnect_cancels_the_run_of_a_response(
    daemon: ApiServer, fields: dict[str, Any]
) -> None:
    teller = RelayModel("m", frame(content="one"), hold=asyncio.Event())
    put(daemon, teller)
    call = asyncio.create_task(ask(daemon, **fields))
    await teller.began.wait()
    call.cancel()
    async with asyncio.timeout(60):
        await teller.left.wait()
    newest = next(run for run in daemon.services.runner.list() if run.kind == "responses")
    assert newest.status == "cancelled"


async def test_a_response_leaves_a_usage_row(daemon: ApiServer) -> None:
    put(daemon, RelayModel("counted", WHOLE))
    await ask(daemon, model="counted")
    await daemon.services.runner.close()
    totals = (await daemon.client.get("/api/usage")).json()["data"]
    assert [(total["calls"], total["prompt_tokens"]) for total in totals if total["name"] == "counted"] == [
        (1, 3)
    ]
